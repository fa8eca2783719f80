"""A model that restores punctuation and capitals."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.inputs import InputFile, is_file_argument
from elman.data.punctuated import ENDS, Punctuated, read_punctuated
from elman.data.split import evenly_spaced
from elman.data.timed import pauses_after, read_timed_inputs, text_of_line, timed_text
from elman.errors import ElmanError
from elman.layers.naming import Named, named_rows
from elman.metrics.punctuation import punctuation_scores
from elman.metrics.texts import share
from elman.metrics.words import error_scores
from elman.networks.tagger import SentenceTagger, Tagger
from elman.tasks.abilities import Answered, Answers, Compares
from elman.tasks.answers import Answer, log_of
from elman.tasks.inputs import inputs_of
from elman.tasks.punctuate.examples import END, Passage, Punctuation, Running, Windows, passage
from elman.tasks.punctuate.options import Marking, PunctuateConfig
from elman.tasks.tagging.examples import Batch, Examples, Vocabulary
from elman.tasks.tagging.model import FrequentTags, TaggingModel
from elman.training.recipe import file_names
from elman.training.selection import Criterion

#: How many times as long as a training window the windows are that a model reads later, and how many at a time.
_LONGER, _AT_ONCE = 4, 128
#: An empty line, which ends a text.
_PARAGRAPH = re.compile(r"(\s*\n[^\S\n]*\n\s*)")


@dataclass(frozen=True)
class Restored(Answer):
    """A text with punctuation and capitals.

    Attributes:
        text (str): the text.
        words (list[str]): its words, each with the mark after it.
        probabilities (list[float]): of each word, that its case and the mark before it are right.
    """

    text: str
    words: list[str]
    probabilities: list[float]

    @property
    def log_probability(self) -> float:  # type: ignore[override]
        return sum(map(log_of, self.probabilities))

    @property
    def output(self) -> str:
        return self.text

    @property
    def score(self) -> float:  # type: ignore[override]
        """The mean probability."""
        return sum(self.probabilities) / max(1, len(self.probabilities))

    @property
    def cell(self) -> str:
        return self.text

    @property
    def attention(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        return {"text": self.text, "words": self.words, "probabilities": self.probabilities}


class Read(NamedTuple):
    """The tags of a text (T,), their probabilities, and those of the true tags."""

    tags: np.ndarray
    probabilities: np.ndarray
    true: np.ndarray


class Punctuator(TaggingModel, Answers, Compares):
    """p(marks, cases | words): ``model.predict("hello how are you")[0][0].text``."""

    Options = Marking
    reads = writes = "text"
    selection = (Criterion("mark_f1", higher_is_better=True), Criterion("loss"))

    config: PunctuateConfig
    learnt: Punctuation
    search = parse(Marking, {})

    @property
    def vocabulary(self) -> Vocabulary:
        return self.learnt.vocabulary

    def make_network(self) -> Tagger:
        options = {**self.tagger_options(), "pauses": len(self.learnt.intervals)}
        if not self.config.sentence_weight:
            return Tagger(**options)
        return SentenceTagger(kinds=len(self.learnt.marks), **options)

    def loss(self, batch: Batch, carry: Any) -> tuple[Tensor, Any]:
        """Return the mean of -log p per word, in nats, and the weighted one of the mark that ends its sentence."""
        network, given = self.network, batch.to(self.device)
        if not isinstance(network, SentenceTagger):
            return super().loss(given, carry)
        b = self.with_dropped_words(given)
        features = network.features(*b.inputs)
        scores = network.head(features).float()
        with torch.autocast(self.device.type, enabled=False):
            loss = network.loss(scores, b.tags, b.lengths)
            kinds = network.kinds_loss(features.float(), self.learnt.sentence_marks(given))
            return loss + self.config.sentence_weight * kinds, None

    def named(self) -> list[Named]:
        network, found = self.network, self.named_tables()
        if network.pauses is not None:
            found += named_rows(self.learnt.intervals, network.pauses.weight)
        if isinstance(network, SentenceTagger):
            found += named_rows(self.learnt.marks, network.kinds.weight, network.kinds.bias)
        return found

    def batches(self, examples: Running, rank: int, world: int) -> Windows:
        c = self.config
        return Windows(self.learnt, examples, c.window, c.batch_size, c.seed, rank, world)

    def restored(self, examples: Examples, threshold: float) -> Iterator[Read]:
        """Yield the tags of each text; `Punctuation.chosen` explains the threshold.

        Long texts are read in windows that overlap by half. Two windows are joined where both give the same tag, at the
        word nearest to the middle of the overlap, and in the middle if they never do.
        """
        size = _LONGER * self.config.window
        cuts = [
            (k, start, min(start + size, len(row)))
            for k, row in enumerate(examples.words)
            for start in range(0, max(1, len(row) - size // 2), size // 2)
        ]
        result: Read | None = None
        for first in range(0, len(cuts), _AT_ONCE):
            some = cuts[first : first + _AT_ONCE]
            windows = examples.cut(some)
            _, found, _ = self.tagged(windows)
            for (k, start, end), p, text, tags in zip(some, found, windows.texts, windows.tags, strict=True):
                if not start:
                    if result is not None:
                        yield result
                    T = len(examples.words[k])
                    result = Read(np.zeros(T, dtype=np.int64), np.zeros(T), np.zeros(T))
                    overlap = 0
                else:
                    overlap = min(size // 2, end - start)
                assert result is not None
                best = self.learnt.chosen(text, p, threshold, not start)
                same = np.flatnonzero(best[:overlap] == result.tags[start : start + overlap])
                middle = overlap // 2
                seam = int(same[np.abs(same - middle).argmin()]) if len(same) else middle
                rows = np.arange(len(best))
                result.tags[start + seam : end] = best[seam:]
                result.probabilities[start + seam : end] = p[rows, best][seam:]
                result.true[start + seam : end] = p[rows, tags][seam:]
        if result is not None:
            yield result

    def evaluate(self, examples: Running, limit: int | None = None) -> dict[str, Any]:
        """Compute loss (mean nats per word), mark_f1, macro_mark_f1, sentence_f1, case_accuracy, the fraction of words
        that are written with the right letters, accuracy, that of words with the right case and the right mark before
        them, and labels: the scores of each mark. Each text is read over the borders of its sentences."""
        chosen = evenly_spaced([len(row) for row in examples.examples.words], limit)
        some = examples.examples.part(chosen)
        read = list(self.restored(some, self.search.threshold))
        nats = -np.log(np.maximum(np.concatenate([one.true[1:] for one in read]), 1e-30))
        scores = {"loss": float(nats.mean())} | self._scores(some, [one.tags for one in read])
        if limit is not None:
            return {name: scores[name] for name in ("loss", "mark_f1", "case_accuracy") if scores[name] is not None}
        return scores

    def _scores(self, examples: Examples, tags: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return all metrics but the loss."""
        truth, found = (np.concatenate([row[1:] for row in side]) for side in (examples.tags, tags))
        (_, true_marks), (_, marks) = self.learnt.divided(truth), self.learnt.divided(found)
        right, words = 0, 0
        for own, texts, written in zip(tags, examples.texts, examples.truth, strict=True):
            cases, _ = self.learnt.divided(own[1:-1])
            restored = self.learnt.written(texts[1:-1], cases)
            right += sum(a == b for a, b in zip(restored, written[1:-1], strict=True))
            words += len(restored)
        scores = punctuation_scores(true_marks, marks, self.learnt.marks, ENDS)
        labels = scores.pop("labels")
        more = {"case_accuracy": share(right, words), "accuracy": float((truth == found).mean()), "words": words}
        return scores | more | {"labels": labels}

    def predict(self, inputs: Any, **options: Any) -> list[list[Restored]]:
        """Return each text with punctuation and capitals.

        Words and white space stay. Marks and capitals in the input are replaced, and what training drops is dropped:
        quotation marks, brackets, dashes. Each text, and each part of one between empty lines, begins and ends a
        sentence; line breaks within are like spaces.

        Args:
            inputs: one text, or several; also records with the times of words (`elman.data.timed.timed_text`), such as
                a recogniser's ``answer.record()``. The pauses count if ``elman info`` says that the model reads them.
            options: those of `Marking`.

        Raises:
            ElmanError: an input is empty, no text, or has no words, or the words with times are not those of the text.
        """
        threshold = parse(Marking, options).threshold
        texts = inputs_of(_with_times(inputs), True)
        parts = [_PARAGRAPH.split(text) for text in texts]
        read = [[read_punctuated(one, self.config.tokens) for one in some[::2]] for some in parts]
        for k, (text, some) in enumerate(zip(texts, read, strict=True), 1):
            if not any(one.words for one in some):
                raise ElmanError(f"input {k} of {len(texts)}: no words in {text!r}")
        passages = []
        for k, (text, some) in enumerate(zip(texts, read, strict=True), 1):
            try:
                passages += self._passages(text, [one for one in some if one.words])
            except ElmanError as error:
                raise ElmanError(f"input {k} of {len(texts)}: {error}") from None
        found = self.restored(self.learnt.encode(passages).examples, threshold)
        answers = []
        for some, gaps in zip(read, parts, strict=True):
            pieces: list[str] = []
            words: list[str] = []
            probabilities: list[float] = []
            for one, gap in zip(some, [*gaps[1::2], ""], strict=True):
                if one.words:
                    tags = next(found)
                    restored = self._written([word.lower() for word in one.words], tags.tags)
                    pieces += [space + word for space, word in zip(one.spaces, restored, strict=True)]
                    words += restored
                    probabilities += tags.probabilities[1:-1].tolist()
                pieces.append(gap)
            answers.append([Restored("".join(pieces).strip(), words, probabilities)])
        return answers

    def _passages(self, text: str, parts: Sequence[Punctuated]) -> list[Passage]:
        """Return the parts of a text, with pauses where they are read and known."""
        if not self.learnt.intervals:
            return [passage("", one) for one in parts]
        pauses = iter(pauses_after(text, [word for one in parts for word in one.words]))
        return [passage("", one, list(islice(pauses, len(one.words)))) for one in parts]

    def _written(self, lower: Sequence[str], tags: np.ndarray) -> list[str]:
        """Return the words of a text as they are written, with their marks; tags (T,) include those of `END`."""
        cases, _ = self.learnt.divided(tags)
        return self._marked(self.learnt.written(lower, cases[1:-1]), tags)

    def _marked(self, words: Sequence[str], tags: np.ndarray) -> list[str]:
        """Return words with the marks after them."""
        spelt = ["", *self.learnt.spellings.marks.values()]
        _, marks = self.learnt.divided(tags)
        return [word + spelt[mark] for word, mark in zip(words, marks[2:], strict=True)]

    def answered(self, examples: Running) -> list[Answered]:
        """Return each sentence; it is restored within the text around it."""
        between = "" if self.config.tokens == "char" else " "
        rows = []
        some = examples.examples
        texts = zip(some.texts, some.truth, some.tags, examples.begins, strict=True)
        for read, (lower, truth, tags, begins) in zip(self.restored(some, self.search.threshold), texts, strict=True):
            sides = lower[1:-1], self._marked(truth[1:-1], tags), self._written(lower[1:-1], read.tags)
            for start, end in zip(begins, [*begins[1:], len(lower) - 2], strict=True):
                rows.append(Answered(*(between.join(side[start:end]) for side in sides)))
        return rows

    def compare(
        self, inputs: Sequence[Hashable], answers: Sequence[Answer], references: Sequence[str]
    ) -> dict[str, Any]:
        """Return exact, and the error rate of words with their capitals and marks."""
        return error_scores([a.text for a in answers], references, [str(one) for one in inputs], "words")

    def in_file(self, argument: str, column: str | None) -> InputFile | None:
        return read_timed_inputs(argument, column or "text") if is_file_argument(argument) else None

    def in_line(self, line: str) -> str:
        return text_of_line(line)

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        words = read_punctuated(inputs_of(given, True)[0], self.config.tokens).words
        text = [END, *(word.lower() for word in words), END]
        return text, self.uncertainty(text)

    def baselines(self, examples: Running) -> dict[str, float]:
        """Return the scores of a text in lower case without marks, and of the most frequent tag of each word."""
        train = self.training_data()
        known, asked = self.learnt.encode(train.passages).examples, examples.examples
        frequent = FrequentTags(known.texts, (row.tolist() for row in known.tags))
        guesses = {
            "unrestored": [np.zeros_like(row) for row in asked.tags],
            "most_frequent": [np.array([frequent[word] for word in text]) for text in asked.texts],
        }
        every = {name: self._scores(asked, tags) for name, tags in guesses.items()}
        names = ("mark_f1", "sentence_f1", "case_accuracy", "accuracy")
        return {f"baseline_{name}_{key}": scores[key] or 0.0 for name, scores in every.items() for key in names}

    def summary(self) -> dict[str, str]:
        marks = " ".join(self.learnt.spellings.marks)
        return {
            "data": f"{file_names(self.sources)}: {self.sources.units:,} words to train on, marks {marks}",
            "model": f"{self.sizes()}, {self.parameters():,} parameters",
            "reads": "words and the pauses after them" if self.learnt.intervals else "words, without pauses",
        }

    def example(self) -> list[str]:
        return ['print(model.predict("hello how are you")[0][0].text)']


def _with_times(inputs: Any) -> Any:
    """Return inputs with the texts of records (`timed_text`) instead of the records."""
    if isinstance(inputs, Mapping) and isinstance(inputs.get("text"), str):
        return timed_text(inputs)
    if not isinstance(inputs, (list, tuple)):
        return inputs
    texts = []
    for k, one in enumerate(inputs, 1):
        try:
            texts.append(timed_text(one) if isinstance(one, Mapping) else one)
        except ElmanError as error:
            raise ElmanError(f"input {k} of {len(inputs)}: {error}") from None
    return texts
