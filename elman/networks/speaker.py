"""The network that speaks: from symbols of a text to frames of a sound."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from elman.layers.attention import Location, Memory
from elman.layers.dropout import SequenceDropout
from elman.layers.encoder_decoder import AttentiveDecoder, DecoderState, deep_encoder
from elman.layers.lengths import real_steps
from elman.layers.recurrent import features_only
from elman.layers.standardize import Standardize

#: Symbols before and behind the one that was spoken last to which the attention can move.
BACK, AHEAD = 1, 4
#: Steps for which the attention rests on the end before the speech ends, whatever the network says of the end.
_REST = 6
#: The weight of the last step among those of a text, in the loss of where speech ends.
_LAST = 5.0
#: How far from the diagonal attention costs little, as a fraction of the lengths.
_SPREAD = 0.2


class Predicted(NamedTuple):
    """Frames of the right texts, each predicted from the right ones before it.

    Attributes:
        frames (Tensor): (B, T r, M), standardised.
        stops (Tensor): (B, T), the logits of step t being the last one.
        weights (Tensor): (B, T, S), the attention.
    """

    frames: Tensor
    stops: Tensor
    weights: Tensor


class Losses(NamedTuple):
    """The parts of the loss.

    Attributes:
        frames (Tensor): the mean absolute error of the frames, in standard deviations.
        stop (Tensor): the cross-entropy of the last step, in nats.
        guide (Tensor): the attention far from the diagonal, from 0 to 1.
    """

    frames: Tensor
    stop: Tensor
    guide: Tensor


class Utterance(NamedTuple):
    """What the network says of a text.

    Attributes:
        frames (Tensor): (N r, M), standardised.
        weights (Tensor): (N, S), the attention.
        ended (bool): whether the end of the text was reached within the limit.
    """

    frames: Tensor
    weights: Tensor
    ended: bool


class Speaker(nn.Module):
    """Predict log-mel frames of a text, r frames in each step.

    ::

        m    = [BiRNN(embedding of the symbols); speaker]
        x_t  = tanh(U mean of m + c), with fed frames also dropout(relu(P dropout(relu(Q f_{t-1}))))
        y_t  = decoder(x_t) with location attention to m
        f_t  = W y_t + b, r frames        p(end_t) = sigmoid(v . y_t + d)

    Tacotron 2: Shen et al. 2018, https://arxiv.org/abs/1712.05884. Several frames in a step: Wang et al. 2017,
    https://arxiv.org/abs/1703.10135. Guided attention: Tachibana et al. 2018, https://arxiv.org/abs/1710.08969

    Args:
        symbols (int): the number of symbols.
        bands (int): M, the size of a frame.
        frames_per_step (int): r.
        speakers (int): the number of speakers; 1 needs no embedding. Default: 1.
        cell (str): the cell of every layer. Default: "lstm".
        embedding_size (int): the size of the embedding of a symbol. Default: 128.
        hidden_size (int): H, the units of a layer, in the encoder half of them for each direction. Default: 256.
        num_layers (int): the layers of the encoder, and of the decoder. Default: 2.
        dropout (float): dropout between layers. Default: 0.1.
        feed_frames (bool): whether the decoder reads the last frame of the step before. Default: True.
        feed_dropout (float): dropout of what it reads of that frame, in prediction too. Default: 0.5.
    """

    def __init__(
        self,
        symbols: int,
        bands: int,
        frames_per_step: int,
        *,
        speakers: int = 1,
        cell: str = "lstm",
        embedding_size: int = 128,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.1,
        feed_frames: bool = True,
        feed_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        H = hidden_size
        self.bands, self.frames_per_step = bands, frames_per_step
        self.scale = Standardize(bands)
        self.embedding = nn.Embedding(symbols, embedding_size)
        self.encoder = deep_encoder(cell, embedding_size, H, num_layers, dropout=dropout)
        features_only(self.encoder)
        size = self.encoder.output_size
        self.speakers = nn.Embedding(speakers, embedding_size) if speakers > 1 else None
        size += embedding_size if speakers > 1 else 0
        self.summary, fed = nn.Linear(size, H), max(1, H // 4)
        self.fed = nn.ModuleList([nn.Linear(bands, 2 * fed), nn.Linear(2 * fed, fed)] if feed_frames else [])
        self.feed_dropout = SequenceDropout(feed_dropout)
        self.decoder = AttentiveDecoder(
            cell, H + fed * feed_frames, H, num_layers, Location(H, size, H // 2 or 1), H, dropout=dropout
        )
        self.frames, self.stop = nn.Linear(H, frames_per_step * bands), nn.Linear(H, 1)

    @property
    def first_fed(self) -> Tensor | None:
        """The matrix that reads the last frame of the step before; None where the decoder does not read it."""
        return self.fed[0].weight if len(self.fed) else None  # type: ignore[return-value]

    def read(self, ids: Tensor, lengths: Tensor, speakers: Tensor) -> Memory:
        """Return what the decoder attends to.

        Args:
            ids (Tensor): symbols, (B, S).
            lengths (Tensor): (B,).
            speakers (Tensor): the number of the speaker, (B,).
        """
        y, _ = self.encoder(self.embedding(ids), None, lengths)
        if self.speakers is not None:
            y = torch.cat((y, self.speakers(speakers)[:, None].expand(-1, y.shape[1], -1).to(y.dtype)), -1)
        return self.decoder.attention.read(y, lengths)

    def forward(self, ids: Tensor, lengths: Tensor, speakers: Tensor, frames: Tensor, steps: Tensor) -> Predicted:
        """Predict standardised frames (B, T r, M) of ``steps`` (B,) steps, each from the right ones before."""
        B, M = len(ids), self.bands
        memory = self.read(ids, lengths, speakers)
        last = frames.view(B, -1, self.frames_per_step, M)[:, :, -1]
        x = self._inputs(self._summary(memory), torch.cat((last.new_zeros(B, 1, M), last[:, :-1]), 1))
        y, weights, _ = self.decoder(x, memory, None, steps)
        return Predicted(self.frames(y).view(frames.shape).float(), self.stop(y)[..., 0].float(), weights.float())

    def losses(self, predicted: Predicted, frames: Tensor, steps: Tensor, lengths: Tensor) -> Losses:
        """Return the losses of what `forward` predicts of standardised frames (B, T r, M)."""
        (T, S), device = predicted.weights.shape[1:], frames.device
        real, total = real_steps(steps, T), steps.sum()
        errors = (predicted.frames - frames).abs().mean(-1).view(*real.shape, -1).mean(-1)
        t, s = torch.arange(T, device=device)[None, :, None], torch.arange(S, device=device)[None, None]
        away = t / steps[:, None, None] - s / lengths[:, None, None]
        guide = (predicted.weights * (1 - torch.exp(-away.square() / (2 * _SPREAD**2)))).sum(-1)
        ends = (t[..., 0] == steps[:, None] - 1).float()
        stop = binary_cross_entropy_with_logits(
            predicted.stops, ends, reduction="none", pos_weight=torch.tensor(_LAST, device=device)
        )
        return Losses(*((loss * real).sum() / total for loss in (errors, stop, guide)))

    def speak(self, ids: Tensor, lengths: Tensor, speakers: Tensor, limits: Tensor) -> list[Utterance]:
        """Speak texts: predict frames from the model's own ones.

        The attention moves forwards only, by a few symbols in a step. A text ends where the network says so while the
        attention is at its end, and where the attention has rested there.

        Args:
            ids, lengths, speakers: see `read`.
            limits (Tensor): the maximum number of steps, (B,).
        """
        B, S = ids.shape
        memory = self.read(ids, lengths, speakers)
        state: DecoderState = self.decoder.initial_state(memory.values)
        summary, last = self._summary(memory), memory.values.new_zeros(B, 1, self.bands)
        at, rested = torch.zeros_like(lengths), torch.zeros_like(lengths)
        running, steps = limits > 0, torch.zeros_like(lengths)
        ended, places = torch.zeros_like(running), torch.arange(S, device=ids.device)[None]
        frames, weights, draw = [], [], torch.Generator().manual_seed(0)
        while running.any():
            near = (places >= at[:, None] - BACK) & (places <= at[:, None] + AHEAD)
            x = self._inputs(summary, last, draw)[:, 0]
            y, looked, state = self.decoder.step(x, memory._replace(mask=memory.mask & near), state)
            made = self.frames(y).view(B, self.frames_per_step, self.bands)
            last = made[:, -1:]
            frames.append(made)
            weights.append(looked)
            at = torch.maximum(at, looked.argmax(-1))
            rested = torch.where(at >= lengths - 1, rested + 1, 0)
            steps = steps + running
            done = ((self.stop(y)[:, 0] > 0) & (at >= lengths - 1 - BACK)) | (rested > _REST)
            ended |= running & done
            running &= ~done & (steps < limits)
        every, looked = torch.cat(frames, 1), torch.stack(weights, 1)
        return [
            Utterance(every[k, : n * self.frames_per_step], looked[k, :n, :size], bool(end))
            for k, (n, size, end) in enumerate(zip(steps.tolist(), lengths.tolist(), ended.tolist(), strict=True))
        ]

    def raw(self, frames: Tensor) -> Tensor:
        """Return log-mel frames of standardised ones."""
        return (frames * self.scale.deviation + self.scale.mean).float()

    def _summary(self, memory: Memory) -> Tensor:
        """Return a vector (B, 1, H) of the whole text."""
        mask = memory.mask[..., None].to(memory.values.dtype)
        mean = (memory.values * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        return torch.tanh(self.summary(mean))

    def _inputs(self, summary: Tensor, last: Tensor, draw: torch.Generator | None = None) -> Tensor:
        """Return what the decoder reads (B, T, ·), given the last frames of the steps before (B, T, M).

        Numbers of fed frames are dropped in prediction too, or the decoder would rely on its own frames, which are
        smoother than those of a voice. All rows of a batch drop the same ones then.
        """
        summary = summary.expand(-1, last.shape[1], -1)
        if not len(self.fed):
            return summary
        for layer in self.fed:
            last = torch.relu(layer(last))
            if draw is None:
                last = self.feed_dropout(last)
            else:
                kept = torch.rand(last.shape[-1], generator=draw) >= self.feed_dropout.p
                last = last * (kept / (1 - self.feed_dropout.p)).to(last)
        return torch.cat((summary, last.to(summary.dtype)), -1)
