"""The answers to all inputs of a command, and the report of those that have none."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from elman.cli.inputs import Given, Inputs
from elman.data.broken import BrokenFile
from elman.data.inputs import write_output
from elman.data.output import check_finite, json_line
from elman.errors import ElmanError
from elman.tasks.abilities import Predicts
from elman.tasks.answers import Answer, cells_of


class Reply(NamedTuple):
    """The answers to an input, the best first; or the reason why there are none."""

    given: Given
    answers: Sequence[Answer]
    reason: str
    error: ElmanError | None = None

    @property
    def message(self) -> str:
        """The reason with the location of the input, which is named once."""
        place, shown, reason = self.given.place or "", str(self.given.shown), " ".join(self.reason.split())
        if place == shown or not place:
            return reason if reason.startswith(f"{shown}: ") else f"{shown}: {reason}"
        return f"{place}: {reason}"

    def record(self) -> dict[str, Any]:
        """Return the input and its answers for JSON."""
        answers = [answer.record() for answer in self.answers] or None
        reason = {"reason": self.reason} if self.reason else {}
        question = {"question": self.given.question} if self.given.question else {}
        return {"input": self.given.shown} | question | {"answers": answers} | reason

    def line_of_json(self) -> str:
        """Return the record as a line."""
        return json_line(self.record(), "an answer")

    def lines(self, named: bool) -> list[str]:
        """Return a line of text for each answer, an empty one if there are none; ``named``: after the input."""
        columns = [str(self.given.shown)] + ([] if self.given.question is None else [self.given.question])
        start = "".join(f"{column}\t" for column in columns) if named and not self.given.empty else ""
        return [f"{start}{line}" for line in self._lines()]

    def _lines(self) -> list[str]:
        texts = [" ".join(a.text.splitlines()) or f"({a.empty_means})" for a in self.answers]
        if len(texts) > 1:
            return [f"{a.score:.3f}\t{text}" for a, text in zip(self.answers, texts, strict=True)]
        return texts or [""]


class Answering:
    """Answers to the inputs of a command, in order.

    Args:
        model: the model.
        given: the inputs.
        options: the options of ``model.predict``.
    """

    def __init__(self, model: Predicts, given: Inputs, options: dict[str, Any]) -> None:
        self.model, self.given, self.options = model, given, options
        self.count, self.failed = 0, list[Reply]()

    def batches(self) -> Iterator[list[Reply]]:
        """Yield the answers to all inputs, in batches; standard output is written after each.

        If one of several inputs cannot be used, the others are answered.

        Raises:
            ElmanError: an argument of the command line cannot be used, or a score is not finite.
        """
        progress = _Progress()
        for batch in self.given.batches():
            found = _answers(self.model, batch, self.options)
            check_finite([answer.score for one in found for answer in one.answers], "an answer's score")
            self.count += len(found)
            self.failed += [one for one in found if not (one.answers or one.given.empty)]
            yield found
            sys.stdout.flush()
            progress.show(self.count)
        progress.end()

    def write(self, out: str, written: Sequence[Reply]) -> None:
        """Write the answers to a file, with the table that was read, unless there are none."""
        if self.count and len(self.failed) == self.count:
            return
        asked = self.given.one_file() or self.given.as_file([one.given for one in written])
        write_output(
            out, asked.with_predictions(out, [cells_of(one.answers) if one.answers else None for one in written])
        )
        failed = len(self.failed)
        count = f"{self.count - failed:,} of {self.count:,}" if failed else f"{self.count:,}"
        print(f"answers to {count} inputs in {out}", file=sys.stderr)

    def status(self, skip_broken: bool) -> int:
        """Report the inputs without an answer, and return the exit status: 0, or 2 where a file could not be used.

        Args:
            skip_broken: whether pictures that cannot be read are no failure.

        Raises:
            ElmanError: an input that is no file has no answer.
        """
        files = self.model.reads_paths
        unusable = [one for one in self.failed if one.error is not None] if files else []
        failed = [one for one in self.failed if one.error is None or not files]
        broken = [one for one in unusable if skip_broken and isinstance(one.error, BrokenFile)]
        if broken:
            unusable = [one for one in unusable if not isinstance(one.error, BrokenFile)]
            count = f"{len(broken):,} of {self.count:,} inputs"
            print(
                f"elman: left out {count}, which cannot be read; the first, {broken[0].message}",
                file=sys.stderr,
            )
        for one in unusable:
            print(f"elman: {one.message}", file=sys.stderr)
        if failed:
            more = f"; {len(failed):,} of {self.count:,} inputs have no answer" if len(failed) > 1 else ""
            raise ElmanError(f"{failed[0].message}{more}")
        return 2 if unusable else 0


def _answers(model: Predicts, batch: Sequence[Given], options: dict[str, Any]) -> list[Reply]:
    """Return the answers to all inputs; if one of several lines cannot be used, the others are answered."""
    full = [one for one in batch if not one.empty]
    try:
        pairs = zip(full, _predicted(model, full, options), strict=True)
        answered = iter([Reply(one, answers, _reason(answers)) for one, answers in pairs])
    except ElmanError:
        if not model.reads_paths and any(one.place is None for one in full):
            raise
        answered = iter(_apart(model, full, options))
    return [Reply(one, [], "the input is empty") if one.empty else next(answered) for one in batch]


def _predicted(model: Predicts, given: Sequence[Given], options: dict[str, Any]) -> Sequence[Sequence[Answer]]:
    return model.predict([one.input for one in given], **options) if given else []


def _apart(model: Predicts, given: Sequence[Given], options: dict[str, Any]) -> list[Reply]:
    """Return the answers to all inputs, some of which cannot be used: halves are tried until these are found."""
    try:
        found = _predicted(model, given, options)
    except ElmanError as error:
        if len(given) == 1:
            return [Reply(given[0], [], re.sub(r"^input 1 of 1:?\s*", "", str(error)), error)]
        half = len(given) // 2
        return [*_apart(model, given[:half], options), *_apart(model, given[half:], options)]
    return [Reply(one, answers, _reason(answers)) for one, answers in zip(given, found, strict=True)]


def _reason(answers: Sequence[Answer]) -> str:
    """Return what an empty text means; nothing for any other text."""
    return "" if answers[0].text else answers[0].empty_means


class _Progress:
    """The number of answers on standard error, if that is a terminal and the answers go elsewhere."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.on = sys.stderr.isatty() and not sys.stdout.isatty()

    def show(self, done: int) -> None:
        if self.on:
            rate = done / max(1e-9, time.monotonic() - self.began)
            print(f"\r{done:,} answered, {rate:,.0f} a second", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.on:
            print(file=sys.stderr)
