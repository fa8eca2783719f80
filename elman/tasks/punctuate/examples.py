"""Running text as words and tags, the windows that are cut from it, and what is learnt of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self, final

import numpy as np
import torch
from pydantic import BaseModel, TypeAdapter
from torch import Tensor

from elman.data.punctuated import CASES, ENDS, MARKS, Case, Punctuated, case_of, with_case
from elman.errors import ElmanError
from elman.layers.lengths import real_steps
from elman.tasks.tagging.examples import Batch, Examples, Vocabulary
from elman.training.recipe import Learnt
from elman.training.run import Run

PUNCTUATION = "punctuation.json"

#: The word before the first and after the last one of a text.
END = "\n"
#: Fraction of the training windows that are whole sentences, and how many of them at most.
_WHOLE, _SENTENCES = 0.5, 4
#: Borders between the intervals of pauses, in seconds; and the fraction of the training windows without pauses.
_BORDERS, _WITHOUT_PAUSES = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6], 0.3


class Passage(NamedTuple):
    """A text as words.

    Attributes:
        name (str): where it comes from.
        words (list[str]): the words as they are written, without marks.
        marks (list[str]): the mark after each word; "" for none.
        begins (list[int]): the words that begin a sentence, by number.
        paragraphs (list[int]): the words that begin a paragraph.
        pauses (list[float | None]): the pause after each word in seconds; None where it is not known.
    """

    name: str
    words: list[str]
    marks: list[str]
    begins: list[int]
    paragraphs: list[int]
    pauses: list[float | None]

    def part(self, start: int, end: int) -> Passage:
        """Return the words from start to end, without the last one."""
        begins = [k - start for k in self.begins if start <= k < end]
        paragraphs = [0, *(k - start for k in self.paragraphs if start < k < end)]
        inside = slice(start, end)
        return Passage(self.name, self.words[inside], self.marks[inside], begins, paragraphs, self.pauses[inside])

    def parted(self) -> list[Passage]:
        """Return its paragraphs, each as a passage."""
        ends = [*self.paragraphs[1:], len(self.words)]
        return [self.part(start, end) for start, end in zip(self.paragraphs, ends, strict=True)]


def passage(name: str, text: Punctuated, pauses: Sequence[float | None] = ()) -> Passage:
    """Return a text as a passage: a paragraph begins after an empty line, and a sentence there and after `ENDS`.

    Without ``pauses``, those after its words are not known.
    """
    paragraphs = [k for k, space in enumerate(text.spaces) if not k or space.count("\n") > 1]
    begins = {*paragraphs, *(k for k, mark in enumerate(text.marks[:-1], 1) if mark in ENDS)}
    known = list(pauses) or [None] * len(text.words)
    return Passage(name, text.words, text.marks, sorted(begins), paragraphs, known)


class Spellings(BaseModel):
    """punctuation.json.

    Attributes:
        marks: how each mark is written, white space before it included.
        forms: the words of mixed case, by their form in lower case.
        pauses: the borders in seconds between the intervals of pauses that are told apart, ascending; none where
            pauses are not read.
    """

    marks: dict[str, str]
    forms: dict[str, str]
    pauses: list[float] = []


class Running(NamedTuple):
    """Passages as examples, each between two `END`; their truth is the words as they are written.

    Attributes:
        examples (Examples): words in lower case, and tags.
        begins (list[list[int]]): the words of each passage that begin a sentence, without `END`.
    """

    examples: Examples
    begins: list[list[int]]


@final
class Punctuation(Learnt):
    """Words, marks, and words of mixed case.

    A tag is the case of a word times the mark before it: where a sentence ends, both change together. `END` after the
    last word has the last mark.

    Args:
        vocabulary (Vocabulary): words in lower case, characters, and tags in the order of `tag_names`.
        spellings (Spellings): of marks and of words of mixed case, and what is known of pauses.
    """

    def __init__(self, vocabulary: Vocabulary, spellings: Spellings) -> None:
        self.vocabulary, self.spellings = vocabulary, spellings
        self.marks = ["", *spellings.marks]
        self.cases = [case for case in CASES if case in vocabulary.tags]
        self._end = int(vocabulary.words.encode_words([END])[0])
        self._numbers = {mark: k for k, mark in enumerate(self.marks)}

    @classmethod
    def learn(cls, passages: Sequence[Passage], marks: dict[str, str], vocab_size: int) -> Self:
        """Learn from passages; ``marks``: those to learn, and how each is written. Pauses are read if one is known."""
        mixed: dict[str, Counter[str]] = {}
        cases: set[Case] = {"lower"}
        for word in (word for one in passages for word in one.words):
            case = case_of(word)
            cases.add(case)
            if case == "Mixed":
                mixed.setdefault(word.lower(), Counter())[word] += 1
        forms = {lower: counts.most_common(1)[0][0] for lower, counts in sorted(mixed.items())}
        words = [[END, *(word.lower() for word in one.words), END] for one in passages]
        tags = tag_names([case for case in CASES if case in cases], ["", *marks])
        pauses = _BORDERS if any(pause is not None for one in passages for pause in one.pauses) else []
        return cls(Vocabulary.learn(words, tags, vocab_size), Spellings(marks=marks, forms=forms, pauses=pauses))

    @classmethod
    def load(cls, run: Run) -> Self:
        """Read that of a run.

        Raises:
            ElmanError: a file is wrong, or they do not belong together.
        """
        spellings = run.record(PUNCTUATION, TypeAdapter(Spellings))
        if wrong := [mark for mark in spellings.marks if mark not in MARKS]:
            raise ElmanError(f"{run.path / PUNCTUATION}: marks: {wrong[0]!r} is none of {' '.join(MARKS)}")
        if spellings.pauses != sorted(set(spellings.pauses)):
            raise ElmanError(f"{run.path / PUNCTUATION}: pauses: {spellings.pauses} are not ascending")
        known = cls(Vocabulary.load(run), spellings)
        if known.vocabulary.tags != tag_names(known.cases, known.marks):
            raise ElmanError(f"{run.path / 'tags.json'}: does not fit {run.path / PUNCTUATION}")
        return known

    def files(self) -> dict[str, str]:
        text = json.dumps(self.spellings.model_dump(), ensure_ascii=False, indent=1) + "\n"
        return {**self.vocabulary.files(), PUNCTUATION: text}

    def encode(self, passages: Sequence[Passage]) -> Running:
        """Return passages as examples."""
        lower = [[END, *(word.lower() for word in one.words), END] for one in passages]
        numbers = [self._tags(one) for one in passages]
        words = [self.vocabulary.words.encode_words(one) for one in lower]
        pauses = [self._pauses(one) for one in passages]
        examples = Examples(words, numbers, lower, [[END, *one.words, END] for one in passages], pauses)
        return Running(examples, [one.begins for one in passages])

    def _tags(self, one: Passage) -> np.ndarray:
        cases = [0, *(self._case(word) for word in one.words), 0]
        marks = [0, 0, *(self._numbers.get(mark, 0) for mark in one.marks)]
        return np.array(cases, dtype=np.int64) * len(self.marks) + np.array(marks, dtype=np.int64)

    @property
    def intervals(self) -> list[str]:
        """The names of the intervals of pauses, the unknown one first; none where pauses are not read."""
        borders = self.spellings.pauses
        return ["unknown", "from 0", *(f"from {border:g}" for border in borders)] if borders else []

    def _pauses(self, one: Passage) -> np.ndarray:
        """Return the interval of the pause after each word; after the last one, as at `END`, it is not known."""
        found = [np.nan, *(np.nan if pause is None else pause for pause in one.pauses[:-1]), np.nan, np.nan]
        intervals = np.searchsorted(self.spellings.pauses, found, side="right") + 1
        return np.where(np.isnan(found) | (not self.spellings.pauses), 0, intervals)

    def _case(self, word: str) -> int:
        case = case_of(word)
        return self.cases.index(case) if case in self.cases else 0

    def divided(self, tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of the case of each word, and of the mark before it."""
        return np.divmod(tags, len(self.marks))

    def sentence_marks(self, batch: Batch) -> Tensor:
        """Return the number of the mark that ends the sentence of each word, (B, T).

        At the end of a text it is whatever mark stands there, 0 for none. It is -1 where the end is not in the window.
        """
        marks, T = batch.tags % len(self.marks), batch.tags.shape[1]
        ends = torch.tensor([mark != "" and mark in ENDS for mark in self.marks], device=marks.device)[marks]
        places, real = torch.arange(T, device=marks.device), real_steps(batch.lengths, T)
        ends = real & (ends | ((batch.words == self._end) & (places > 0)))
        following = torch.where(ends, places, T).flip(1).cummin(1).values.flip(1)[:, 1:]
        following = torch.cat((following, following.new_full((len(marks), 1), T)), 1)
        found = marks.gather(1, following.clamp(max=T - 1))
        return torch.where(real & (following < T), found, -1)

    def chosen(self, words: Sequence[str], probabilities: np.ndarray, threshold: float, begins: bool) -> np.ndarray:
        """Return the tags of words (T,), given the probabilities of all tags (T, K); ``begins``: a text begins here.

        The most probable mark is set where the probability of any mark is at least ``threshold``: marks are rare and
        compete with each other, so that none of them alone is often more probable than no mark.
        """
        p = np.where(self._possible(words), probabilities, 0.0).reshape(len(words), len(self.cases), -1)
        of_marks = p.sum(1)
        none = of_marks[:, 0] > (1 - threshold) * of_marks.sum(1)
        none[: 2 * begins] = True  # there is no word that a mark could follow
        marks = np.where(none, 0, of_marks[:, 1:].argmax(1) + 1)
        cases = p[np.arange(len(words)), :, marks].argmax(1)
        return cases * len(self.marks) + marks

    def _possible(self, words: Sequence[str]) -> np.ndarray:
        """Return which tags each word can have, (T, K): words without a form of mixed case cannot have one."""
        possible = np.ones((len(words), len(self.vocabulary.tags)), dtype=bool)
        if "Mixed" in self.cases:
            known = np.array([word in self.spellings.forms for word in words], dtype=bool)
            possible[~known, self.cases.index("Mixed") * len(self.marks) :] = False
        return possible

    def written(self, words: Sequence[str], cases: np.ndarray) -> list[str]:
        """Return words in lower case as they are written with these cases."""
        forms = self.spellings.forms
        return [with_case(word, self.cases[k], forms) for word, k in zip(words, cases, strict=True)]


