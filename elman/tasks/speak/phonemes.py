"""Pronounce words by a translation model."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import final

from elman.errors import ElmanError
from elman.tasks.abilities import Predicts
from elman.tasks.loading import load

_log = logging.getLogger("elman")


@final
class Pronouncer:
    """Pronounce words by a model that translates words to phonemes; what it has said once is kept.

    Args:
        run (str): the run directory of the model; it is loaded when a word is not in the lexicon.
        lexicon (dict[str, list[str]]): the phonemes of words. Default: none.
    """

    def __init__(self, run: str, lexicon: dict[str, list[str]] | None = None) -> None:
        self.run, self.lexicon = run, lexicon or {}
        self._model: Predicts | None = None

    def learn(self, words: Iterable[str]) -> None:
        """Pronounce words that are not in the lexicon, and add them to it.

        Raises:
            ElmanError: the run cannot be loaded, or its model does not turn texts into texts.
        """
        missing = sorted(set(words) - set(self.lexicon))
        if not missing:
            return
        if self._model is None:
            try:
                model = load(self.run)
            except ElmanError as error:
                raise ElmanError(f"phonemes: {error}; it pronounces {missing[0]!r}") from None
            if not isinstance(model, Predicts) or (model.reads, model.writes) != ("text", "text"):
                raise ElmanError(f"phonemes: {self.run}: a {model.name} model; one that translates words is needed")
            self._model = model
        for word, answers in zip(missing, self._model.predict(missing), strict=True):
            said = answers[0].text
            self.lexicon[word] = said.split() if " " in said.strip() else list(said.strip())
        if silent := [word for word in missing if not self.lexicon[word]]:
            _log.warning(
                "phonemes: %s: no phonemes for %r, which is not spoken; %d of %d words have none",
                self.run, silent[0], len(silent), len(missing),
            )  # fmt: skip

    def use(self, run: str) -> None:
        """Pronounce further words by the model of another run directory."""
        if run != self.run:
            self.run, self._model = run, None

    def pronounce(self, word: str) -> list[str]:
        """Return the phonemes of a word: what stands between the spaces of the translation, or its characters."""
        self.learn([word])
        return self.lexicon[word]
