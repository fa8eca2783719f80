"""Text generation: seconds per token of a character language model at batch size 1."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from elman.benchmarks.pairs import Row, side_by_side
from elman.config import parse
from elman.data import Tokenizer
from elman.tasks.language.model import LanguageModel, Vocabulary
from elman.tasks.language.options import LanguageConfig
from elman.tasks.language.task import Language
from elman.training.run import Sources

_TOKENS, _TEMPERATURE = 200, 0.8


def generate(rounds: int) -> Iterator[Row]:
    """Compare ``model.generate`` with a loop over torch.nn.LSTM, in float32 and with bfloat16 and int8 weights.

    The model is an LSTM of 2 x 512 units over 96 characters; batch size 1, temperature 0.8.

    Args:
        rounds: number of measurements per row.

    Yields:
        One row for each kind of weights. Times are those of one token.
    """
    config = parse(LanguageConfig, {"hidden_size": [512], "num_layers": 2, "dropout": 0.0, "minutes": 1.0})
    tokenizer = Tokenizer.train("char", ["".join(map(chr, range(32, 126)))], 0)
    sources = Sources(data=["-"], valid=[], examples=1, units=1, fingerprint="-")
    for name, dtype in (("", None), (", bfloat16", torch.bfloat16), (", int8", torch.int8)):
        torch.manual_seed(0)
        model = LanguageModel(Language(config), Vocabulary(tokenizer), sources)
        model.network.eval()
        if dtype is not None:
            model.quantize(dtype)
        peer = _Plain(tokenizer.vocab_size)
        pair = side_by_side(
            lambda: model.generate("A", max_new_tokens=_TOKENS, temperature=_TEMPERATURE),  # noqa: B023
            lambda: peer.generate(_TOKENS),  # noqa: B023
            rounds,
        )
        per_token = pair._replace(ours=pair.ours / _TOKENS, theirs=pair.theirs / _TOKENS)
        yield Row(f"a character, 2 x 512{name}", "batch 1", "torch.nn.LSTM loop", per_token)


class _Plain:
    """The same model written with torch only."""

    def __init__(self, vocab_size: int) -> None:
        self.embedding, self.head = nn.Embedding(vocab_size, 64), nn.Linear(512, vocab_size)
        self.lstm = nn.LSTM(64, 512, 2, batch_first=True)

    @torch.inference_mode()
    def generate(self, count: int) -> list[int]:
        """Sample ``count`` tokens."""
        ids, state, generated = torch.zeros(1, 1, dtype=torch.long), None, []
        for _ in range(count):
            y, state = self.lstm(self.embedding(ids), state)
            ids = torch.multinomial((self.head(y[:, -1]) / _TEMPERATURE).softmax(-1), 1)
            generated.append(int(ids))
        return generated
