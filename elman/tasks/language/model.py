"""Language models: text that goes on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from elman.config import parse
from elman.data import Tokenizer, Window, Windows, absolute, fingerprint
from elman.data.source import sources
from elman.data.tables import read_plain_text
from elman.decoding import Sampling, StopText, tokens
from elman.errors import ElmanError
from elman.layers import State
from elman.networks.language import LanguageNetwork, RecurrentLanguage, TransformerLanguage
from elman.tasks.language.options import LanguageConfig, sensible
from elman.tasks.pretrained import begin_with_vectors, sized
from elman.training.config import TrainConfig
from elman.training.run import Run, Sources
from elman.training.task import Task, build, evaluation

_log = logging.getLogger("elman")

#: An evaluation reads up to so many streams side by side, each after so many tokens of warm-up.
_STREAMS, _WARM_UP = 32, 256

#: And holds so many logits at once.
_LOGITS = 1 << 23

_TOKENIZER = "tokenizer.json"


class Text(NamedTuple):
    """Tokens to evaluate on: each array one text; characters in all of them."""

    ids: list[np.ndarray]
    characters: int


class Corpus(NamedTuple):
    """Tokens to train on: (N,); an END after each text if there are several."""

    ids: np.ndarray


class Language(Task):
    """A recurrent language model: p(text) as the product of p(token | tokens before).

    ``model.generate("ROMEO:")``, ``model.stream("ROMEO:")``, ``model.evaluate(model.read(["f.txt"]))``.
    """

    name = "language"
    Config = LanguageConfig
    unit = "tokens"

    config: LanguageConfig
    network: LanguageNetwork

    def __init__(self, config: LanguageConfig, tokenizer: Tokenizer, sources: Sources) -> None:
        self.config, self.tokenizer, self.sources = config, tokenizer, sources
        kind = TransformerLanguage if config.model == "transformer" else RecurrentLanguage
        self.network = build(lambda: kind(config, tokenizer.vocab_size))

    @classmethod
    def prepare(
        cls, config: TrainConfig, data: Sequence[str], valid: Sequence[str], run: Run | None = None
    ) -> tuple[Self, Corpus, Text]:
        assert isinstance(config, LanguageConfig)
        config = sized(config, config.vectors)
        train, held = _split(data, valid, config.valid_fraction)
        if run is not None:
            tokenizer = _tokenizer(run)
        else:
            size = config.vocab_size or {"char": 0, "word": 20_000, "bpe": 4096}[config.tokens]
            tokenizer = Tokenizer.train(config.tokens, [*train, *held] if config.tokens == "char" else train, size)
        end = np.array([Tokenizer.end_id] if len(train) > 1 else [], dtype=np.int32)
        ids = np.concatenate([part for text in train for part in (tokenizer.encode(text), end)])
        if len(ids) < config.window:
            raise ElmanError(
                f"{', '.join(data)}: {len(ids)} tokens to train on, fewer than one window of {config.window}: "
                f"give more text, or a --window of at most {len(ids)}"
            )
        sources = Sources(
            data=[absolute(path) for path in data], valid=[absolute(path) for path in valid], examples=len(train),
            units=len(ids), fingerprint=fingerprint([*train, "", *held]),
        )  # fmt: skip
        torch.manual_seed(config.seed)
        task = cls(sensible(config, len(ids)), tokenizer, sources)
        begin_with_vectors(task, run, (config.vectors, task.network.embedding, tokenizer))
        return task, Corpus(ids), task._text(held)

    @classmethod
    def restore(cls, config: TrainConfig, run: Run, sources: Sources) -> Self:
        assert isinstance(config, LanguageConfig)
        return cls(sensible(config, sources.units), _tokenizer(run), sources)

    @property
    def validation_size(self) -> int:
        """Fewer tokens where each has many logits: 250,000 characters, 16,384 words."""
        return max(1 << 14, min(1 << 18, (1 << 24) // self.tokenizer.vocab_size))

    def files(self) -> dict[str, str]:
        return {_TOKENIZER: self.tokenizer.to_json()}

    def batches(self, data: Corpus, rank: int, world: int) -> Windows:
        c = self.config
        return Windows(data.ids, c.batch_size * world, c.window, Tokenizer.end_id, c.seed, rank, world)

    def loss(self, batch: Window, carry: State) -> tuple[Tensor, State]:
        """The mean of -log p(token | tokens before) in nats, the state carried from window to window."""
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

    def read(self, data: Sequence[str]) -> Text:
        return self._text(_read(data))

    def held_out(self) -> Text:
        train, held = _split(self.sources.data, self.sources.valid, self.config.valid_fraction)
        self.unchanged(fingerprint([*train, "", *held]))
        return self._text(held)

    def _text(self, texts: Sequence[str]) -> Text:
        text = Text([self.tokenizer.encode(t) for t in texts], sum(map(len, texts)))
        if unknown := sum(int((ids == Tokenizer.unknown_id).sum()) for ids in text.ids):
            total = sum(map(len, text.ids))
            _log.warning("%d of %d tokens are not in the vocabulary; they count as %s", unknown, total, "unknown")
        return text

    def evaluate(self, data: Text, limit: int | None = None) -> dict[str, float]:
        """loss: mean nats a token. perplexity: exp(loss). bits_per_character: the whole in bits, by characters.

        Every token is predicted from all before it, but for long texts: those are read as up to 32
        streams at a time, each with the 256 tokens before it to warm up.
        """
        nats, count = 0.0, 0
        with evaluation(self.network), torch.inference_mode():
            for ids in data.ids:
                ids = ids[: None if limit is None else max(0, limit - count)]
                if len(ids):
                    nats, count = nats + self._nats(ids), count + len(ids)
        whole = sum(map(len, data.ids))
        characters = data.characters * count / whole
        loss = nats / count
        bits = nats / math.log(2) / characters
        return {"loss": loss, "bits_per_character": bits, "perplexity": math.exp(min(loss, 700.0)), "tokens": count}

    def _nats(self, ids: np.ndarray) -> float:
        """The sum of -log p over a text."""
        streams = max(1, min(_STREAMS, len(ids) // (4 * _WARM_UP)))
        warm_up = _WARM_UP if streams > 1 else 0
        step = math.ceil((len(ids) - warm_up) / streams)
        targets = torch.full((streams * step + warm_up,), -100)  # beyond the text: ignored
        targets[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
        inputs = torch.cat((torch.tensor([Tokenizer.end_id]), targets[:-1])).clamp(min=0)
        rows = torch.arange(streams)[:, None] * step + torch.arange(step + warm_up)
        inputs, targets = inputs[rows], targets[rows]
        targets[1:, :warm_up] = -100  # the stream before has counted these
        nats, state = 0.0, None
        at_once = max(1, min(512, _LOGITS // (streams * self.tokenizer.vocab_size)))
        for x, y in zip(inputs.split(at_once, 1), targets.split(at_once, 1), strict=True):
            features, state = self.network.features(x.to(self.device), state)
            nats += self.network.loss(features, y.to(self.device)).item() * int((y >= 0).sum())
        return nats

    def generate(self, prompt: str | Sequence[str] = "", **options: Any) -> str | list[str]:
        """The prompt and how it goes on; a list for a list of prompts, all at once.

        ``options`` are those of `elman.decoding.Sampling`: max_new_tokens, temperature, greedy, top_k,
        top_p, repetition_penalty, seed, stop.

        Raises:
            ElmanError: a character of the prompt is not in the vocabulary, or an option is wrong.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = list(prompts)
        for row, piece in self._pieces(prompts, options):
            texts[row] += piece
        return texts[0] if isinstance(prompt, str) else texts

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """How the prompt goes on, piece by piece as it is made; options as for `generate`."""
        for _, piece in self._pieces([prompt], options):
            yield piece

    def _pieces(self, prompts: Sequence[str], options: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """(row, text) as it becomes known."""
        sampling = parse(Sampling, options)
        if not prompts:
            return
        ids = [[Tokenizer.end_id, *self._prompt(prompt)] for prompt in prompts]
        stops = [StopText(sampling.stop) for _ in prompts]
        writers = [self.tokenizer.stream_decoder() for _ in prompts]
        # Where there was one text, the model has not seen a text end.
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
            "data": ", ".join(os.path.basename(path) for path in self.sources.data)
            + f": {self.sources.units:,} tokens to train on, {self.tokenizer.vocab_size:,} different ({c.tokens})",
            "model": f"{' '.join(c.cell) if c.model == 'recurrent' else c.model}, {c.num_layers} x "
            f"{', '.join(map(str, c.hidden_size or []))} units, {self.parameters():,} parameters",
        }

    def example(self) -> list[str]:
        return ['print(model.generate("", max_new_tokens=200))']


def _read(data: Any) -> list[str]:
    """The texts of files, or of data in memory."""
    return [read_plain_text(path) for path in sources(data)]


def _split(data: Sequence[str], valid: Sequence[str], fraction: float) -> tuple[list[str], list[str]]:
    """The texts to train on and those held out: the files of ``valid``, or the tail of each file."""
    texts = _read(data)
    if valid:
        return texts, _read(valid)
    for path, text in zip(data, texts, strict=True):
        if not 0 < int(len(text) * (1 - fraction)) < len(text):
            raise ElmanError(f"{path}: {len(text)} characters are too few to hold out {fraction:.0%}; give more text")
    cuts = [int(len(text) * (1 - fraction)) for text in texts]
    train = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    return train, [text[cut:] for text, cut in zip(texts, cuts, strict=True)]


def _tokenizer(run: Run) -> Tokenizer:
    return Tokenizer.from_json(run.read(_TOKENIZER), str(run.path / _TOKENIZER))
