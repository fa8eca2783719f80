"""Captions: speed of training, of search and of the encoder, compared with plain torch.

    python -m benchmarks.captions train.tsv --images FOLDER --test test.tsv [--rounds 5]

training: captions per second on features that are already encoded. The peer is the decoder of Xu et al. 2015 as
tutorials write it: `nn.LSTMCell` and additive attention in a loop over time steps, batches sorted by length that shrink
as captions end, 1,280 features for each of 49 cells. It has the same sizes, precision, optimizer and number of captions
in a batch. The keys of the attention are computed at each step, as in tutorials, and in a second peer once.
search: captions per second with beam size 3. The peer is a loop over plain torch operations with the same weights, one
picture at a time. encoder: pictures per second of the frozen encoder, with one thread and with two; files are read and
decoded.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence

import elman
from elman.benchmarks.pairs import side_by_side
from elman.config import parse
from elman.data.pictures import Picture
from elman.decoding.beam import Search
from elman.media import Content
from elman.media.image import Image, ImageOptions
from elman.tasks.caption.model import Captioner
from elman.tasks.caption.options import CaptionConfig
from elman.tasks.caption.task import Caption
from elman.tasks.writing.examples import Batch, Examples, batch_of
from elman.training import optimiser
from elman.training.trainer import mixed_precision


class Plain(nn.Module):
    """Attention and decoder of tutorials, with the sizes of an elman model."""

    def __init__(self, model: Captioner, features: int, keys_once: bool) -> None:
        super().__init__()
        config = model.config
        E, H, V = config.embedding_size, int(config.hidden_size or 0), model.target.vocab_size
        self.keys_once, self.hidden_size = keys_once, H
        self.embedding = nn.Embedding(V, E)
        self.key, self.query, self.score = nn.Linear(features, H), nn.Linear(H, H), nn.Linear(H, 1)
        self.gate = nn.Linear(H, features)
        self.first_h, self.first_c = nn.Linear(features, H), nn.Linear(features, H)
        self.cell = nn.LSTMCell(E + features, H)
        self.head, self.dropout = nn.Linear(H, V), nn.Dropout(config.dropout)

    def forward(self, features: Tensor, inputs: Tensor, lengths: list[int]) -> Tensor:
        """Logits (B, T, V) of features (B, S, C) and ids (B, T); lengths decrease."""
        x = self.embedding(inputs)
        mean = features.mean(1)
        h, c = self.first_h(mean), self.first_c(mean)
        keys = self.key(features) if self.keys_once else None
        logits = features.new_zeros(*inputs.shape, self.head.out_features)
        for t in range(max(lengths)):
            n = sum(length > t for length in lengths)
            key = self.key(features[:n]) if keys is None else keys[:n]
            weights = self.score(torch.relu(key + self.query(h[:n])[:, None])).squeeze(2).softmax(1)
            context = (features[:n] * weights[..., None]).sum(1)
            context = torch.sigmoid(self.gate(h[:n])) * context
            h, c = self.cell(torch.cat((x[:n, t], context), 1), (h[:n], c[:n]))
            logits[:n, t] = self.head(self.dropout(h)).to(logits.dtype)
        return logits


def prepared(data: Sequence[str], images: str | None) -> tuple[Captioner, Examples]:
    """Return a captioner with fresh weights and its training examples."""
    model, examples, _ = Caption(parse(CaptionConfig, {"images": images})).prepare(data, [])
    assert isinstance(model, Captioner)
    return model, examples


def training(model: Captioner, examples: Examples, rounds: int) -> None:
    """Compare the speed of a training step, in captions per second."""
    bf16 = mixed_precision("auto", torch.device("cpu"))
    batches = model.batches(examples, 0, 1)
    ours = [batches.batch(k) for k in range(16)]
    rows = round(statistics.mean(len(batch.targets) for batch in ours))
    network: Any = model.network
    head, draw = network.reader.pictures.head, np.random.default_rng(0)
    features = 1280

    def random_batch() -> tuple[Tensor, Tensor, Tensor, list[int]]:
        chosen = sorted(draw.choice(len(examples.rows), rows).tolist(), key=lambda k: -len(examples.target_ids[k]))
        batch: Batch = _batch(model, examples, chosen)
        pictures, _, which = batch.read
        with torch.inference_mode():
            x = head(pictures.mT[..., None])[..., 0].mT  # stored by tutorials; not timed
        return x.clone()[which].contiguous(), batch.inputs, batch.targets, batch.lengths.tolist()

    theirs = [random_batch() for _ in range(16)]

    def stepper(network: nn.Module, loss: Callable[[Any], Tensor], given: Sequence[Any]) -> Callable[[], None]:
        optimizer, cycle = optimiser.build(network, model.config), itertools.cycle(given)

        def train_step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                value = loss(next(cycle))
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

        network.train()
        return train_step

    def plain(keys_once: bool) -> Callable[[], None]:
        network = Plain(model, features, keys_once)

        def loss(batch: tuple[Tensor, Tensor, Tensor, list[int]]) -> Tensor:
            x, inputs, targets, lengths = batch
            logits = pack_padded_sequence(network(x, inputs, lengths), lengths, batch_first=True).data
            wanted = pack_padded_sequence(targets, lengths, batch_first=True).data
            return cross_entropy(logits.float(), wanted, label_smoothing=model.config.label_smoothing)

        return stepper(network, loss, theirs)

    own = stepper(model.network, lambda batch: model.loss(batch, None)[0], ours)
    print(
        f"{model.parameters():,} parameters, vocabulary {model.target.vocab_size:,}, {rows} captions a batch, "
        f"{'bf16' if bf16 else 'float32'}, {torch.get_num_threads()} threads"
    )
    count = statistics.mean(len(batch.targets) for batch in ours)
    for name, peer in (("keys at each step", plain(False)), ("keys once", plain(True))):
        pair = side_by_side(own, peer, rounds, min_seconds=3.0)
        rates = count / pair.ours, rows / pair.theirs
        print(
            f"training: elman {rates[0]:,.0f} captions/s, LSTMCell loop, {name} {rates[1]:,.0f}: "
            f"ratio {rates[0] / rates[1]:.2f}", flush=True,
        )  # fmt: skip


def _batch(model: Captioner, examples: Examples, chosen: Sequence[int]) -> Batch:
    return batch_of(model.collate([examples.rows[k] for k in chosen]), [examples.target_ids[k] for k in chosen])


class Loop:
    """Beam search over plain torch operations, one picture at a time, as tutorials write it."""

    network: Any

    def __init__(self, model: Captioner) -> None:
        self.model = model
        self.network = model.network
        decoder: Any = self.network.decoder
        self.attention, self.output, first = decoder.attention, decoder.output, decoder.layers[0]
        self.cell = nn.LSTMCell(first.input_size, first.hidden_size)
        self.cell.load_state_dict(first.state_dict())
        self.cell.eval()

    @torch.inference_mode()
    def search(self, row: Any, K: int, longest: int) -> list[int]:
        """Return the ids with the largest log probability per token of K hypotheses."""
        memory, state = self.network.read(*self.model.collate([row]))
        V, end, attention = self.model.target.vocab_size, 0, self.attention
        values, keys = memory.values.expand(K, -1, -1), memory.keys.expand(K, -1, -1)
        h, c = (s.expand(K, -1) for s in state.layers[0])
        scores, ids = torch.zeros(K, 1), torch.full((K, 1), end)
        ended: list[tuple[float, list[int]]] = []
        for t in range(longest + 1):
            x = self.network.target(ids[:, -1]) * self.network.scale
            h, c = self.cell(x, (h, c))
            hidden = torch.tanh(keys[:K] + attention.query(h)[:, None])
            weights = attention.score(hidden).squeeze(2).softmax(1)
            context = (values[:K] * weights[..., None]).sum(1)
            logits = self.network.head(torch.tanh(self.output(torch.cat((h, context), 1))))
            logits[:, 1] = -torch.inf  # the unknown word
            total = scores + logits.log_softmax(1)
            best, places = (total[0] if t == 0 else total.flatten()).topk(K)
            parents, tokens = places // V, places % V
            ids = torch.cat((ids[parents], tokens[:, None]), 1)
            h, c, scores = h[parents], c[parents], best[:, None]
            done = tokens == end
            for k in done.nonzero().flatten().tolist():
                ended.append((best[k].item() / (t + 1), ids[k, 1:-1].tolist()))
            K -= int(done.sum())
            if not K:
                break
            ids, h, c, scores = ids[~done], h[~done], c[~done], scores[~done]
        return max(ended)[1] if ended else ids[0, 1:].tolist()


def search(model: Captioner, data: Sequence[str], pictures: int, rounds: int) -> None:
    """Compare the speed of beam search with beam size 3, in captions per second."""
    examples = model.read(data)
    rows = list({row.picture.key: row for row in examples.rows}.values())[:pictures]
    loop, options = Loop(model), parse(Search, {"beam": 3})
    longest = int(model.config.max_length or model.config.max_tokens)
    pair = side_by_side(
        lambda: model._search(rows, options), lambda: [loop.search(row, 3, longest) for row in rows], rounds, 0.0
    )
    found = [hypotheses[0].ids for hypotheses in model._search(rows, options)]
    words = [np.mean([len(ids) for ids in texts]) for texts in (found, [loop.search(row, 3, longest) for row in rows])]
    print(
        f"search: {len(rows)} pictures, elman {pair.ours:.2f} s ({words[0]:.1f} words), the loop {pair.theirs:.1f} s "
        f"({words[1]:.1f} words): ratio {pair.ratio:.1f}", flush=True,
    )  # fmt: skip


def encoding(examples: Examples, pictures: int) -> None:
    """Measure the speed of the frozen encoder, in pictures per second."""
    inputs: list[Any] = examples.inputs
    found: list[Picture] = list({one.picture.digest: one.picture for one in inputs}.values())
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        rates = []
        for k in range(3):
            with tempfile.TemporaryDirectory() as folder:
                os.environ["ELMAN_CACHE"] = folder
                image, part = (
                    Image.learn(parse(ImageOptions, {}), Content([])),
                    found[k * pictures : (k + 1) * pictures],
                )
                start = time.perf_counter()
                image.encode(Content(part), [one.path for one in part])
                rates.append(len(part) / (time.perf_counter() - start))
        print(f"encoder: {count} threads, {statistics.median(rates):.1f} pictures/s", flush=True)
    torch.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="training files")
    parser.add_argument("--images", help="folder or archive of the pictures (default: beside the data)")
    parser.add_argument("--test", nargs="+", help="files for search (default: the training files)")
    parser.add_argument("--run", help="trained captioner for search (default: one that is trained for a minute)")
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements (default: 5)")
    parser.add_argument("--pictures", type=int, default=1000, help="pictures for search (default: 1000)")
    parser.add_argument("--only", choices=["training", "search", "encoder"], help="measure only this")
    arguments = parser.parse_args()
    if arguments.only != "search":
        model, examples = prepared(arguments.data, arguments.images)
        if arguments.only != "encoder":
            training(model, examples, arguments.rounds)
    if arguments.only in (None, "search"):
        options = {"images": arguments.images, "minutes": 1.0, "progress": False}
        trained = elman.load(arguments.run) if arguments.run else elman.train("caption", arguments.data, **options)
        assert isinstance(trained, Captioner)
        search(trained, arguments.test or arguments.data, arguments.pictures, max(1, arguments.rounds // 2))
    if arguments.only in (None, "encoder"):
        encoding(examples, 128)


if __name__ == "__main__":
    main()
