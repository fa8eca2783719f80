"""A language model: text that continues."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data.tokenizer import Tokenizer
from elman.data.windows import Window, Windows
from elman.decoding import Sampling, StopText, tokens
from elman.errors import ElmanError
from elman.layers import State
from elman.layers.naming import Named, named_rows
from elman.media.pretrained import fill_embedding
from elman.media.text import TOKENIZER
from elman.networks.language import LanguageNetwork, RecurrentLanguage, TransformerLanguage
from elman.tasks.abilities import Generates, Scores
from elman.tasks.language.options import LanguageConfig
from elman.training.model import Carries, Model, evaluation
from elman.training.recipe import Learnt, Recipe, file_names
from elman.training.run import Sources

_log = logging.getLogger("elman")

#: An evaluation reads up to this many streams in parallel, each after so many tokens of warm-up.
_STREAMS, _WARM_UP = 32, 256
#: Logits that exist at once in an evaluation.
_LOGITS = 1 << 23


class Vocabulary(Learnt):
    """The tokens of a language model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def files(self) -> dict[str, str]:
        return {TOKENIZER: self.tokenizer.to_json()}


class Text(NamedTuple):
    """Tokens: each array one text; the number of characters in all of them."""

    ids: list[np.ndarray]
    characters: int


class LanguageModel(Model, Generates, Scores, Carries):
    """p(text) as the product of p(token | tokens before).

    ``model.generate("ROMEO:")``, ``model.stream("ROMEO:")``, ``model.evaluate(model.read(["f.txt"]))``.
    """

    unit = "tokens"

    config: LanguageConfig
    network: LanguageNetwork
    learnt: Vocabulary

    def __init__(self, task: Recipe, learnt: Vocabulary, sources: Sources) -> None:
        super().__init__(task, learnt, sources)
        self.tokenizer = learnt.tokenizer

    def make_network(self) -> LanguageNetwork:
        c: LanguageConfig = self.task.config
        size = self.learnt.tokenizer.vocab_size
        assert c.hidden_size is not None
        if c.model == "transformer":
            assert c.num_layers is not None
            return TransformerLanguage(
                size, embedding_size=c.embedding_size, tie=c.tie, window=c.window, hidden_size=c.hidden_size[0],
                num_layers=c.num_layers, heads=c.heads, positions=c.positions, dropout=c.dropout or 0.0,
            )  # fmt: skip
        return RecurrentLanguage(
            size, embedding_size=c.embedding_size, tie=c.tie, cell=c.cell, hidden_size=c.hidden_size,
            num_layers=c.num_layers, connection=c.connection, blocks=c.blocks, dropout=c.dropout or 0.0,
            variational=c.variational, proj_size=c.proj_size, open_bias=c.open_bias, weight_drop=c.weight_drop,
            recurrent_dropout=c.recurrent_dropout, zoneout=c.zoneout,
        )  # fmt: skip

    def begin(self, examples: Text, resumed: bool) -> None:
        path = self.config.vectors
        if path is not None and not resumed:
            self.sources.vectors = [fill_embedding(self.network.embedding, self.tokenizer, path)]

    def named(self) -> list[Named]:
        return named_rows(self.tokenizer.names, self.network.embedding.weight, *self.network.output)

    @property
    def validation_size(self) -> int:
        """Fewer tokens where each has many logits: 250,000 characters, 16,384 words."""
        return max(1 << 14, min(1 << 18, (1 << 24) // self.tokenizer.vocab_size))

    def batches(self, examples: Text, rank: int, world: int) -> Windows:
        c = self.config
        ids = joined(examples.ids)
        return Windows(ids, c.batch_size * world, c.window, Tokenizer.end_id, c.seed, rank, world)

    def loss(self, batch: Window, carry: State) -> tuple[Tensor, State]:
        """Return the mean of -log p(token | tokens before) in nats; the state is carried from window to window."""
        ids, targets = batch.ids.to(self.device), batch.targets.to(self.device)
        y, carry = self.network.features(ids, None if batch.fresh else carry)
        return self.network.loss(y, targets), carry if self.network.carries else None

    def first_carry(self, batch: Window) -> State:
        network = self.network
        if not isinstance(network, RecurrentLanguage):
            return ()
        return network.recurrent.initial_state(network.embedding(batch.ids.to(self.device)))

    def size(self, batch: Window) -> int:
        return batch.targets.numel()

    def evaluate(self, examples: Text, limit: int | None = None) -> dict[str, float]:
        """Compute loss (mean nats per token), perplexity (exp(loss)), and bits_per_character.

        Every token is predicted from all tokens before it. Long texts are read as up to 32 parallel streams, each with
        the 256 tokens before it as warm-up.
        """
        nats, count = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for ids in examples.ids:
                ids = ids[: None if limit is None else max(0, limit - count)]
                if len(ids):
                    nats, count = nats + self._nats(ids), count + len(ids)
        whole = sum(map(len, examples.ids))
        characters = examples.characters * count / whole
        loss = nats / count
        bits = nats / math.log(2) / characters
        return {"loss": loss, "bits_per_character": bits, "perplexity": math.exp(min(loss, 700.0)), "tokens": count}

    def _nats(self, ids: np.ndarray) -> float:
        """The sum of -log p of a text."""
        streams = max(1, min(_STREAMS, len(ids) // (4 * _WARM_UP)))
        warm_up = _WARM_UP if streams > 1 else 0
        step = math.ceil((len(ids) - warm_up) / streams)
        targets = torch.full((streams * step + warm_up,), -100)  # beyond the text: ignored
        targets[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
        inputs = torch.cat((torch.tensor([Tokenizer.end_id]), targets[:-1])).clamp(min=0)
        rows = torch.arange(streams)[:, None] * step + torch.arange(step + warm_up)
        inputs, targets = inputs[rows], targets[rows]
        targets[1:, :warm_up] = -100  # counted by the stream before
        nats, state = 0.0, None
        at_once = max(1, min(512, _LOGITS // (streams * self.tokenizer.vocab_size)))
        for x, y in zip(inputs.split(at_once, 1), targets.split(at_once, 1), strict=True):
            features, state = self.network.features(x.to(self.device), state)
            nats += self.network.loss(features, y.to(self.device)).item() * int((y >= 0).sum())
        return nats

    @property
    def border(self) -> int | None:
        """The token between two texts: a line end, if there are any, or the end token."""
        ids = self.tokenizer.encode("\n").tolist()
        if len(ids) == 1 and ids[0] != Tokenizer.unknown_id:
            return ids[0]
        return Tokenizer.end_id if self.sources.examples > 1 else None

    def log_probs(self, ids: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        ids = ids.to(self.device)
        with evaluation(self.network), torch.inference_mode():
            if ids.shape[1] == 1 and lengths is None and state is not None:
                logits, state = self.network.step(ids[:, 0], state)
                logits = logits[:, None]
            else:
                logits, state = self.network(ids, state, lengths if lengths is None else lengths.to(self.device))
            return logits.float().log_softmax(-1), state

    def generate(self, prompt: str | Sequence[str] = "", **options: Any) -> str | list[str]:
        """Return the prompt and its continuation; a list for a list of prompts, which are continued in parallel.

        Args:
            prompt: a text or several.
            options: those of `elman.decoding.Sampling`: max_new_tokens, temperature, greedy, top_k, top_p,
                repetition_penalty, seed, stop.

        Raises:
            ElmanError: a character of the prompt is not in the vocabulary, or an option is wrong.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = list(prompts)
        for row, piece in self._pieces(prompts, options):
            texts[row] += piece
        return texts[0] if isinstance(prompt, str) else texts

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Yield the continuation of the prompt piece by piece, as it is made; options as for `generate`."""
        for _, piece in self._pieces([prompt], options):
            yield piece

    def _pieces(self, prompts: Sequence[str], options: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """Yield (row, text) as it is made."""
        sampling = parse(Sampling, options)
        if not prompts:
            return
        ids = [[Tokenizer.end_id, *self._prompt(prompt)] for prompt in prompts]
        stops = [StopText(sampling.stop) for _ in prompts]
        writers = [self.tokenizer.stream_decoder() for _ in prompts]
        # Trained on one text, the model has never seen a text end.
        never = [Tokenizer.unknown_id] + [Tokenizer.end_id] * (self.sources.examples == 1)
        with evaluation(self.network):
            for chosen in tokens(self.network, ids, sampling, Tokenizer.end_id, never, self.device):
                for row, i in enumerate(chosen.tolist()):
                    if i != Tokenizer.end_id and (piece := stops[row].push(writers[row](i))):
                        yield row, piece
                if all(stop.stopped for stop in stops):
                    return
        for row, stop in enumerate(stops):
            if rest := stop.rest():
                yield row, rest

    def probe(self, given: Any) -> tuple[list[str], Tensor]:
        ids = torch.tensor([[Tokenizer.end_id, *self._prompt(str(given))]], device=self.device)
        if ids.shape[1] < 2:
            raise ElmanError("the input is empty")
        y, _ = self.network.features(ids[:, :-1])
        pieces = ["", *(self.tokenizer.decode([i]) for i in ids[0, 1:-1].tolist())]
        return pieces, self.network.loss(y[:, -1:], ids[:, -1:])

    def _prompt(self, prompt: str) -> list[int]:
        if any("\ud800" <= c <= "\udfff" for c in prompt):  # how Python shows bytes that are no text
            raise ElmanError("prompt: not UTF-8")
        ids = self.tokenizer.encode(prompt).tolist()
        if Tokenizer.unknown_id in ids:
            unknown = self.tokenizer.unknown_pieces(prompt)
            shown = ", ".join(map(repr, unknown[:5]))
            if self.config.tokens == "char":
                raise ElmanError(
                    f"prompt: the model has never seen {shown}; it knows the {self.tokenizer.vocab_size - 2} "
                    "characters of its training text"
                )
            _log.warning("the model does not know %s in the prompt", shown)
        return ids

    def summary(self) -> dict[str, str]:
        c = self.config
        return {
            "data": f"{file_names(self.sources)}: {self.sources.units:,} tokens to train on, a vocabulary of "
            f"{self.tokenizer.vocab_size:,} ({c.tokens})",
            "model": f"{' '.join(c.cell) if c.model == 'recurrent' else c.model}, {c.num_layers} x "
            f"{', '.join(map(str, c.hidden_size or []))} units, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.generate("", max_new_tokens=200))']


def joined(texts: Sequence[np.ndarray]) -> np.ndarray:
    """Return texts as one array of tokens, with an END after each if there are several."""
    end = np.array([Tokenizer.end_id] if len(texts) > 1 else [], dtype=np.int32)
    return np.concatenate([part for ids in texts for part in (ids, end)])
