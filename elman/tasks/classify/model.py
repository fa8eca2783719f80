"""A classifier: one label, or several, for each input."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from elman.config import parse
from elman.data.buckets import BucketBatches, Buckets, split_into_batches
from elman.data.inputs import InputFile
from elman.data.labels import label_key, split_labels
from elman.data.split import evenly_spaced
from elman.errors import ElmanError
from elman.layers.naming import Named, named_inputs, named_rows
from elman.media import Medium
from elman.media.image import Image
from elman.metrics.baselines import majority, tfidf
from elman.metrics.labels import accuracy, label_scores, macro_f1
from elman.networks.classifier import SequenceLabeller
from elman.networks.saliency import gradient_times_input
from elman.tasks.abilities import Attends, Compares, Describes, Explains, HasBaselines
from elman.tasks.answers import Answer, Attention, Axis, log_of
from elman.tasks.classify.examples import Examples, Labels
from elman.tasks.classify.options import ClassifyConfig, Top
from elman.tasks.inputs import inputs_of, pictures_of
from elman.training.model import Model, evaluation
from elman.training.recipe import Recipe, file_names
from elman.training.run import Sources
from elman.training.selection import Criterion

#: Padded steps that are read at a time.
_STEPS = 1 << 14


class Batch(NamedTuple):
    """inputs (B, T) or (B, T, C), lengths (B,), labels (B, K)."""

    inputs: Tensor
    lengths: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Label(Answer):
    """A label of an input.

    Attributes:
        text (str): the label; of several labels, all of them, or "" for none.
        probability (float): its probability.
        probabilities (dict): the probability of every label.
        weights (Tensor): (T,), the pooling weight of each position of the input.
        medium (Medium), input: what was read.
    """

    empty_means: ClassVar[str] = "no label"

    text: str
    probability: float
    probabilities: dict[str, float]
    weights: Tensor
    medium: Medium
    input: Any

    @property
    def score(self) -> float:  # type: ignore[override]
        """The probability."""
        return self.probability

    @property
    def log_probability(self) -> float:  # type: ignore[override]
        return log_of(self.probability)

    @property
    def output(self) -> str:
        return self.text

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> Attention:
        pieces = tuple(self.medium.pieces(self.input))
        medium, shape = self.medium, self.medium.grid
        source = Axis(medium.positions, shape or (len(self.weights),), pieces, self.input if shape else None)
        return Attention(self.weights[None], source, Axis.of_words([self.text]))

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "probability": self.probability, "probabilities": self.probabilities}


class Classifier(Model, Attends, Compares, Explains, Describes, HasBaselines):
    """p(label | input): ``model.predict(["What a film!"])[0][0].text``."""

    selection = (Criterion("accuracy", higher_is_better=True), Criterion("objective"))
    Options = Top
    writes = "labels"

    config: ClassifyConfig
    network: SequenceLabeller
    learnt: Labels

    def __init__(self, task: Recipe, learnt: Labels, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.medium, self.names, self.several = learnt.medium, learnt.names, learnt.several
        self.reads_paths = self.medium.positions != "words"
        self.reads_pictures = self.medium.positions == "grid"
        self.weight = torch.ones(len(self.names))

    @property
    def reads(self) -> str:
        return self.medium.kind

    def make_network(self) -> SequenceLabeller:
        c: ClassifyConfig = self.task.config
        source, size = self.learnt.medium.source()
        return SequenceLabeller(
            source, size, len(self.learnt.names), cell=c.cell, hidden_size=c.hidden_size, num_layers=c.num_layers,
            bidirectional=c.bidirectional, pooling=c.pooling, hierarchical=c.hierarchical, periods=c.periods,
            dropout=c.dropout or 0.0,
        )  # fmt: skip

    def begin(self, examples: Examples, resumed: bool) -> None:
        if not resumed:
            self.sources.vectors = self.medium.begin(self.network.source, examples.rows)
        if self.config.class_weights == "balanced":
            counts = torch.from_numpy(examples.labels.sum(0)).float()
            self.weight = counts.sum() / (len(counts) * counts)

    def named(self) -> list[Named]:
        network = self.network
        return [
            *self.medium.named(network.source),
            *named_inputs(self.medium.feature_names, network.encoder),
            *named_rows(self.names, network.head.weight, network.head.bias),
        ]

    def batches(self, examples: Examples, rank: int, world: int) -> BucketBatches:
        c, lengths = self.config, [len(row) for row in examples.rows]

        def collate(rows: np.ndarray, k: int) -> Batch:
            chosen = [examples.rows[row] for row in rows]
            if c.augment:
                chosen = self.medium.vary(chosen, self.network.source, np.random.default_rng([c.seed, k, rank]))
            return Batch(*self.medium.batch(chosen), torch.from_numpy(examples.labels[rows]).float())

        return BucketBatches(Buckets(lengths, _STEPS, c.seed, rank, world, c.batch_size), collate)

    def size(self, batch: Batch) -> int:
        return len(batch.inputs)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p(label), of each label by itself where an input can have several; in nats."""
        inputs, labels = batch.inputs.to(self.device), batch.labels.to(self.device)
        logits, _ = self._logits(self.medium.hide(inputs), batch.lengths)
        return self._nats(logits.float(), labels, self.config.label_smoothing, self.weight.to(self.device)), None

    def _nats(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0, weight: Tensor | None = None) -> Tensor:
        if self.several:
            return binary_cross_entropy_with_logits(logits, labels * (1 - smoothing) + smoothing / 2, weight)
        return cross_entropy(logits, labels.argmax(1), weight, label_smoothing=smoothing)

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.several else logits.softmax(-1)

    def _logits(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        boundaries = self.medium.boundaries(inputs)
        return self.network(self.network.source(inputs), lengths.to(inputs.device), boundaries)

    def scan(self, rows: Sequence[np.ndarray]) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (N, K) of rows, and of each the pooling weights of its steps, (T,)."""
        lengths = np.array([len(row) for row in rows])
        logits = torch.zeros(len(rows), len(self.names))
        weights: list[Tensor] = [torch.zeros(0)] * len(rows)
        with evaluation(self.network), torch.inference_mode():
            for chosen in split_into_batches(np.argsort(lengths, kind="stable"), lengths, _STEPS):
                inputs, n = self.medium.batch([rows[k] for k in chosen])
                found, pooling = self._logits(inputs.to(self.device), n)
                logits[torch.from_numpy(chosen)] = found.float().cpu()
                for k, row, length in zip(chosen, pooling.cpu(), n.tolist(), strict=True):
                    weights[k] = row[:length]
        return logits, weights

    @property
    def validation_size(self) -> int:
        return 1000

    def evaluate(self, examples: Examples, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats), accuracy and macro_f1; with a limit also objective, the loss with label smoothing.

        Without a limit, also the scores of each label, and the confusion matrix. An example whose label the model has
        never seen counts as an error, but not in the loss, which is None where all are such; unseen_labels is their
        number. Where an example can have several labels, the loss is that of the known labels.
        """
        if not isinstance(examples, Examples):
            examples = self.read(examples)
        chosen = evenly_spaced(np.ones(len(examples.rows)), limit)
        labels = examples.labels[chosen]
        logits, _ = self.scan([examples.rows[k] for k in chosen])
        K, U = len(self.names), len(examples.unseen)
        predicted = (logits > 0).numpy().astype(np.int8)
        if not self.several:
            predicted = np.eye(K, dtype=np.int8)[logits.argmax(1).numpy()]
        scores = label_scores(labels, np.pad(predicted, ((0, 0), (0, U))), [*self.names, *examples.unseen])
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
        """Return the labels of each input, the most probable first.

        Args:
            inputs: texts, also a Series or a DataFrame with the column of texts; for series paths of files, data
                frames, or arrays (T, C); for sounds paths, or waves (N,) at the model's own rate; for pictures paths,
                PIL images, arrays (H, W, 3), or a Series or DataFrame with the column of these. A text or a path is
                one input; a file with several series has an answer for each, in their order.
            options: those of `Top`.

        Raises:
            ElmanError: an input is empty or not of the model's medium, or an option is wrong.
        """
        top = parse(Top, options).top
        table = pictures_of(inputs, self.config.file) if self.reads_pictures else None
        given = table[0] if table is not None else inputs_of(inputs, not self.reads_paths, self.config.text)
        rows = self.medium.read(given)
        given = given if len(rows) == len(given) else rows  # a file can hold several
        logits, weights = self.scan(rows)
        probabilities = self._probabilities(logits)
        order = probabilities.argsort(1, descending=True)[:, :top].tolist()
        answers = []
        for x, best, p, pooling in zip(given, order, probabilities.tolist(), weights, strict=True):
            every = dict(zip(self.names, p, strict=True))
            if self.several:
                predicted = [name for name in every if every[name] > 0.5]
                exactly = float(np.prod([max(x, 1 - x) for x in p]))  # the probability of exactly these labels
                text = (self.config.label_separator or ", ").join(predicted)
                answers.append([Label(text, exactly, every, pooling, self.medium, x)])
            else:
                answers.append([Label(self.names[j], p[j], every, pooling, self.medium, x) for j in best])
        return answers

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return accuracy and macro_f1."""
        separator = (self.config.label_separator or ", ") if self.several else None
        texts = [a.text for a in answers], references
        said, true = ([{*map(label_key, labels)} for labels in split_labels(side, separator)] for side in texts)
        names = sorted(set().union(*said, *true))
        truth, predicted = (np.array([[name in one for name in names] for one in side], int) for side in (true, said))
        return {"accuracy": accuracy(truth, predicted), "macro_f1": macro_f1(truth, predicted)}

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        whole = any(os.path.isdir(path) for path in self.sources.data)  # it was trained on files, not on lines
        return self.medium.in_file(argument, column, self.reader.config.columns(), whole)

    def explain(self, text: str) -> tuple[list[str], Tensor]:
        """Return the pieces of a text, and the gradient of the best label's logit times the input, for each."""
        if self.reads_paths:
            raise ElmanError(f"gradient times input is shown for texts; the model reads {self.medium.plural}")
        x, lengths = self.medium.batch(self.medium.read(inputs_of(text, True)))
        x, lengths = x.to(self.device), lengths.to(self.device)
        boundaries = self.medium.boundaries(x)
        with evaluation(self.network):
            vectors = self.network.source(x)
            weights = gradient_times_input(vectors, lambda v: self.network(v, lengths, boundaries)[0].amax())
        return self.medium.pieces(text), weights

    def describe(self, given: Any) -> str:
        return self.medium.describe_input(given) if isinstance(self.medium, Image) else ""

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        rows = self.medium.read(inputs_of(given, not self.reads_paths))
        if len(rows) != 1:
            raise ElmanError(f"{given}: holds {len(rows)} series; give one")
        x, n = self.medium.batch(rows)
        logits, _ = self._logits(x.to(self.device), n)
        return self.medium.pieces(given), -logits.float().log_softmax(-1).amax()

    def baselines(self, examples: Examples) -> dict[str, float]:
        """Return the accuracy of the most frequent label and, for texts, of logistic regression on TF-IDF features."""
        if self.several:
            raise ElmanError("--baseline: needs one label for each example")
        train = self.training_data()
        names = [*self.names, *examples.unseen]
        labels, truth = [label for (label,) in train.labels], [names[k] for k in examples.labels.argmax(1)]
        scores = {"baseline_majority": majority(labels, truth)}
        found = tfidf(train.inputs, labels, examples.texts, truth) if examples.texts else None
        return scores if found is None else scores | {"baseline_tfidf": found}

    def summary(self) -> dict[str, str]:
        c = self.config
        return {
            "data": f"{file_names(self.sources)}: {self.sources.examples:,} {self.medium.describe()}, "
            f"{len(self.names)} labels",
            "model": f"{c.cell}, {len(c.periods or []) or c.num_layers} x {c.hidden_size} units"
            f"{', hierarchical' * c.hierarchical}, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.predict(["..."])[0][0].text)']
