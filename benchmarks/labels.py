"""Speed of classifiers and taggers in training and prediction, compared with plain torch.

    python -m benchmarks.labels train [--rounds 5]         BiLSTM and BiGRU over sentences of different lengths
    python -m benchmarks.labels predict RUN [--lines 100000]

train: sentences per second for 50 batches of 32 sentences of 3 to 60 words, with lengths as in a treebank and 128
units per direction. The peer uses torch.nn with pack_padded_sequence on batches in random order, as in tutorials,
with the same embedding size, sizes, precision and optimiser. predict: milliseconds for one short text in a warm
process, and texts per second of the command line.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman
from elman.benchmarks.pairs import side_by_side
from elman.data.buckets import Buckets
from elman.data.padding import pad
from elman.layers.recurrent import real_steps
from elman.layers.stack import stack
from elman.networks.classifier import SequenceLabeller
from elman.training.trainer import mixed_precision

WORDS, LABELS, SIZE, UNITS = 10_000, 10, 100, 128


class Plain(nn.Module):
    """A classifier (from the last states) or a tagger (from all states) of torch.nn with packed sequences."""

    def __init__(self, cell: str, tagger: bool) -> None:
        super().__init__()
        self.words, self.tagger = nn.Embedding(WORDS, SIZE), tagger
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.layer = kind(SIZE, UNITS, batch_first=True, bidirectional=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(2 * UNITS, LABELS)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.dropout(self.words(ids)), lengths, batch_first=True, enforce_sorted=False)
        y, state = self.layer(packed)
        if self.tagger:
            y, _ = pad_packed_sequence(y, batch_first=True)
            return self.head(self.dropout(y))
        h = state[0] if isinstance(state, tuple) else state
        return self.head(self.dropout(torch.cat((h[0], h[1]), -1)))


class Ours(nn.Module):
    """The same models with elman's layers."""

    def __init__(self, cell: str, tagger: bool) -> None:
        super().__init__()
        self.words, self.tagger = nn.Embedding(WORDS, SIZE), tagger
        self.dropout = elman.layers.SequenceDropout(0.5)
        if tagger:
            self.layer, self.head = stack(cell, SIZE, UNITS, bidirectional=True), nn.Linear(2 * UNITS, LABELS)
        else:
            self.labeller = SequenceLabeller(
                self.words, SIZE, LABELS, cell=cell, hidden_size=UNITS, pooling="last", dropout=0.5
            )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        if not self.tagger:
            return self.labeller(self.words(ids), lengths)[0]
        y, _ = self.layer(self.dropout(self.words(ids)), None, lengths)
        return self.head(self.dropout(y))


def train(rounds: int) -> None:
    """Compare the training speed, in sentences per second."""
    draw = np.random.default_rng(0)
    lengths = np.clip(np.exp(draw.normal(2.6, 0.75, 1600)).astype(int), 3, 60)
    rows = [draw.integers(2, WORDS, n) for n in lengths]
    shuffled = np.array_split(draw.permutation(len(rows)), len(rows) // 32)
    buckets = Buckets(lengths, 1 << 14, 0, rows=32)
    similar = [buckets.rows(k) for k in range(len(shuffled))]
    bf16 = mixed_precision("auto", torch.device("cpu"))

    def epoch(network: nn.Module, batches: list[np.ndarray], tagger: bool) -> Callable[[], None]:
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

        def work() -> None:
            for chosen in batches:
                ids, n = pad([rows[k] for k in chosen], 0)
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    logits = network(ids, n)
                targets = ids % LABELS if tagger else ids[:, 0] % LABELS
                real = real_steps(n, ids.shape[1])
                loss = (
                    cross_entropy(logits[real].float(), targets[real])
                    if tagger
                    else cross_entropy(logits.float(), targets)
                )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()

        return work

    for tagger in (False, True):
        for cell in ("lstm", "gru"):
            ours = epoch(Ours(cell, tagger), similar, tagger)
            pair = side_by_side(ours, epoch(Plain(cell, tagger), shuffled, tagger), rounds, min_seconds=0.0)
            name = f"{'tagger' if tagger else 'classifier'}, Bi{cell.upper()}"
            print(
                f"{name}: elman {len(rows) / pair.ours:,.0f} sentences/s, "
                f"torch.nn packed {len(rows) / pair.theirs:,.0f}: ratio {pair.ratio:.2f}", flush=True,
            )  # fmt: skip


def predict(run: str, lines: int) -> None:
    """Measure the time of one short text in a warm process, and of many lines with the command line."""
    model, times = elman.load(run), []
    for k in range(300):
        start = time.perf_counter()
        model.predict([f"what a lovely film number {k} was"])
        times.append(time.perf_counter() - start)
    print(f"one text: {1000 * statistics.median(times[50:]):.2f} ms")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_text("".join(f"what a lovely film number {k} was, all in all\n" for k in range(lines)))
        start = time.perf_counter()
        with path.open() as lines_file:
            subprocess.run(
                [sys.executable, "-m", "elman", "predict", run], stdin=lines_file, stdout=subprocess.DEVNULL, check=True
            )
        seconds = time.perf_counter() - start
        print(f"{lines:,} lines from a file: {seconds:.1f} s, {lines / seconds:,.0f} per second, startup included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "predict"])
    parser.add_argument("run", nargs="?", help="run directory of a text classifier, for predict")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements (default: 5)")
    parser.add_argument("--lines", type=int, default=100_000, help="number of lines (default: 100000)")
    options = parser.parse_args()
    if options.command == "train":
        train(options.rounds)
    elif options.run is None:
        parser.error("predict: RUN is missing; give the run directory of a text classifier")
    else:
        predict(options.run, options.lines)


if __name__ == "__main__":
    main()
