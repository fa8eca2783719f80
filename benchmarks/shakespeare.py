"""Character language models after a minute of training: elman's default settings, compared with a plain torch script.

    python -m benchmarks.shakespeare tinyshakespeare.txt [--minutes 1.12] [--rounds 1]

Both train on the first 90% of the file, one after the other. The loss is that on the last 10%, mean nats per
character.
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
    """Train with elman's default settings and return the validation loss."""
    model = elman.train("language", train, valid=valid, minutes=minutes, seed=seed)
    return model.evaluate(model.held_out())["loss"]


def plain(train: Path, valid: Path, minutes: float, seed: int) -> float:
    """Train an LSTM of 256 units written with torch only (AdamW, cosine schedule, truncated BPTT); return the loss."""
    torch.manual_seed(seed)
    text, valid_text = read_text(str(train)), read_text(str(valid))
    symbols = {c: i for i, c in enumerate(sorted(set(text + valid_text)))}
    ids, valid_ids = (torch.tensor([symbols[c] for c in t]) for t in (text, valid_text))
    embedding = torch.nn.Embedding(len(symbols), 64)
    lstm, head = torch.nn.LSTM(64, 256, batch_first=True), torch.nn.Linear(256, len(symbols))
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, betas=(0.9, 0.99))
    B, T = 32, 64
    streams = ids[: len(ids) // B * B].view(B, -1)
    state, position, start = None, 0, time.perf_counter()
    while (progress := (time.perf_counter() - start) / (60 * minutes)) < 1:
        if position + T + 1 > streams.shape[1]:
            state, position = None, 0
        x, y = streams[:, position : position + T], streams[:, position + 1 : position + T + 1]
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(progress / 0.05, 0.5 + 0.5 * math.cos(math.pi * progress))
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
        for k in range(0, len(valid_ids) - 1, 4096):
            x, y = valid_ids[k : k + 4096], valid_ids[k + 1 : k + 4097]
            h, state = lstm(embedding(x[: len(y)])[None], state)
            total += torch.nn.functional.cross_entropy(head(h)[0], y, reduction="sum").item()
    return total / (len(valid_ids) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="the text")
    parser.add_argument("--minutes", type=float, default=1.12, help="minutes of training of each model (default: 1.12)")
    parser.add_argument("--rounds", type=int, default=1, help="number of repetitions, seeds 0, 1, ... (default: 1)")
    options = parser.parse_args()
    text = read_text(options.file)
    cut = int(0.9 * len(text))
    with tempfile.TemporaryDirectory() as folder:
        train, valid = Path(folder) / "train.txt", Path(folder) / "valid.txt"
        train.write_text(text[:cut], encoding="utf-8")
        valid.write_text(text[cut:], encoding="utf-8")
        losses: dict[str, list[float]] = {"elman, defaults": [], "plain torch, LSTM 256": []}
        for seed in range(options.rounds):
            for (name, values), train_model in zip(losses.items(), (ours, plain), strict=True):
                values.append(train_model(train, valid, options.minutes, seed))
                print(f"seed {seed}  {name}: {values[-1]:.4f}", flush=True)
    for name, values in losses.items():
        print(f"{name:24} {statistics.median(values):.4f} nats per character after {options.minutes:g} minutes")


if __name__ == "__main__":
    main()
