"""One label, or several, for a text, a series of numbers or a sound."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from elman.config import parse
from elman.data import Tokenizer, absolute, fingerprint
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile, is_file_argument, read_column_inputs
from elman.data.split import evenly_spaced, hold_out
from elman.errors import ElmanError
from elman.layers.words import WordVectors
from elman.media.labelled import Labelled, read_labelled
from elman.metrics.baselines import majority, tfidf
from elman.metrics.labels import label_scores
from elman.networks.classifier import SequenceLabeller, Standard
from elman.networks.sequence_to_sequence import drop_words
from elman.tasks.answers import Label, explained, inputs_of
from elman.tasks.classify.inputs import Examples, Inputs
from elman.tasks.classify.options import ClassifyConfig, Top, sensible
from elman.tasks.pretrained import begin_with_vectors, sized
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources
from elman.training.selection import Criterion
from elman.training.task import Task, build, evaluation

_log = logging.getLogger("elman")

#: Padded steps that are read at a time.
_STEPS = 1 << 14


class Batch(NamedTuple):
    """inputs (B, T) or (B, T, C), lengths (B,), labels (B, K)."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor


class Classify(Task):
    """p(label | input): ``model.predict(["What a film!"])[0][0].text``."""

    name = "classify"
    Config = ClassifyConfig
    Options = Top
    looks = True
    takes_folders = True
    selection = (Criterion("accuracy", higher_is_better=True), Criterion("objective"))

    config: ClassifyConfig
    network: SequenceLabeller

    def __init__(self, config: ClassifyConfig, inputs: Inputs, sources: Sources) -> None:
        self.config, self.inputs, self.sources = config, inputs, sources
        self.names, self.several = inputs.known.labels, inputs.known.several
        self.varies = config.augment and inputs.tokenizer is None
        self.weight = torch.ones(len(self.names))
        c, tokenizer = config, inputs.tokenizer

        def network() -> SequenceLabeller:
            source: Standard | WordVectors
            if tokenizer is None:
                source = Standard(inputs.size, c.missing == "mask")
                size = source.size
            else:
                source, size = WordVectors(tokenizer.vocab_size, c.embedding_size, inputs.known.tuned), c.embedding_size
            return SequenceLabeller(
                source, size, len(self.names), cell=c.cell, hidden_size=c.hidden_size, num_layers=c.num_layers,
                bidirectional=c.bidirectional, pooling=c.pooling, hierarchical=c.hierarchical, periods=c.periods,
                dropout=c.dropout or 0.0,
            )  # fmt: skip

        self.network = build(network)

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Examples, Examples]:
        assert isinstance(config, ClassifyConfig)
        train, held = _split(config, data, valid)
        return cls.learn(config, train, held, list(data), list(valid), run)

    @classmethod
    def learn(
        cls, config: ClassifyConfig, train: Labelled, held: Labelled, data: Sequence[str] = (),
        valid: Sequence[str] = (), run: Run | None = None,
    ) -> tuple[Self, Examples, Examples]:  # fmt: skip
        """As `prepare`, from examples that are there already."""
        if config.hierarchical and train.medium != "text":
            raise ElmanError("hierarchical: is for texts, which have sentences; for long series there is --periods")
        if config.vectors is not None and train.medium != "text":
            raise ElmanError("vectors: are for texts")
        _tell(train, config)
        config = sensible(sized(config, config.vectors), train)
        inputs = Inputs.of(config, train, run)
        sources = Sources(
            data=[absolute(path) for path in data], valid=[absolute(path) for path in valid],
            examples=len(train.inputs), units=sum(map(len, train.inputs)), fingerprint=_fingerprint(train, held),
        )  # fmt: skip
        torch.manual_seed(config.seed)
        task = cls(config, inputs, sources)
        examples = inputs.examples(train)
        task._begin(examples, run)
        validation = inputs.examples(held)
        if validation.unseen and not validation.labels[:, : len(task.names)].any():
            raise ElmanError(f"{held.places[0]}: no held-out example has a label that is learnt")
        return task, examples, validation

    @torch.no_grad()
    def _begin(self, examples: Examples, run: Run | None) -> None:
        """What the training data say of the network before it learns."""
        c, source = self.config, self.network.source
        if isinstance(source, Standard):
            source.learn(self.inputs.seen(x) for x in examples.rows)
        else:
            assert isinstance(source, WordVectors)
            assert self.inputs.tokenizer is not None
            begin_with_vectors(self, run, (c.vectors, source, self.inputs.tokenizer))
        if c.class_weights == "balanced":
            counts = torch.from_numpy(examples.labels.sum(0)).float()
            self.weight = counts.sum() / (len(counts) * counts)

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, ClassifyConfig)
        return cls(config, Inputs.load(config, run), sources)

    def files(self) -> dict[str, str]:
        return self.inputs.files()

    def batches(self, data: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in data.rows]

        def collate(rows: np.ndarray, k: int) -> Batch:
            chosen = [data.rows[row] for row in rows]
            if self.varies:
                draw = np.random.default_rng([c.seed, k, rank])
                deviation = self.network.source.deviation.cpu().numpy()  # type: ignore[operator, union-attr]
                chosen = [self.inputs.varied(x, deviation, draw) for x in chosen]
            return Batch(*self.inputs.batch(chosen), torch.from_numpy(data.labels[rows]).float())

        return BucketBatches(Buckets(lengths, _STEPS, c.seed, rank, world, c.batch_size), collate)

    def size(self, batch: Batch) -> int:
        return len(batch.inputs)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """The mean of -log p(label), of each label by itself where an example can have several; in nats."""
        inputs, labels = batch.inputs.to(self.device), batch.labels.to(self.device)
        if self.inputs.tokenizer is not None and self.config.word_dropout:
            inputs = drop_words(inputs, self.config.word_dropout, Tokenizer.unknown_id)
        logits, _ = self._logits(inputs, batch.lengths)
        return self._nats(logits.float(), labels, self.config.label_smoothing, self.weight.to(self.device)), None

    def _nats(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0, weight: Tensor | None = None) -> Tensor:
        if self.several:
            return binary_cross_entropy_with_logits(logits, labels * (1 - smoothing) + smoothing / 2, weight)
        return cross_entropy(logits, labels.argmax(1), weight, label_smoothing=smoothing)

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.several else logits.softmax(-1)

    def _logits(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        begins = self.inputs.begins(inputs) if self.config.hierarchical else None
        return self.network(self.network.source(inputs), lengths.to(inputs.device), begins)

    def scan(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
        """Logits (N, K) of the labels; for each row how much each of its steps had to do with them, (T,)."""
        lengths = np.array([len(row) for row in rows])
        logits = torch.zeros(len(rows), len(self.names))
        weights: list[Tensor] = [torch.zeros(0)] * len(rows)
        with evaluation(self.network), torch.inference_mode():
            for chosen in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _STEPS):
                inputs, n = self.inputs.batch([rows[k] for k in chosen])
                found, looked = self._logits(inputs.to(self.device), n)
                logits[torch.from_numpy(chosen)] = found.float().cpu()
                for k, one, length in zip(chosen, looked.cpu(), n.tolist(), strict=True):
                    weights[k] = one[:length]
        return logits, weights

    @property
    def validation_size(self) -> int:
        return 1000

    def evaluate(self, data: Examples, limit: int | None = None) -> dict[str, Any]:
        """loss: mean nats; accuracy, macro_f1. With a limit: objective, the loss with label smoothing.

        Without one: also each label's scores, and which are confused. An example whose label the model never saw
        counts as an error, and not in the loss, which is None where there is no other; unseen_labels: how many these
        are. Where an example can have several labels, the loss is that of the labels that the model knows.
        """
        chosen = evenly_spaced(np.ones(len(data.rows)), limit)
        labels = data.labels[chosen]
        logits, _ = self.scan([data.rows[k] for k in chosen])
        K, U = len(self.names), len(data.unseen)
        said = (logits > 0).numpy().astype(np.int8)
        if not self.several:
            said = np.eye(K, dtype=np.int8)[logits.argmax(1).numpy()]
        scores = label_scores(labels, np.pad(said, ((0, 0), (0, U))), [*self.names, *data.unseen])
        unseen = labels[:, K:].any(1)
        known = np.full(len(labels), True) if self.several else ~unseen
        logits, truth = logits[torch.from_numpy(known)], torch.from_numpy(labels[known, :K]).float()
        metrics = {"loss": self._nats(logits, truth).item() if known.any() else None}
        metrics |= {k: scores[k] for k in ("accuracy", "macro_f1")}
        if limit is not None:
            if known.any():
                metrics["objective"] = self._nats(logits, truth, self.config.label_smoothing).item()
            return {name: value for name, value in metrics.items() if value is not None}
        return metrics | {"examples": len(labels), "unseen_labels": int(unseen.sum())} | scores

    def predict(self, inputs: Any, **options: Any) -> list[list[Label]]:
        """The labels of each input, the most probable first; ``options``: those of `Top`.

        inputs: texts, also a Series or a DataFrame with the column of texts; for series paths of files, data frames,
            or arrays (T, C); for sounds paths, or waves (N,) at the model's own rate.
        A text or a path is one input; a file with several series has an answer for each, in their order.

        Raises:
            ElmanError: an input is empty or not of the model's kind, or an option is wrong.
        """
        top = parse(Top, options).top
        given = inputs_of(inputs, self.inputs.tokenizer is not None, self.config.text)
        rows = self.inputs.read(given)
        given = rows if self.inputs.tokenizer is None else given  # a file can hold several
        logits, weights = self.scan(rows)
        probabilities = self._probabilities(logits)
        order = probabilities.argsort(1, descending=True)[:, :top].tolist()
        answers = []
        for x, best, p, looked in zip(given, order, probabilities.tolist(), weights, strict=True):
            every = dict(zip(self.names, p, strict=True))
            pieces = functools.partial(self.inputs.pieces, x)
            if self.several:
                said = [name for name in every if every[name] > 0.5]
                sure = float(np.prod([max(x, 1 - x) for x in p]))  # of exactly these labels
                answers.append([Label((self.config.label_separator or ", ").join(said), sure, every, looked, pieces)])
            else:
                answers.append([Label(self.names[j], p[j], every, looked, pieces) for j in best])
        return answers

    @property
    def reads_text(self) -> bool:
        """Whether its inputs are texts, not paths."""
        return self.inputs.tokenizer is not None

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        """The texts or series in a file, where the argument names one; ``column``: of a table of texts, to read."""
        if not self.reads_text:
            if column is not None:
                raise ElmanError("--column: is for texts; a table of series is read as in training")
            return self.inputs.in_file(argument)
        if not is_file_argument(argument):
            return None
        whole = any(os.path.isdir(path) for path in self.sources.data)  # it learnt from files, not from lines
        return read_column_inputs(argument, column or self.config.text, whole)

    def explain(self, text: str) -> tuple[list[str], Tensor]:
        """The pieces of a text and how much each speaks for the label that is given: gradient times input."""
        if self.inputs.tokenizer is None:
            raise ElmanError("gradient times input is shown for texts")
        ids = torch.from_numpy(self.inputs.read(inputs_of(text, True))[0])[None].to(self.device)
        begins = self.inputs.begins(ids) if self.config.hierarchical else None
        lengths = torch.tensor([ids.shape[1]], device=self.device)
        with evaluation(self.network):
            weights = explained(self.network.source(ids), lambda x: self.network(x, lengths, begins)[0].amax())
        return self.inputs.pieces(text), weights

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        rows = self.inputs.read(inputs_of(given, self.inputs.tokenizer is not None))
        if len(rows) != 1:
            raise ElmanError(f"{given}: holds {len(rows)} series; one is looked at")
        x, n = self.inputs.batch(rows)
        logits, _ = self._logits(x.to(self.device), n)
        return self.inputs.pieces(given), -logits.float().log_softmax(-1).amax()

    def read(self, data: Sequence[str]) -> Examples:
        return self.inputs.examples(read_labelled(data, self.inputs.columns))

    def held_out(self) -> Examples:
        train, held = _split(self.config, self.sources.data, self.sources.valid)
        self.unchanged(_fingerprint(train, held))
        return self.inputs.examples(held)

    def baselines(self, data: Examples) -> dict[str, float]:
        """The accuracy of the most frequent label and, for texts, of TF-IDF with logistic regression."""
        if self.several:
            raise ElmanError("--baseline: is for one label each")
        train, _ = _split(self.config, self.sources.data, self.sources.valid)
        names = [*self.names, *data.unseen]
        labels, truth = [label for (label,) in train.labels], [names[k] for k in data.labels.argmax(1)]
        scores = {"baseline_majority": majority(labels, truth)}
        found = tfidf(train.inputs, labels, data.texts, truth) if data.texts else None
        return scores if found is None else scores | {"baseline_tfidf": found}

    def summary(self) -> dict[str, str]:
        c, known = self.config, self.inputs.known
        what = {"text": f"texts ({c.tokens})", "sound": "sounds", "series": f"series of {len(known.channels)} channels"}
        files = ", ".join(os.path.basename(path) for path in self.sources.data) or "data"
        return {
            "data": f"{files}: {self.sources.examples:,} {what[known.medium]}, {len(known.labels)} labels",
            "model": f"{c.cell}, {len(c.periods or []) or c.num_layers} x {c.hidden_size} units"
            f"{', hierarchical' * c.hierarchical}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']


def _split(config: ClassifyConfig, data: Sequence[str], valid: Sequence[str]) -> tuple[Labelled, Labelled]:
    """The examples to train on and those held out: the files of ``valid``, or a share of each label or group."""
    columns = config.columns()
    found = read_labelled(data, columns)
    if valid:
        known = columns.reading if found.reading.left_out is None else found.reading
        return found, read_labelled(valid, columns._replace(reading=known))
    train, held = hold_out(len(found.inputs), config.valid_fraction, found.labels, found.groups)
    if not held or not train:
        raise ElmanError(f"{', '.join(data)}: too few examples to hold some out; give more, or --valid files")
    return found.part(train), found.part(held)


def _tell(data: Labelled, config: ClassifyConfig) -> None:
    """Logs what of the data is not read, and what was assumed of them."""
    if data.reasons and config.channels is None:
        shown = ", ".join(f"{name} ({why})" for name, why in data.reasons.items())
        _log.warning("left out, as no channels: %s; the channels are %s", shown, ", ".join(data.channels))
    if data.reading.date_order is not None:
        _log.warning("%s: dates are read with the %s first", config.time, data.reading.date_order)
    if data.reading.wide and config.wide is None:
        _log.warning("each row is a series of %s (--no-wide: it is not)", "; ".join(data.channels))


def _fingerprint(*parts: Labelled) -> str:
    def text(x: Any) -> str:
        return x if isinstance(x, str) else hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()

    texts = [t for part in parts for x, label in zip(part.inputs, part.labels, strict=True) for t in (text(x), *label)]
    return fingerprint([*texts, str(len(parts[0].inputs))])
