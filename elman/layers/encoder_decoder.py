"""Recurrent encoders and decoders with attention, for sequence-to-sequence networks."""

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
from elman.layers.state import State, flatten, map_state, shapes


def deep_encoder(
    cell: str | Cell, input_size: int, hidden_size: int, num_layers: int, *, gnmt: bool = False, dropout: float = 0.0,
) -> Stack:  # fmt: skip
    """Construct a bidirectional encoder whose output is (B, S, 2 ceil(H / 2)).

    Args:
        cell (str | Cell): The cell.
        input_size (int): D, the number of input features.
        hidden_size (int): H, the number of units of both directions together; rounded up to an even number.
        num_layers (int): The number of layers.
        gnmt (bool): Whether only the first layer is bidirectional, and layers from the third on have residual
            connections (Wu et al. 2016, https://arxiv.org/abs/1609.08144). Default: ``False``.
        dropout (float): The dropout probability between layers. Default: 0.0.

    Returns:
        Stack: The encoder.
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
    """The state of an `AttentiveDecoder`.

    Args:
        layers (tuple[State, ...]): The state of each layer.
        attention (tuple): The state of the attention.
        fed (tuple[Tensor, ...]): With input feeding, the previous output (B, ``output_size``); otherwise empty.
    """

    layers: tuple[State, ...]
    attention: tuple
    fed: tuple


class AttentiveDecoder(nn.Module):
    """A recurrent decoder with attention: ``y, weights, state = decoder(x, memory, state, lengths)``.

    ::

        h^1 = RNN_1(x)                       context_t = attention(h^1_t, memory)
        h^k = RNN_k([h^{k-1}; context])      for k > 1; from the third layer on, plus h^{k-1}
        y   = tanh(W [h^L; context])         with ``residual``, plus context

    The first layer computes the queries, and all layers above it read the context (Wu et al. 2016,
    https://arxiv.org/abs/1609.08144). In training, every layer therefore runs over all steps at once. With
    ``input_feeding``, the first layer reads [x_t; y_{t-1}] (Luong, Pham & Manning 2015,
    https://arxiv.org/abs/1508.04025), and the decoder runs step by step.

    Args:
        cell (str | Cell): The cell of all layers.
        input_size (int): E, the number of input features.
        hidden_size (int): H, the number of units of a layer.
        num_layers (int): L, the number of layers.
        attention (Attention): The attention; its queries have size H.
        output_size (int): The number of output features.
        input_feeding (bool): Whether the previous output is part of the input. Default: ``False``.
        residual (bool): Whether the context is added to the output, which then has its size. Default: ``False``.
        dropout (float): The dropout probability between layers and before the output. Default: 0.0.

    Shapes:
        - x: (B, T, E).
        - memory: See `Attention.read`; S steps.
        - state: A `DecoderState`; None for zeros.
        - lengths: (B,), or None if every row has T steps.
        - y: (B, T, ``output_size``).
        - weights: (B, T, S).

    Raises:
        ValueError: The attention has queries of another size, or with ``residual`` contexts of another size.
        ElmanError: The cell reads raw columns of its input.

    Example::

        >>> attention = elman.layers.attention.General(query_size=16, memory_size=6)
        >>> decoder = AttentiveDecoder("lstm", 8, 16, 2, attention, output_size=10)
        >>> y, weights, state = decoder(torch.randn(4, 3, 8), attention.read(torch.randn(4, 5, 6)))
        >>> y.shape, weights.shape
        (torch.Size([4, 3, 10]), torch.Size([4, 3, 5]))
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
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if attention.query_size != hidden_size:
            raise ValueError(
                f"the attention must have the query_size of the decoder's hidden_size, {hidden_size}, "
                f"got: {attention.query_size}"
            )
        C = attention.output_size
        if residual and output_size != C:
            raise ValueError(f"with residual, output_size must be the size of a context, {C}, got: {output_size}")
        self.attention, self.input_feeding, self.output_size = attention, input_feeding, output_size
        self.residual = residual
        sizes = [input_size + (output_size if input_feeding else 0)] + [hidden_size + C] * (num_layers - 1)
        self.layers = nn.ModuleList(Recurrent(cell, size, hidden_size) for size in sizes)
        features_only(*self.layers)  # type: ignore[arg-type]
        self.dropout = SequenceDropout(dropout)
        self.output = nn.Linear(hidden_size + C, output_size)

    def initial_state(self, x: Tensor) -> DecoderState:
        """Return a state of zeros for the batch of x (B, ...)."""
        fed = (x.new_zeros(x.shape[0], self.output_size),) if self.input_feeding else ()
        return DecoderState(tuple(layer.initial_state(x) for layer in self._layers), (), fed)

    @property
    def _layers(self) -> Sequence[RecurrentLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, memory: Memory, state: DecoderState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """Return y (B, T, output_size), the attention weights (B, T, S), and the new state."""
        state = self.initial_state(x) if state is None else self._checked(state)
        if not self.input_feeding:
            return self._run(x, memory, state, lengths)
        outputs, weights = [], []
        for t in range(x.shape[1]):
            now = None if lengths is None else (lengths > t).long()
            fed = torch.cat((x[:, t : t + 1], state.fed[0][:, None]), -1)
            y, step_weights, new = self._run(fed, memory, state, now)
            state = new._replace(fed=(y[:, 0],))
            outputs.append(y)
            weights.append(step_weights)
        return torch.cat(outputs, 1), torch.cat(weights, 1), state

    def step(self, x: Tensor, memory: Memory, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        """Return y (B, output_size), the attention weights (B, S), and the new state, for x (B, E)."""
        first, *rest = self._layers
        state = self._checked(state)
        h, layer_state = first.step(torch.cat((x, *state.fed), -1), state.layers[0])
        context, weights, attention_state = self.attention.step(h, memory, state.attention)
        new = [layer_state]
        for k, layer in enumerate(rest, 1):
            above, layer_state = layer.step(torch.cat((h, context), -1), state.layers[k])
            h = above + h if k > 1 else above
            new.append(layer_state)
        y = self._output(h, context)
        return y, weights, DecoderState(tuple(new), attention_state, (y,) if self.input_feeding else ())

    def _output(self, h: Tensor, context: Tensor) -> Tensor:
        y = torch.tanh(self.output(torch.cat((h, context), -1)))
        return y + context if self.residual else y

    def _checked(self, state: Any) -> DecoderState:
        """Return the state if it has the structure of this decoder; each layer checks its own part."""
        wanted, feeds = len(self.layers), int(self.input_feeding)
        if not isinstance(state, DecoderState) or len(state.layers) != wanted or len(state.fed) != feeds:
            raise ValueError(
                f"the state must be a DecoderState (layers, attention, fed) of {wanted} layers with {feeds} "
                f"fed tensors, see initial_state; got: {shapes(state)}"
            )
        return state

    def _run(
        self, x: Tensor, memory: Memory, state: DecoderState, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """Run every layer over all steps of x."""
        first, *rest = self._layers
        h, layer_state = first(x, state.layers[0], lengths)
        context, weights, attention_state = self.attention(h, memory, state.attention)
        new = [layer_state]
        for k, layer in enumerate(rest, 1):
            above, layer_state = layer(torch.cat((self.dropout(h), context.to(h.dtype)), -1), state.layers[k], lengths)
            h = above + h if k > 1 else above
            new.append(layer_state)
        y = self._output(self.dropout(h), context.to(h.dtype))
        return y, weights, DecoderState(tuple(new), attention_state, state.fed)


class Bridge(nn.Module):
    """Compute the initial state of a decoder from a summary (B, C) of the input: tanh(W summary + b).

    Args:
        summary_size (int): C.
        decoder (AttentiveDecoder): The decoder whose layers get their state.
    """

    def __init__(self, summary_size: int, decoder: AttentiveDecoder) -> None:
        super().__init__()
        x = torch.zeros(1, 1)
        self.sizes = [part.shape[1] for part in flatten(decoder.initial_state(x).layers).values()]
        self.linear = nn.Linear(summary_size, sum(self.sizes))

    def forward(self, summary: Tensor, first: DecoderState) -> DecoderState:
        """Compute the initial state of the decoder.

        Args:
            summary (Tensor): (B, C).
            first (DecoderState): Any state of the decoder, such as zeros; its attention state and fed output are kept.

        Returns:
            DecoderState: The initial state.
        """
        parts = iter(torch.tanh(self.linear(summary)).split(self.sizes, -1))
        return first._replace(layers=map_state(first.layers, lambda _: next(parts)))
