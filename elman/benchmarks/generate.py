"""Tokens a second of a character language model that writes, one character after the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from elman.benchmarks.pairs import Row, side_by_side
from elman.config import parse
from elman.data import Tokenizer
from elman.tasks.language.model import Language
from elman.tasks.language.options import LanguageConfig
from elman.training.run import Sources

_TOKENS, _TEMPERATURE = 200, 0.8


def generate(rounds: int) -> Iterator[Row]:
    """2 x 512 LSTM, 96 characters, batch 1, temperature 0.8: ``model.generate`` beside a loop over torch.nn.LSTM."""
    config = parse(LanguageConfig, {"hidden_size": [512], "num_layers": 2, "dropout": 0.0, "minutes": 1.0})
    tokenizer = Tokenizer.train("char", ["".join(map(chr, range(32, 126)))], 0)
    sources = Sources(data=["-"], valid=[], examples=1, units=1, fingerprint="-")
    for int8 in (False, True):
        torch.manual_seed(0)
        model = Language(config, tokenizer, sources)
        model.network.eval()
        if int8:
            model.quantize()
        theirs = _Plain(tokenizer.vocab_size)
        pair = side_by_side(
            lambda: model.generate("A", max_new_tokens=_TOKENS, temperature=_TEMPERATURE),  # noqa: B023
            lambda: theirs.write(_TOKENS),  # noqa: B023
            rounds,
        )
        each = pair._replace(ours=pair.ours / _TOKENS, theirs=pair.theirs / _TOKENS)
        yield Row(f"a character, 2 x 512{', int8' if int8 else ''}", "batch 1", "torch.nn.LSTM loop", each)


class _Plain:
    """As one writes it with torch alone."""

    def __init__(self, vocab_size: int) -> None:
        self.embedding, self.head = nn.Embedding(vocab_size, 64), nn.Linear(512, vocab_size)
        self.lstm = nn.LSTM(64, 512, 2, batch_first=True)

    @torch.inference_mode()
    def write(self, count: int) -> list[int]:
        ids, state, written = torch.zeros(1, 1, dtype=torch.long), None, []
        for _ in range(count):
            y, state = self.lstm(self.embedding(ids), state)
            ids = torch.multinomial((self.head(y[:, -1]) / _TEMPERATURE).softmax(-1), 1)
            written.append(int(ids))
        return written
