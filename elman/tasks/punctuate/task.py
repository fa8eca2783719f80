"""The punctuation task: punctuation and capitals of plain text, learnt from punctuated text."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from elman.data.archive import table_in_memory
from elman.data.punctuated import MARKS, read_punctuated, unspaced_share
from elman.data.source import InMemory, files_below, local_path
from elman.data.source import sources as sources_of
from elman.data.split import hold_out
from elman.data.tables import read_plain_text
from elman.data.timed import is_timed_lines, pauses_after, read_timed_lines
from elman.errors import ElmanError
from elman.media.pretrained import size_of_vectors
from elman.tasks.punctuate.examples import Passage, Punctuation, Running, passage
from elman.tasks.punctuate.model import Punctuator
from elman.tasks.punctuate.options import PunctuateConfig
from elman.training.recipe import Counts
from elman.training.run import Run
from elman.training.task import Task

_log = logging.getLogger("elman")

#: Words of a block of text that is held out, at least and at most; there are about a hundred blocks.
_BLOCK, _LARGEST_BLOCK, _BLOCKS = 20, 2000, 100
#: A mark is learnt that occurs at least twice, and once in this many words.
_RARE = 10_000


class Passages(NamedTuple):
    """Texts, how often each mark is written in which way, and other punctuation."""

    passages: list[Passage]
    spellings: Counter[tuple[str, str]]
    dropped: Counter[str]


class Punctuate(Task):
    """Learn p(marks, cases | words)."""

    name = "punctuate"
    Config = PunctuateConfig
    model_class = Punctuator
    usage = "elman train punctuate book.txt --minutes 5"
    items = "words"
    takes_folders = True

    config: PunctuateConfig

    def read(self, data: Sequence[str], like: Any = None) -> Passages:
        passages, spellings, dropped = [], Counter[tuple[str, str]](), Counter[str]()
        for path in _files(sources_of(data)):
            for place, given in _texts(path):
                text = read_punctuated(given, self.config.tokens)
                if self.config.tokens == "word" and unspaced_share(text.words) > 0.3:
                    raise ElmanError(f"{place}: no spaces between words; --tokens char makes each character a word")
                if not text.words:
                    raise ElmanError(f"{place}: has no words")
                try:
                    pauses = pauses_after(given, text.words)
                except ElmanError as error:
                    raise ElmanError(f"{place}: {error}") from None
                passages.append(passage(str(path), text, pauses))
                spellings += text.spellings
                dropped += text.dropped
        return Passages(passages, spellings, dropped)

    def split(self, data: Passages) -> tuple[Passages, Passages] | None:
        """Hold out blocks of text that end with a sentence."""
        words = sum(len(one.words) for one in data.passages)
        size = min(_LARGEST_BLOCK, max(_BLOCK, words // _BLOCKS))
        blocks = [(one, cut) for one in data.passages for cut in _blocks(one, size)]
        _, chosen = hold_out(len(blocks), self.config.valid_fraction)
        if not chosen:
            return None
        parts: tuple[list[Passage], list[Passage]] = ([], [])
        previous: tuple[bool, Passage, int] | None = None
        for k, (one, (start, end)) in enumerate(blocks):
            held = k in set(chosen)
            if previous == (held, one, start):
                begun = parts[held].pop()
                start -= len(begun.words)
            parts[held].append(one.part(start, end))
            previous = held, one, end
        return data._replace(passages=parts[0]), data._replace(passages=parts[1])

    def contents(self, train: Passages, held: Passages) -> list[str]:
        texts = [[*one.words, "", *one.marks] for part in (train, held) for one in part.passages]
        pauses = [pause for part in (train, held) for one in part.passages for pause in one.pauses]
        known = list(map(str, pauses)) if any(pause is not None for pause in pauses) else []
        return [word for text in texts for word in ("", *text)] + [str(len(train.passages))] + known

    def facts(self, data: Passages) -> Mapping[str, Any]:
        return {}

    def learn(self, train: Passages, held: Passages) -> Punctuation:
        counts = Counter(mark for one in train.passages for mark in one.marks if mark)
        words = sum(len(one.words) for one in train.passages)
        least = max(2, words // _RARE)
        marks = {}
        for mark in MARKS:
            if counts[mark] >= least:
                written = {way: n for (known, way), n in train.spellings.items() if known == mark}
                marks[mark] = max(written, key=lambda way: (written[way], way))
        if not marks:
            raise ElmanError(f"{train.passages[0].name}: no punctuation to learn from; give punctuated text")
        if dropped := train.dropped + Counter({mark: n for mark, n in counts.items() if mark not in marks}):
            most = ", ".join(f"{c} {n:,}" for c, n in dropped.most_common(8))
            _log.warning(
                "%s: dropped %s quotation marks, brackets, dashes and rare marks, which are not learnt: %s",
                train.passages[0].name, f"{dropped.total():,}", most,
            )  # fmt: skip
        return Punctuation.learn(train.passages, marks, self.config.vocab_size)

    def restore(self, run: Run) -> Punctuation:
        return Punctuation.load(run)

    def encode(self, learnt: Punctuation, data: Passages, training: bool = False) -> Running:
        """Return the text to train on as it runs on, and other text by paragraphs, as it is restored."""
        if training:
            return learnt.encode(data.passages)
        return learnt.encode([part for one in data.passages for part in one.parted()])

    def count(self, learnt: Punctuation, train: Passages, examples: Running) -> Counts:
        return Counts(len(train.passages), sum(len(one.words) for one in train.passages))

    def resolve(self, learnt: Punctuation, train: Passages, examples: Running) -> PunctuateConfig:
        c = self.config
        chosen: dict[str, Any] = size_of_vectors(c, c.vectors)
        if c.minutes is None and c.steps is None:
            chosen["minutes"] = min(10.0, max(1.0, sum(len(one.words) for one in train.passages) / 40_000))
        return c.model_copy(update=chosen)


def _texts(path: str) -> list[tuple[str, str]]:
    """Return the texts of a file, each after its location: one, or that of the record on each line."""
    if is_timed_lines(path):
        return [(line.place, line.text) for line in read_timed_lines(path)]
    table = table_in_memory(path)
    if table is not None and "words" in table.columns and table["words"].dtype.is_nested():
        raise ElmanError(f"{path}: the times of words are read from a file with a record on each line (.jsonl)")
    return [(path, read_plain_text(path))]


def _files(paths: Sequence[str]) -> list[str]:
    """Return the files, and those in folders."""
    found = []
    for path in paths:
        folder = None if isinstance(path, InMemory) else local_path(path)
        if folder is None or not os.path.isdir(folder):
            found.append(path)
            continue
        inside = [os.path.join(folder, name) for name in files_below(folder)]
        if not inside:
            raise ElmanError(f"{path}: the folder has no files")
        found += inside
    return found


def _blocks(one: Passage, size: int) -> list[tuple[int, int]]:
    """Cut a passage where a sentence begins, or after twice as many words, into blocks of at least ``size`` words."""
    starts, begins = [0], set(one.begins)
    for k in range(len(one.words)):
        words = k - starts[-1]
        if words >= size and (k in begins or words >= 2 * size):
            starts.append(k)
    if len(starts) > 1 and len(one.words) - starts[-1] < size:
        starts.pop()
    return list(zip(starts, [*starts[1:], len(one.words)], strict=True))
