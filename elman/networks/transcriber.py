"""Networks that turn frames of sound into token ids."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, ctc_loss, pad

from elman.layers.attention import AttentionKind
from elman.layers.dropout import SequenceDropout
from elman.layers.lengths import real_steps
from elman.layers.look_ahead import LookAhead
from elman.layers.recurrent import features_only
from elman.layers.stack import stack
from elman.layers.transducer import Joiner, Predictor
from elman.networks.readers import Encoding, Reader
from elman.networks.sequence_to_sequence import RecurrentWriter, embedding


class SoundReader(Reader):
    """Read frames of sound: several at a step, with a deep recurrent network.

    ::

        x_n = [f_{kn}; ...; f_{kn+k-1}]                     f: the frames of the source, k: the stride
        y   = RNN(x), from both ends, or forward with `LookAhead`
        summary = mean of y

    Args:
        source (nn.Module): turns frames, as the medium batches them, into vectors (B, T, D).
        size (int): D.
        cell (str): the cell of every layer.
        hidden_size (int): units of a layer, in each direction.
        num_layers (int): number of layers.
        stride (int): k, the number of frames of a step. Default: 3.
        bidirectional (bool): read in both directions. Default: True.
        look_ahead (int): future steps that a forward network reads. Default: 0.
        dropout (float): dropout between layers, and of the keys. Default: 0.

    Shapes:
        - frames (B, T, ...), lengths (B,) to keys (B, ceil(T / k), E), their lengths, and summary (B, E).
    """

    def __init__(
        self, source: nn.Module, size: int, cell: str, hidden_size: int, num_layers: int, *, stride: int = 3,
        bidirectional: bool = True, look_ahead: int = 0, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.source, self.stride = source, stride
        self.encoder = stack(cell, stride * size, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout)
        features_only(self.encoder)
        self.output_size = self.summary_size = self.encoder.output_size
        self.look_ahead = LookAhead(self.output_size, look_ahead) if look_ahead else None
        self.dropout = SequenceDropout(dropout)

    def steps(self, frames: Any) -> Any:
        """Return the number of steps for a number of frames."""
        return -(-frames // self.stride)

    def stacked(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the steps (B, ceil(T / k), k D) that the recurrence reads; a frame after the last one is 0."""
        x = self.source(frames)
        x = x * real_steps(lengths.to(x.device), x.shape[1])[..., None]
        return pad(x, (0, 0, 0, -x.shape[1] % self.stride)).unflatten(1, (-1, self.stride)).flatten(2)

    def forward(self, frames: Tensor, lengths: Tensor) -> Encoding:
        steps = self.steps(lengths)
        y, _ = self.encoder(self.stacked(frames, lengths), None, steps)
        if self.look_ahead is not None:
            y = self.look_ahead(y)
        return Encoding(self.dropout(y), steps, y.sum(1) / steps.clamp(min=1).to(y)[:, None])


class Transcriber(nn.Module, ABC):
    """p(token ids | sound): ``encoding = network.reader(frames, lengths)``, then `loss`, or a search.

    Id 0 is the blank, or the end.
    """

    @property
    @abstractmethod
    def reader(self) -> SoundReader:
        """The encoder."""

    @abstractmethod
    def required(self, ids: Sequence[int]) -> int:
        """Return the number of encoder steps that these tokens need at least."""

    @abstractmethod
    def of_tokens(self) -> list[Tensor]:
        """Return the weights and biases that have a row for each token."""

    @abstractmethod
    def loss(self, encoding: Encoding, targets: Tensor, lengths: Tensor) -> Tensor:
        """Return -log p of the targets (B, U) of ``lengths`` (B,), for each row, in nats (B,)."""


class SteppingTranscriber(Transcriber, ABC):
    """A recogniser that reads the steps of the encoder one by one, so that it can write while it listens."""

    @abstractmethod
    def scores(self, keys: Tensor) -> Tensor:
        """Return what a search reads of the keys (..., E) of each step."""


def required_steps(ids: Sequence[int]) -> int:
    """Return the number of steps that CTC needs: one for each token, and a blank between two that are equal."""
    return len(ids) + sum(a == b for a, b in itertools.pairwise(ids))


