"""scikit-learn's words for the classifier: ``fit``, ``predict``, ``predict_proba``, ``score``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError:
    raise ImportError("elman.SequenceClassifier needs scikit-learn: pip install 'elman[sklearn]'") from None

from elman.config import parse
from elman.data.series import check_series
from elman.data.split import hold_out
from elman.errors import ElmanError
from elman.media.labelled import Labelled
from elman.tasks.classify.model import Classify
from elman.tasks.classify.options import ClassifyConfig
from elman.training.distributed import World, pick_device
from elman.training.trainer import Trainer


class SequenceClassifier(ClassifierMixin, BaseEstimator):
    """The model of ``elman train classify``, for texts and series of unequal length in scikit-learn.

    ::

        SequenceClassifier(minutes=1).fit(texts, labels).predict(["..."])
        cross_val_score(SequenceClassifier(steps=300), series, labels)     # series: a list of (T, C) arrays

    X: a list (or array) of texts, a list of arrays (T, C) or (T,), an array (N, T, C), or one (N, T), which is N series
    of one channel.

    Arguments:
        steps, minutes: of training; by default by the data.
        cell, hidden_size, num_layers, bidirectional, pooling, dropout, tokens, lowercase, vocab_size, vectors,
            embedding_size, learning_rate, batch_size, class_weights, valid_fraction, missing, device, seed: as
            ``elman train classify`` has them (None: its own default).

    Attributes:
        classes_: the labels. model_: the `Classify` task. n_features_in_: the channels of series, or T of an (N, T) X.
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
        """Learns from inputs X and their labels y.

        Raises:
            ElmanError (a ValueError): X and y do not go together, an input cannot be used, or an option is wrong.
            TypeError: an input holds an object that is no number, such as a dict.
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
        given = {key: value for key, value in self.get_params().items() if value is not None}
        options = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
        config = parse(ClassifyConfig, options)
        names = [(f"{number:09}",) for number in numbers.tolist()]
        channels = [str(k) for k in range(1, inputs[0].shape[1] + 1)] if medium == "series" else []
        places = [f"X[{k}]" for k in range(len(inputs))]
        data = Labelled(medium, inputs, names, [""] * len(inputs), places, channels, 0)  # type: ignore[arg-type]
        train, held = hold_out(len(names), config.valid_fraction, names)
        if not held or len({names[k] for k in train}) < len(self.classes_):
            train = held = list(range(len(names)))  # too few to hold some out
        with torch.random.fork_rng():
            task, examples, validation = Classify.learn(config, data.part(train), data.part(held))
            Trainer(task, examples, validation, None, World(pick_device(config.device)), []).train()
        self.model_ = task
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(label) for each input, (N, K), in the order of ``classes_``."""
        check_is_fitted(self, "model_")
        X = _plain(X)
        medium, inputs = self._inputs(X)
        if medium != self.model_.inputs.known.medium:
            raise ElmanError(f"X holds {medium}; the model has learnt from {self.model_.inputs.known.medium}")
        if medium == "series":
            table, features = _features(X, inputs)
            wanted = self.n_features_in_ if table and self._table else len(self.model_.inputs.known.channels)
            if (features if table and self._table else inputs[0].shape[1]) != wanted:
                raise ElmanError(
                    f"X has {features} features, but {type(self).__name__} is expecting {wanted} features as input"
                )
        return np.array([list(best.probabilities.values()) for (best,) in self.model_.predict(inputs)])

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each input, (N,)."""
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
