"""A scikit-learn estimator: the classifier with ``fit``, ``predict``, ``predict_proba`` and ``score``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError:
    raise ImportError("elman.SequenceClassifier needs scikit-learn: pip install 'elman[sklearn]'") from None

from elman.api import random_state
from elman.config import check_applicable, parse
from elman.data.series import check_series
from elman.data.split import hold_out
from elman.errors import ElmanError
from elman.media.labelled import Labelled
from elman.media.series import SeriesForm
from elman.tasks.classify.model import Classifier
from elman.tasks.classify.options import ClassifyConfig
from elman.tasks.classify.task import Classify
from elman.training.distributed import World, pick_device
from elman.training.trainer import Trainer

#: Parameters whose default is not None; they always have an effect.
_DEFAULTS = {"cell", "hidden_size", "num_layers", "bidirectional", "pooling", "device", "seed"}


class SequenceClassifier(ClassifierMixin, BaseEstimator):
    """Recurrent classifier of texts and of series of unequal length.

    The model of ``elman train classify``. Parameters that are None have the default of that command, which may depend
    on the data.

    Parameters
    ----------
    steps : int, default=None
        Number of optimizer steps.

    minutes : float, default=None
        Duration of training in minutes. Where ``steps`` is None too, it depends on the size of the data.

    cell : str, default="gru"
        Name of a recurrent cell; see `elman.cells.CELLS`.

    hidden_size : int, default=128
        Number of units of a layer, in each direction.

    num_layers : int, default=1
        Number of recurrent layers.

    bidirectional : bool, default=True
        Whether the input is read in both directions.

    pooling : {"last", "max", "mean", "attention"} or a registered name, default="max"
        Pooling over time.

    dropout : float, default=None
        Dropout of inputs, between layers and of the pooled vector; 0.5 if None.

    tokens : {"word", "char", "bpe"}, default=None
        Tokens of texts; if None, characters where texts have one or two words, else words.

    lowercase : bool, default=None
        Whether texts are converted to lower case; if None, unless tokens are characters.

    vocab_size : int, default=None
        Maximum size of the vocabulary of word and bpe tokens; 20,000 if None.

    vectors : str, default=None
        File with pretrained embeddings: GloVe, word2vec or fastText.

    embedding_size : int, default=None
        Size of an embedding; if None, 128 or that of ``vectors``.

    learning_rate : float, default=None
        Peak learning rate; 0.002 if None.

    batch_size : int, default=None
        Number of sequences per step; 32 if None.

    class_weights : {"equal", "balanced"}, default=None
        Weights of the labels in the loss; "equal" if None.

    valid_fraction : float, default=None
        Fraction of the examples that is held out for validation; 0.1 if None.

    missing : {"refuse", "interpolate", "zero", "mask"}, default=None
        What to do with missing values of series; "refuse" if None.

    device : str, default="auto"
        Device: "cpu", "cuda", ...; "auto" uses cuda if available.

    seed : int, default=0
        Seed of the initial weights, of dropout and of the order of the data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.

    model_ : elman.tasks.classify.model.Classifier
        The trained model.

    n_features_in_ : int
        The number of channels of series, or of columns of an array (N, T). Not defined for texts.

    Examples
    --------
    >>> from elman import SequenceClassifier
    >>> texts, labels = ["good film", "bad film"] * 20, ["+", "-"] * 20
    >>> SequenceClassifier(steps=50).fit(texts, labels).predict(["a good film"])  # doctest: +SKIP
    array(['+'], dtype='<U1')
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        cell: str = "gru",
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "max",
        dropout: float | None = None,
        tokens: str | None = None,
        lowercase: bool | None = None,
        vocab_size: int | None = None,
        vectors: str | None = None,
        embedding_size: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        class_weights: str | None = None,
        valid_fraction: float | None = None,
        missing: str | None = None,
        device: str = "auto",
        seed: int = 0,
    ) -> None:
        self.steps = steps
        self.minutes = minutes
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.tokens = tokens
        self.lowercase = lowercase
        self.vocab_size = vocab_size
        self.vectors = vectors
        self.embedding_size = embedding_size
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.class_weights = class_weights
        self.valid_fraction = valid_fraction
        self.missing = missing
        self.device = device
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the model to inputs and labels.

        Parameters
        ----------
        X : list or array
            A list or array of texts; a list of arrays (T, C) or (T,); an array (N, T, C); or an array (N, T), which is
            N series of one channel.

        y : array-like of shape (n_samples,)
            The labels.

        Returns
        -------
        self : SequenceClassifier
            The fitted estimator.

        Raises
        ------
        ElmanError
            A ValueError: X and y have different lengths, an input cannot be used, or an option is wrong.
        TypeError
            An input holds an object that is not a number.
        """
        X = _plain(X)
        medium, inputs = self._inputs(X)
        if y is None:
            raise ElmanError("requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != len(inputs):
            raise ElmanError(f"X has {len(inputs)} inputs and y {len(labels)} labels: inconsistent numbers of samples")
        if len(inputs) < 2:
            raise ElmanError(f"{len(inputs)} sample; two are needed, of different labels")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ElmanError(f"y has one class, {self.classes_[0]!r}; two are needed")
        if medium == "series":
            self._table, self.n_features_in_ = _features(X, inputs)
            self._channels = inputs[0].shape[1]
        given = {key: value for key, value in self.get_params().items() if value is not None}
        options = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
        task = Classify(parse(ClassifyConfig, options))
        names: list[tuple[str, ...]] = [(f"{number:09}",) for number in numbers.tolist()]
        places = [f"X[{k}]" for k in range(len(inputs))]
        form = SeriesForm([str(k) for k in range(1, inputs[0].shape[1] + 1)]) if medium == "series" else None
        data = Labelled(medium, inputs, names, [""] * len(inputs), places, form)
        check_applicable(task.config, given.keys() - _DEFAULTS, {"out": False, **task.facts(data)})
        train, held = hold_out(len(names), task.config.valid_fraction, names)
        if not held or len({names[k] for k in train}) < len(self.classes_):
            train = held = list(range(len(names)))  # too few to hold some out
        device = pick_device(task.config.device)
        with random_state(device):
            model, examples, validation = task.prepared(data.part(train), data.part(held))
            Trainer(model, examples, validation, None, World(device), []).train()
        assert isinstance(model, Classifier)
        self.model_ = model
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each label.

        Parameters
        ----------
        X : list or array
            Inputs, as for `fit`.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            The probabilities, in the order of ``classes_``.
        """
        check_is_fitted(self, "model_")
        X = _plain(X)
        medium, inputs = self._inputs(X)
        if medium != self.model_.medium.name:
            raise ElmanError(f"X holds {medium}; the model was trained on {self.model_.medium.name}")
        if medium == "series":
            table, features = _features(X, inputs)
            wanted = self.n_features_in_ if table and self._table else self._channels
            if (features if table and self._table else inputs[0].shape[1]) != wanted:
                raise ElmanError(
                    f"X has {features} features, but {type(self).__name__} is expecting {wanted} features as input"
                )
        return np.array([list(best.probabilities.values()) for (best,) in self.model_.predict(inputs)])

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable label.

        Parameters
        ----------
        X : list or array
            Inputs, as for `fit`.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The labels.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def _inputs(self, X: Any) -> tuple[str, list]:
        """What X holds, and its inputs one by one."""
        items = X.tolist() if isinstance(X, np.ndarray) and X.dtype.kind == "O" else X
        if isinstance(items, str) or not hasattr(items, "__len__") or getattr(items, "ndim", 1) == 0:
            raise ElmanError("X must be a list of texts or of arrays; Reshape your data: this is one input")
        if not len(items):
            raise ElmanError("X is empty: 0 sample(s)")
        if all(isinstance(x, str) for x in items):
            for k, x in enumerate(items):
                if not x.strip():
                    raise ElmanError(f"X[{k}]: an empty text")
            return "text", [str(x) for x in items]
        found: list[np.ndarray] = []
        for k, x in enumerate(items):
            try:
                values = np.asarray(x)
                if not np.iscomplexobj(values):
                    values = values.astype(np.float64)
            except (TypeError, ValueError, OverflowError) as error:
                kind = TypeError if isinstance(error, TypeError) else ElmanError
                raise kind(f"X[{k}]: not a series of numbers: {error}") from None
            if np.iscomplexobj(values):
                raise ElmanError(f"X[{k}]: Complex data not supported")
            if values.ndim == 0:
                raise ElmanError("X is one series; Reshape your data: a list of series is needed")
            values = values[:, None] if values.ndim == 1 else values
            if values.ndim != 2 or not values.shape[1]:
                raise ElmanError(f"X[{k}]: of shape {values.shape}; a series is (T, C)")
            if not len(values):
                raise ElmanError(
                    f"X[{k}]: 0 feature(s) (shape={getattr(X, 'shape', len(found))}) while a minimum of 1 is required."
                )
            try:
                check_series(values, f"X[{k}]", [], self.missing not in (None, "refuse"))
            except ElmanError as error:
                raise ElmanError(f"{error}: NaN and inf are not supported") from None
            found.append(values)
        if len({x.shape[1] for x in found}) > 1:
            raise ElmanError("the series of X have different numbers of channels")
        return "series", found


def _plain(X: Any) -> Any:
    """X as a list or an array, where it is a data frame, a tensor or whatever else can be made an array."""
    if hasattr(X, "toarray"):
        raise ElmanError("sparse input is not supported: series are dense")
    return np.asarray(X) if hasattr(X, "__array__") else X


def _features(X: Any, inputs: list[np.ndarray]) -> tuple[bool, int]:
    """Whether X is a table (N, T) of N series; and what must not change after fit: its T, else the channels."""
    flat = all(isinstance(x, (list, tuple)) and np.ndim(x[0]) == 0 for x in X) and len({len(x) for x in X}) == 1
    table = getattr(X, "ndim", 0) == 2 or (isinstance(X, (list, tuple)) and flat)
    return table, len(inputs[0]) if table else inputs[0].shape[1]
