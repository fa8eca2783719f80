"""Recurrent encoders and decoders: one sequence read, another one written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.cells import Cell
from elman.layers.attention import Attention, Memory
from elman.layers.bidirectional import Bidirectional
from elman.layers.dropout import SequenceDropout
from elman.layers.recurrent import Recurrent, RecurrentLayer, features_only
from elman.layers.stack import Stack, stack
from elman.layers.state import State, flatten, over, shapes


def deep_encoder(
    cell: str | Cell, input_size: int, hidden_size: int, num_layers: int, *, gnmt: bool = False, dropout: float = 0.0,
) -> Stack:  # fmt: skip
    """An encoder that reads from both ends: y is (B, S, 2 ceil(H / 2)).

    Each direction has half of the units. With ``gnmt`` the first layer alone is bidirectional, and from the third
    on each adds to what it reads (Wu et al. 2016, https://arxiv.org/abs/1609.08144).
    """
    half = (hidden_size + 1) // 2
    if not gnmt:
        return stack(cell, input_size, half, num_layers, bidirectional=True, dropout=dropout)
    both = Bidirectional(Recurrent(cell, input_size, half), Recurrent(cell, input_size, half))
    size = both.output_size
    above = [Recurrent(cell, size, size) for _ in range(num_layers - 1)]
    if len(above) < 2:
        return Stack([both, *above], dropout=dropout)
    return Stack([Stack([both, above[0]], dropout=dropout), *above[1:]], "residual", dropout)


class DecoderState(NamedTuple):
    """layers: of each one; attention: what it knows of the past; fed: (B, C), what is fed in, or () for nothing."""

    layers: tuple[State, ...]
    attention: tuple
    fed: tuple


class AttentiveDecoder(nn.Module):
    """A recurrent stack that looks at a memory: ``y, weights, state = decoder(x, memory, state, lengths)``.

    ::

        h^1 = RNN_1(x)                       context_t = attention(h^1_t, memory)
        h^k = RNN_k([h^{k-1}; context])      for k > 1, plus h^{k-1} from the third layer on
        y   = tanh(W [h^L; context])         (Luong's attentional vector)

    So attention goes from the first layer to all (Wu et al. 2016, https://arxiv.org/abs/1609.08144), and in training
    every layer runs over all steps at once. With ``input_feeding`` y_{t-1} is read beside x_t (Luong, Pham & Manning
    2015, https://arxiv.org/abs/1508.04025): then it goes step by step.

    Shapes:
        x (B, T, E), lengths (B,) or None; y (B, T, ``output_size``); weights (B, T, S).
    """

    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        attention: Attention,
        output_size: int,
        *,
        input_feeding: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if attention.query_size != hidden_size:
            raise ValueError(f"the attention's queries must be of the decoder's size, {hidden_size}")
        self.attention, self.input_feeding, self.output_size = attention, input_feeding, output_size
        C = attention.output_size
        sizes = [input_size + (output_size if input_feeding else 0)] + [hidden_size + C] * (num_layers - 1)
        self.layers = nn.ModuleList(Recurrent(cell, size, hidden_size) for size in sizes)
        features_only(*self.layers)  # type: ignore[arg-type]
        self.dropout = SequenceDropout(dropout)
        self.output = nn.Linear(hidden_size + C, output_size)

    def initial_state(self, x: Tensor) -> DecoderState:
        """Zeros for the batch of x."""
        fed = (x.new_zeros(x.shape[0], self.output_size),) if self.input_feeding else ()
        return DecoderState(tuple(layer.initial_state(x) for layer in self._layers), (), fed)

    @property
    def _layers(self) -> Sequence[RecurrentLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, memory: Memory, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        state = self.initial_state(x) if state is None else self._checked(state)
        if not self.input_feeding:
            return self._over(x, memory, state, lengths)
        outputs, weights = [], []
        for t in range(x.shape[1]):
            now = None if lengths is None else (lengths > t).long()
            y, looked, new = self._over(torch.cat((x[:, t : t + 1], state.fed[0][:, None]), -1), memory, state, now)
            state = new._replace(fed=(y[:, 0],))
            outputs.append(y)
            weights.append(looked)
        return torch.cat(outputs, 1), torch.cat(weights, 1), state

    def step(self, x: Tensor, memory: Memory, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """One step: x (B, E) to y (B, C), weights (B, S) and the state; fast where gradients are off."""
        first, *rest = self._layers
        state = self._checked(state)
        h, layer_state = first.step(torch.cat((x, *state.fed), -1), state.layers[0])
        context, weights, attended = self.attention.step(h, memory, state.attention)
        new = [layer_state]
        for k, layer in enumerate(rest, 1):
            above, layer_state = layer.step(torch.cat((h, context), -1), state.layers[k])
            h = above + h if k > 1 else above
            new.append(layer_state)
        y = torch.tanh(self.output(torch.cat((h, context), -1)))
        return y, weights, DecoderState(tuple(new), attended, (y,) if self.input_feeding else ())

    def _checked(self, state: Any) -> DecoderState:
        """The state, if it is one of this decoder; of the parts of its layers each layer sees to its own."""
        wanted, feeds = len(self.layers), int(self.input_feeding)
        if not isinstance(state, DecoderState) or len(state.layers) != wanted or len(state.fed) != feeds:
            raise ValueError(
                f"the state must be a DecoderState (layers, attention, fed) of {wanted} layers with {feeds} tensors "
                f"fed in, as initial_state gives it; it is {shapes(state)}"
            )
        return state

    def _over(
        self, x: Tensor, memory: Memory, state: DecoderState, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        first, *rest = self._layers
        h, layer_state = first(x, state.layers[0], lengths)
        context, weights, attended = self.attention(h, memory, state.attention)
        new = [layer_state]
        for k, layer in enumerate(rest, 1):
            above, layer_state = layer(torch.cat((self.dropout(h), context.to(h.dtype)), -1), state.layers[k], lengths)
            h = above + h if k > 1 else above
            new.append(layer_state)
        y = torch.tanh(self.output(torch.cat((self.dropout(h), context.to(h.dtype)), -1)))
        return y, weights, DecoderState(tuple(new), attended, state.fed)


class Bridge(nn.Module):
    """The decoder's first state from the encoder's last: tanh(W s + b), s all that the encoder's last layer knows."""

    def __init__(self, encoder: Stack, decoder: AttentiveDecoder) -> None:
        super().__init__()
        x = torch.zeros(1, encoder.input_size)
        self.sizes = [part.shape[1] for part in flatten(decoder.initial_state(x).layers).values()]
        known = sum(part.shape[1] for part in flatten(_last(encoder.initial_state(x))).values())
        self.linear = nn.Linear(known, sum(self.sizes))

    def forward(self, encoded: State, first: DecoderState) -> DecoderState:
        """``first``: a state of the decoder, of the right form."""
        known = torch.cat(list(flatten(_last(encoded)).values()), -1)
        parts = iter(torch.tanh(self.linear(known)).split(self.sizes, -1))
        return first._replace(layers=over(first.layers, lambda _: next(parts)))


def _last(state: State) -> Any:
    """What the last layer of a stack knows."""
    return state[-1]