def ctc_nats(head: nn.Linear, encoding: Encoding, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return -log p of the targets (B, U) by connectionist temporal classification, for each row, (B,)."""
    with torch.autocast(targets.device.type, enabled=False):
        scores = head(encoding.keys.float()).log_softmax(-1).transpose(0, 1)
        return ctc_loss(scores, targets, encoding.lengths, lengths, reduction="none")


class CTCTranscriber(SteppingTranscriber):
    """Connectionist temporal classification: at each step a token, or the blank.

    ::

        p(a_n | sound) = softmax(W y_n + b)
        p(text | sound) = sum over all a that become the text when repeats, then blanks, are removed

    Graves et al. 2006, https://doi.org/10.1145/1143844.1143891

    Args:
        reader (SoundReader): the encoder.
        vocab_size (int): V.
    """

    def __init__(self, reader: SoundReader, vocab_size: int) -> None:
        super().__init__()
        self.encoder = reader
        self.head = nn.Linear(reader.output_size, vocab_size)

    @property
    def reader(self) -> SoundReader:
        return self.encoder

    def scores(self, keys: Tensor) -> Tensor:
        """Return the log probability of each token at each step, (..., V) float32."""
        return self.head(keys).float().log_softmax(-1)

    def required(self, ids: Sequence[int]) -> int:
        return required_steps(ids)

    def of_tokens(self) -> list[Tensor]:
        return [self.head.weight, self.head.bias]

    def loss(self, encoding: Encoding, targets: Tensor, lengths: Tensor) -> Tensor:
        return ctc_nats(self.head, encoding, targets, lengths)


class TransducerTranscriber(SteppingTranscriber):
    """A recurrent neural network transducer: what is written next depends on the sound and on the text so far.

    ::

        g_u = RNN(token_u, state)        p(token | n, u) = softmax(W tanh(W_e y_n + W_p g_u + b) + c)
        p(text | sound) = sum over all ways to write the tokens, with a blank at the end of each step

    Graves 2012, https://arxiv.org/abs/1211.3711

    Args:
        reader (SoundReader): the encoder.
        vocab_size (int): V.
        cell (str): the cell over the tokens. Default: "lstm".
        embedding_size (int): size of a token's embedding. Default: 128.
        hidden_size (int): units over the tokens, and of the joint layer. Default: 256.
        dropout (float): dropout of the embedding and of the units over the tokens. Default: 0.
    """

    def __init__(
        self, reader: SoundReader, vocab_size: int, *, cell: str = "lstm", embedding_size: int = 128,
        hidden_size: int = 256, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = reader
        self.predictor = Predictor(vocab_size, embedding_size, hidden_size, cell, dropout=dropout)
        self.joiner = Joiner(reader.output_size, hidden_size, hidden_size, vocab_size)

    @property
    def reader(self) -> SoundReader:
        return self.encoder

    def scores(self, keys: Tensor) -> Tensor:
        return keys

    def required(self, ids: Sequence[int]) -> int:
        """One step: any number of tokens can be written at it."""
        return 1

    def of_tokens(self) -> list[Tensor]:
        return [self.predictor.embedding.weight, self.joiner.output.weight, self.joiner.output.bias]

    def loss(self, encoding: Encoding, targets: Tensor, lengths: Tensor) -> Tensor:
        predictions = self.predictor(targets, lengths)
        return self.joiner.loss(encoding.keys, predictions, targets, encoding.lengths, lengths)


class AttentionTranscriber(Transcriber):
    """A decoder with attention writes the text, beside CTC that keeps the alignment in order.

    ::

        loss = (1 - a) * -log p(text | sound) of the decoder + a * that of CTC

    Chorowski et al. 2015, https://arxiv.org/abs/1506.07503; Watanabe et al. 2017,
    https://doi.org/10.1109/JSTSP.2017.2763455

    Args:
        reader (SoundReader): the encoder.
        vocab_size (int): V.
        cell (str): the cell of the decoder. Default: "lstm".
        embedding_size (int): size of a token's embedding. Default: 128.
        hidden_size (int): units of the decoder. Default: 256.
        kind (str): the attention, a name of `elman.layers.attention.attention`. Default: "location".
        heads (int): heads of multihead and rotary attention. Default: 4.
        ctc (float): a, the share of CTC. Default: 0.3.
        smoothing (float): label smoothing of the decoder. Default: 0.1.
        dropout (float): dropout of embeddings and of the decoder's output. Default: 0.
    """

    def __init__(
        self, reader: SoundReader, vocab_size: int, *, cell: str = "lstm", embedding_size: int = 128,
        hidden_size: int = 256, kind: AttentionKind = "location", heads: int = 4, ctc: float = 0.3,
        smoothing: float = 0.1, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.share, self.smoothing = ctc, smoothing
        self.writer = RecurrentWriter(
            embedding(vocab_size, embedding_size), reader, cell=cell, hidden_size=hidden_size, num_layers=1, kind=kind,
            heads=heads, input_feeding=False, tie=False, dropout=dropout,
        )  # fmt: skip
        self.head = nn.Linear(reader.output_size, vocab_size)

    @property
    def reader(self) -> SoundReader:
        return self.writer.reader  # type: ignore[return-value]

    def ctc_scores(self, keys: Tensor) -> Tensor:
        """Return the log probability of each token at each step by CTC, (B, S, V) float32."""
        return self.head(keys).float().log_softmax(-1)

    def required(self, ids: Sequence[int]) -> int:
        return required_steps(ids)

    def of_tokens(self) -> list[Tensor]:
        own, writer = self.head, self.writer
        return [own.weight, own.bias, writer.target.weight, writer.head.weight, writer.head.bias]

    def loss(self, encoding: Encoding, targets: Tensor, lengths: Tensor) -> Tensor:
        end = targets.new_zeros(len(targets), 1)
        inputs, following = torch.cat((end, targets), 1), torch.cat((targets, end), 1)
        following = following.scatter(1, lengths[:, None], 0)
        y, _ = self.writer.write(inputs, *self.writer.begin(encoding), lengths + 1)
        with torch.autocast(targets.device.type, enabled=False):
            nats = cross_entropy(
                self.writer.head(y.float()).transpose(1, 2), following, reduction="none",
                label_smoothing=self.smoothing if self.training else 0.0,
            )  # fmt: skip
            written = (nats * real_steps(lengths + 1, nats.shape[1])).sum(1)
            return (1 - self.share) * written + self.share * ctc_nats(self.head, encoding, targets, lengths)
