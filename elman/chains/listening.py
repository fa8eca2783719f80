"""A chain that answers each line as soon as it has been said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from elman.chains.stages import Chain, ChainAnswer, follow
from elman.errors import ElmanError
from elman.tasks.abilities import Listens


class ChainLine(NamedTuple):
    """What a chain answers to a line.

    Attributes:
        line: what the first model hears, a `elman.tasks.transcribe.listening.Line`.
        answers (list[ChainAnswer]): the answers, the best first; none while the line can still change.
        reason (str): why a line that has ended has no answers; empty otherwise.
    """

    line: Any
    answers: list[ChainAnswer]
    reason: str = ""


class ListeningChain:
    """Recognise speech that arrives in blocks, and answer each line that ends with the other models of a chain.

    ::

        with ListeningChain(chain, rate=16000) as listening:
            for block in microphone:
                for one in listening.push(block):
                    if one.answers:
                        print(one.answers[0].text)

    Args:
        chain (Chain): The chain; its first model must be able to listen.
        rate (int): The sampling rate of the blocks in Hz.
        options: those of the first model's ``listen``; those of its stage hold, too.

    Raises:
        ElmanError: The first model does not listen, or an option is wrong.
    """

    def __init__(self, chain: Chain, rate: int, **options: Any) -> None:
        first = chain.stages[0]
        if not isinstance(first.model, Listens):
            raise ElmanError(f"stage 1 ({first.name}): does not listen; a streaming transcribe model does")
        self._stages = chain.stages
        self._listening = first.model.listen(rate, **{**first.options, **options})

    def __enter__(self) -> ListeningChain:
        self._listening.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.__exit__(*error)

    def push(self, block: np.ndarray) -> Iterator[ChainLine]:
        """Take the next samples (N,) float32; yield what is heard, with the answers to the lines that end.

        A line that a later model cannot use has no answers, and the reason. The next lines are answered.
        """
        for line in self._listening.push(block):
            yield self._answered(line)

    def finish(self) -> Iterator[ChainLine]:
        """Yield the last lines, at the end of the sound."""
        for line in self._listening.finish():
            yield self._answered(line)

    def _answered(self, line: Any) -> ChainLine:
        if not line.final:
            return ChainLine(line, [])
        try:
            return ChainLine(line, list(follow(self._stages, [[line.answer]])[0]))
        except ElmanError as error:  # a later model cannot use this line; others may come
            return ChainLine(line, [], str(error))
