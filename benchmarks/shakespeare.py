"""A minute of character language modelling, elman's defaults beside a plain torch script, one after the other.

    python -m benchmarks.shakespeare tinyshakespeare.txt [--minutes 1.12] [--rounds 1]

Both take the first 90% of the file and are measured on the last 10%, in mean nats a character.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import torch

import elman
from elman.data import read_text


def ours(train: Path, valid: Path, minutes: float, seed: int) -> float:
    """elman's default settings: nothing is given but the files and the time."""
    model = elman.train("language", train, valid=valid, minutes=minutes, seed=seed)
    return model.evaluate(model.held_out())["loss"]


def plain(train: Path, valid: Path, minutes: float, seed: int) -> float:
    """An LSTM of 256 units as one would write it with torch alone: Adam, cosine, truncated BPTT."""
    torch.manual_seed(seed)
    text, held = read_text(str(train)), read_text(str(valid))
    symbols = {c: i for i, c in enumerate(sorted(set(text + held)))}
    ids, held_ids = (torch.tensor([symbols[c] for c in t]) for t in (text, held))
    embedding = torch.nn.Embedding(len(symbols), 64)
    lstm, head = torch.nn.LSTM(64, 256, batch_first=True), torch.nn.Linear(256, len(symbols))
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, betas=(0.9, 0.99))
    B, T = 32, 64
    streams = ids[: len(ids) // B * B].view(B, -1)
    state, position, began = None, 0, time.perf_counter()
    while (done := (time.perf_counter() - began) / (60 * minutes)) < 1:
        if position + T + 1 > streams.shape[1]:
            state, position = None, 0
        x, y = streams[:, position : position + T], streams[:, position + 1 : position + T + 1]
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(done / 0.05, 0.5 + 0.5 * math.cos(math.pi * done))
        h, state = lstm(embedding(x), state)
        state = tuple(part.detach() for part in state)
        loss = torch.nn.functional.cross_entropy(head(h).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        position += T
    total, state = 0.0, None
    with torch.inference_mode():
        for start in range(0, len(held_ids) - 1, 4096):
            x, y = held_ids[start : start + 4096], held_ids[start + 1 : start + 4097]
            h, state = lstm(embedding(x[: len(y)])[None], state)
            total += torch.nn.functional.cross_entropy(head(h)[0], y, reduction="sum").item()
    return total / (len(held_ids) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--minutes", type=float, default=1.12)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    text = read_text(given.file)
    cut = int(0.9 * len(text))
    with tempfile.TemporaryDirectory() as folder:
        train, valid = Path(folder) / "train.txt", Path(folder) / "valid.txt"
        train.write_text(text[:cut], encoding="utf-8")
        valid.write_text(text[cut:], encoding="utf-8")
        losses: dict[str, list[float]] = {"elman, defaults": [], "plain torch, LSTM 256": []}
        for seed in range(given.rounds):
            for (name, values), work in zip(losses.items(), (ours, plain), strict=True):
                values.append(work(train, valid, given.minutes, seed))
                print(f"seed {seed}  {name}: {values[-1]:.4f}", flush=True)
    for name, values in losses.items():
        print(f"{name:24} {statistics.median(values):.4f} nats a character in {given.minutes:g} minutes")


if __name__ == "__main__":
    main()