def tag_names(cases: Sequence[Case], marks: Sequence[str]) -> list[str]:
    """Return the names of all tags: "lower", "lower .", ..., "Capitalised", ...; Mixed is last."""
    return [f"{case} {mark}".rstrip() for case in cases for mark in marks]


class Windows:
    """Training batches: windows at random places of the running text, half of them whole sentences.

    Only whole sentences stand between `END`, so that a model learns both to find the ends of sentences in a stream and
    to end a text. Where pauses are read, some windows have none, so that a model can also read plain text. Batch k
    depends only on k and the arguments.

    Args:
        learnt (Punctuation): what is learnt.
        text (Running): passages, which are joined.
        window (int): the words of a window.
        rows (int): the windows of a batch.
        seed, rank, world (int): of the order, and this process.
    """

    def __init__(
        self, learnt: Punctuation, text: Running, window: int, rows: int, seed: int, rank: int, world: int
    ) -> None:
        examples = text.examples
        self.learnt, self.window, self.rows = learnt, window, rows
        self._seed, self._rank, self._world = seed, rank, world
        self._words = np.concatenate([one[1:-1] for one in examples.words])
        self._texts = [word for one in examples.texts for word in one[1:-1]]
        self._pauses = np.concatenate([one[1:-1] for one in examples.pauses])
        inner = []
        for k, one in enumerate(examples.tags):
            own = one[1:-1].copy()
            own[:1] += examples.tags[k - 1][-1] if k else 0  # the mark after the last word of the passage before
            inner.append(own)
        self._tags = np.concatenate([*inner, examples.tags[-1][-1:]])
        starts = np.cumsum([0, *(len(one) - 2 for one in examples.words)])
        first = [np.asarray(one, dtype=np.int64) + start for one, start in zip(text.begins, starts[:-1], strict=True)]
        self._begins = np.concatenate([*first, starts[-1:]])
        self._end = int(learnt.vocabulary.words.encode_words([END])[0])
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def batch(self, k: int) -> Batch:
        """Return batch k."""
        draw = np.random.default_rng([self._seed, k, self._rank])
        first = (k * self._world + self._rank) * self.rows
        cuts = [self._window(self._place(first + row, draw), draw) for row in range(self.rows)]
        words, tags, texts, pauses = map(list, zip(*cuts, strict=True))
        if self.learnt.spellings.pauses:
            pauses = [row * (draw.random() >= _WITHOUT_PAUSES) for row in pauses]
        return self.learnt.vocabulary.collate(Examples(words, tags, texts, [], pauses), range(self.rows))

    def _place(self, number: int, draw: np.random.Generator) -> int:
        """Return the start of a window: each stretch of the text has one in every epoch."""
        count = max(1, len(self._words) // self.window)
        epoch, number = divmod(number, count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch, 1 << 20]).permutation(count)
        start = int(self._order[number]) * self.window + int(draw.integers(self.window))
        return min(start, max(0, len(self._words) - self.window))

    def _window(self, start: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
        if draw.random() >= _WHOLE:
            end = min(start + self.window, len(self._words))
            return self._words[start:end], self._tags[start:end], self._texts[start:end], self._pauses[start:end]
        first = min(int(np.searchsorted(self._begins, start)), len(self._begins) - 2)
        last = min(first + int(draw.integers(1, _SENTENCES + 1)), len(self._begins) - 1)
        start, end = int(self._begins[first]), int(self._begins[last])
        tags = self._tags[start : end + 1] % len(self.learnt.marks)
        tags[1:-1] = self._tags[start + 1 : end]
        tags[0] = self._tags[start] // len(self.learnt.marks) * len(self.learnt.marks)
        words = np.concatenate(([self._end], self._words[start:end], [self._end]))
        pauses = np.concatenate(([0], self._pauses[start : end - 1], [0, 0]))  # nothing is known after the last word
        size = self.window + 2  # of a sentence that is longer, the beginning
        texts = [END, *self._texts[start:end], END]
        return words[:size], np.concatenate(([0], tags))[:size], texts[:size], pauses[:size]
