"""Translation: speed of training and search, compared with plain torch, and quality of models after the same time.

    python -m benchmarks.translation step   train.de train.en [--rounds 5]
    python -m benchmarks.translation search RUN test.de test.en [--sentences 1000]
    python -m benchmarks.translation models train.de train.en --valid val.de val.en --test test.de test.en --minutes 10

step: target tokens per second in training. The peer has the same sizes and precision and is built from torch.nn as in
tutorials, once with padded batches of similar lengths and once with packed sequences in random order. search:
sentences per second with beam size 5. The peer is a loop over torch.nn layers with the same weights that continues
with all beams of all sentences until the last one has ended. models: a table of several architectures, trained on the
same data for the same time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman
from elman.benchmarks.pairs import side_by_side
from elman.config import parse
from elman.data.padding import pad
from elman.tasks.translate.model import Translator
from elman.tasks.translate.options import TranslateConfig
from elman.tasks.translate.task import Translate
from elman.tasks.writing.examples import Batch, Examples, batch_of
from elman.training import optimiser
from elman.training.events import Event, Stepped
from elman.training.trainer import mixed_precision


class Plain(nn.Module):
    """Encoder, multi-head attention and decoder from torch.nn, with the sizes of an elman model."""

    def __init__(self, task: Translator, packed: bool) -> None:
        super().__init__()
        ours = task.network
        E = task.config.embedding_size
        H, layers = ours.decoder.attention.query_size, len(ours.decoder.layers)  # type: ignore[union-attr]
        self.packed = packed
        self.source = nn.Embedding(task.source.vocab_size, E)
        self.target = nn.Embedding(task.target.vocab_size, E)
        self.encoder = nn.LSTM(E, H // 2, layers, batch_first=True, bidirectional=True)
        self.first = nn.LSTM(E, H, batch_first=True)
        self.attention = nn.MultiheadAttention(H, task.config.heads, batch_first=True)
        self.rest = nn.ModuleList(nn.LSTM(2 * H, H, batch_first=True) for _ in range(layers - 1))
        self.output, self.dropout = nn.Linear(2 * H, E), nn.Dropout(task.config.dropout)
        self.head = nn.Linear(E, task.target.vocab_size)

    def forward(self, batch: Batch) -> Tensor:
        source, source_lengths = batch.read
        x = self.dropout(self.source(source))
        if self.packed:
            lengths = source_lengths.cpu()
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            memory, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        else:
            memory, _ = self.encoder(x)
        memory = self.dropout(memory)
        y, _ = self.first(self.dropout(self.target(batch.inputs)))
        padding = torch.arange(source.shape[1]) >= source_lengths[:, None]
        context, _ = self.attention(y, memory, memory, key_padding_mask=padding)
        for layer in self.rest:
            y, _ = layer(torch.cat((self.dropout(y), context), -1))
        return self.head(self.dropout(torch.tanh(self.output(torch.cat((self.dropout(y), context), -1)))))


def step(data: Sequence[str], rounds: int, options: dict) -> None:
    """Compare the speed of a training step, in target tokens per second."""
    task, train, _ = Translate(parse(TranslateConfig, options)).prepare(data, [])
    bf16 = mixed_precision("auto", torch.device("cpu"))
    loader = task.batches(train, 0, 1)
    similar = [loader.batch(k) for k in range(8)]
    rows = max(1, round(statistics.mean(len(batch.targets) for batch in similar)))
    draw = np.random.default_rng(0)
    parts = (train.part(draw.choice(len(train.rows), rows)) for _ in range(8))
    random_order = [batch_of(task.collate(part.rows), part.target_ids) for part in parts]

    def stepper(network: nn.Module, loss: Callable[[Batch], Tensor], batches: list[Batch]) -> Callable[[], None]:
        optimizer, cycle = optimiser.build(network, task.config), itertools.cycle(batches)

        def train_step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                value = loss(next(cycle))
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        network.train()
        return train_step

    def plain(packed: bool, batches: list[Batch]) -> Callable[[], None]:
        network = Plain(task, packed)

        def loss(batch: Batch) -> Tensor:
            return nn.functional.cross_entropy(
                network(batch).flatten(0, 1).float(), batch.targets.flatten(), label_smoothing=0.1
            )

        return stepper(network, loss, batches)

    tokens = [statistics.mean(task.size(batch) for batch in batches) for batches in (similar, random_order)]
    ours = stepper(task.network, lambda batch: task.loss(batch, None)[0], similar)
    print(f"{task.parameters():,} parameters, {'bf16' if bf16 else 'float32'}, {rows} sentences per batch")
    for name, theirs, count in (
        ("torch.nn, padded batches of similar lengths", plain(False, similar), tokens[0]),
        ("torch.nn, packed, random order", plain(True, random_order), tokens[1]),
    ):
        pair = side_by_side(ours, theirs, rounds, min_seconds=2.0)
        rates = tokens[0] / pair.ours, count / pair.theirs
        print(f"elman {rates[0]:,.0f} tokens/s, {name} {rates[1]:,.0f}: ratio {rates[0] / rates[1]:.2f}", flush=True)


class Loop:
    """Simple beam search: it continues with all beams of all sentences until the last one has ended."""

    def __init__(self, task: Translator) -> None:
        ours = task.network
        self.task, self.network = task, ours
        self.layers = []
        for layer in ours.decoder.layers:  # type: ignore[union-attr]
            copy = nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True)
            weights = layer.state_dict()
            copy.load_state_dict({f"{key}_l0": value for key, value in weights.items()})
            self.layers.append(copy.eval())

    @torch.inference_mode()
    def search(self, ids: Sequence[np.ndarray], K: int = 5) -> list[list[int]]:
        """Return the best hypothesis of each sentence; K is the beam size."""
        source, lengths = pad(ids, 0)
        memory, state = self.network.read(source, lengths)
        B, V, end = len(ids), self.task.target.vocab_size, 0
        memory = type(memory)(*(t.repeat_interleave(K, 0) for t in memory))
        states = [tuple(s.repeat_interleave(K, 0)[None] for s in layer) for layer in state.layers]
        attention_state: tuple = ()
        decoder = self.network.decoder
        prefixes = torch.zeros(B * K, 1, dtype=torch.long)
        scores = torch.full((B, K), -torch.inf)
        scores[:, 0] = 0
        done = torch.zeros(B, K, dtype=torch.bool)
        for _ in range(int(2 * lengths.max()) + 10):
            x = self.network.target(prefixes[:, -1:]) * self.network.scale
            h, states[0] = self.layers[0](x, states[0])
            context, _, attention_state = decoder.attention(h, memory, attention_state)
            for k in range(1, len(self.layers)):
                h, states[k] = self.layers[k](torch.cat((h, context), -1), states[k])
            y = torch.tanh(decoder.output(torch.cat((h, context), -1)))
            log_p = self.network.head(y[:, 0]).log_softmax(-1).view(B, K, V)
            frozen = torch.full((V,), -torch.inf)
            frozen[end] = 0
            log_p = torch.where(done[..., None], frozen, log_p)
            scores, indices = (scores[..., None] + log_p).view(B, -1).topk(K, -1)
            parents = (indices // V + torch.arange(B)[:, None] * K).flatten()
            tokens = (indices % V).flatten()
            prefixes = torch.cat((prefixes[parents], tokens[:, None]), 1)
            states = [tuple(s[:, parents] for s in layer) for layer in states]
            attention_state = tuple(s[parents] for s in attention_state)
            done = (tokens == end).view(B, K)
            if bool(done.all()):
                break
        best = prefixes.view(B, K, -1)[:, 0, 1:]
        return [[i for i in row.tolist() if i != end] for row in best]


def search(run: str, data: Sequence[str], sentences: int, rounds: int) -> None:
    """Compare the speed of beam search with beam size 5, in sentences per second."""
    task = elman.load(run)
    examples: Examples = task.read(data)
    ids = examples.rows[:sentences]
    loop, order = Loop(task), range(0, len(ids), 64)
    options = parse(elman.decoding.Search, {"length_penalty": 0.0})
    pair = side_by_side(
        lambda: task._search(ids, options),
        lambda: [loop.search(ids[k : k + 64]) for k in order],
        rounds,
        min_seconds=0.0,
    )
    print(
        f"elman {len(ids) / pair.ours:.0f} sentences/s, the loop {len(ids) / pair.theirs:.0f}: ratio {pair.ratio:.2f}"
    )


MODELS: dict[str, dict] = {
    "recurrent": {},
    "gnmt (8 + 8)": {"model": "gnmt", "hidden_size": 256},
    "transformer": {"model": "transformer"},
}


def models(
    data: Sequence[str], valid: Sequence[str], test: Sequence[str], minutes: float, only: str | None, out: str | None
) -> None:
    """Train several architectures on the same data for the same time and print a table."""
    columns = ["model", "parameters", "training tokens/s", "BLEU", "chrF", "sentences/s", "peak memory"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, options in MODELS.items():
        if only and not name.startswith(only):
            continue
        rates: list[float] = []

        def collect_rate(event: Event, rates: list[float] = rates) -> None:
            if isinstance(event, Stepped):
                rates.append(event.rate)

        with tempfile.TemporaryDirectory() as folder:
            model = elman.train(
                "translate", data, valid=valid, minutes=minutes, out=out or Path(folder) / "run", progress=False,
                listeners=[collect_rate], **options,
            )  # fmt: skip
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        examples = model.read(test)
        start = time.perf_counter()
        model.predict(examples.inputs)
        seconds = time.perf_counter() - start
        metrics = model.evaluate(examples)
        print(
            f"| {name} | {model.parameters():,} | {statistics.median(rates):,.0f} | {metrics['bleu']:.1f} "
            f"| {metrics['chrf']:.1f} | {len(examples.inputs) / seconds:.0f} | {peak:.1f} GiB |", flush=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["step", "search", "models"])
    parser.add_argument("data", nargs="+", help="training files; for search, RUN and the test files")
    parser.add_argument("--valid", nargs="+", default=[], help="validation files, for models")
    parser.add_argument("--test", nargs="+", default=[], help="test files, for models")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements (default: 5)")
    parser.add_argument("--sentences", type=int, default=1000, help="sentences for search (default: 1000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of training per model (default: 10)")
    parser.add_argument("--only", help="train only this model, so that the peak memory is that of the model")
    parser.add_argument("--out", help="run directory to keep; requires --only")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the model as JSON, for step")
    arguments = parser.parse_args()
    if arguments.out and not arguments.only:
        parser.error("--out: requires --only, which names the model to keep")
    if arguments.command == "step":
        step(arguments.data, arguments.rounds, arguments.options)
    elif arguments.command == "search":
        search(arguments.data[0], arguments.data[1:], arguments.sentences, arguments.rounds)
    else:
        models(arguments.data, arguments.valid, arguments.test, arguments.minutes, arguments.only, arguments.out)


if __name__ == "__main__":
    main()
