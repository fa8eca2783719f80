"""Residual blocks around recurrent layers: norm, short convolution, gate and feed-forward network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from elman.layers.arguments import flag, probability, size
from elman.layers.lengths import Lengths, real_steps
from elman.layers.recurrent import RecurrentLayer, check_layer
from elman.layers.state import Sizes, State


class ShortConvolution(RecurrentLayer):
    """A causal convolution of each feature over the last steps, with the state of a recurrent layer.

    ::

        y_t = b + w_0 * x_t + w_1 * x_{t-1} + ... + w_{width-1} * x_{t-width+1}

    Steps before the first one, or before a reset, count as zeros. The convolution starts as the identity.

    Args:
        features (int): The number of features, D.
        width (int): The number of steps. Default: 4.

    Shapes:
        - x, y: (B, T, D).
        - state: (B, width - 1, D), the last inputs, the newest last.
        - lengths, resets: See `RecurrentLayer`.

    Example::

        >>> layer = ShortConvolution(8)
        >>> y, state = layer(torch.randn(4, 10, 8))
        >>> state.shape
        torch.Size([4, 3, 8])
    """

    def __init__(self, features: int, width: int = 4) -> None:
        super().__init__()
        self.input_size = self.output_size = size("features", features)
        self.width = size("width", width)
        self.weight = nn.Parameter(torch.empty(width, features))
        self.bias = nn.Parameter(torch.empty(features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters again: the identity and a little noise."""
        nn.init.uniform_(self.weight, -0.1, 0.1)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.weight[0] += 1

    def sizes(self) -> Sizes:
        return torch.Size((self.width - 1, self.input_size))

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        state = self.initial_state(x) if state is None else state
        T, before = x.shape[1], self.width - 1
        real = None if lengths is None else real_steps(lengths, T)[..., None]
        x = x if real is None else x.masked_fill(~real, 0.0)
        window = torch.cat((state.to(x.dtype), x), 1)
        y = self.bias + self.weight[0] * x
        seen = None if resets is None else ~resets  # whether a step and the one k before lie in the same sequence
        for k in range(1, self.width):
            past = window[:, before - k : before - k + T]
            y = y + self.weight[k] * (past if seen is None else past.masked_fill(~seen[..., None], 0.0))
            if seen is not None and resets is not None:
                earlier = torch.nn.functional.pad(resets[:, : max(T - k, 0)], (min(k, T), 0))
                seen = seen & ~earlier
        y = y if real is None else torch.where(real, y, 0.0)
        return y, self._last(window, lengths, resets)

    def _last(self, window: Tensor, lengths: Tensor | None, resets: Tensor | None) -> Tensor:
        """Return the last inputs of each row; zeros before its last reset."""
        B, before = window.shape[0], self.width - 1
        T = window.shape[1] - before
        n = torch.full((B,), T, device=window.device) if lengths is None else lengths
        index = n[:, None] + torch.arange(before, device=window.device)  # in the window, which begins before step 0
        last = window.gather(1, index[..., None].expand(-1, -1, window.shape[2]))
        if resets is None or not T:
            return last.clone()
        steps = torch.arange(T, device=window.device)
        newest = torch.where(resets, steps, -before - 1).amax(1)  # the step of the last reset
        return last.masked_fill((index - before < newest[:, None])[..., None], 0.0)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state = self(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def extra_repr(self) -> str:
        """Return the options, as ``repr`` prints them."""
        return f"{self.input_size}, width={self.width}"


class Block(RecurrentLayer):
    """A recurrent layer inside a residual block, as recurrences that train in parallel are used in their papers.

    ::

        u = norm(x)
        x' = skip(x) + W_o (silu(W_g u) * layer(convolution(W_i u)))
        y = x' + W_2 (silu(W_1 norm(x')) * W_3 norm(x'))

    The norms are RMS norms with a scale. ``skip`` is the identity, or a matrix where the sizes of x and y differ. De et
    al. 2024 (Griffin), https://arxiv.org/abs/2402.19427; Beck et al. 2024 (xLSTM), https://arxiv.org/abs/2405.04517;
    the feed-forward network of Shazeer 2020, https://arxiv.org/abs/2002.05202

    Args:
        layer (RecurrentLayer): The recurrent layer, without raw columns.
        input_size (int): The number of features of x, D.
        output_size (int, optional): The number of features of y, H. Default: ``None``, D.
        width (int): The steps of the short convolution; 1: none. Not for a layer that reads in both directions, where
            it would be causal in one direction only. Default: 4; 1 if the layer is not causal.
        expansion (float): The hidden units of the feed-forward network, as a multiple of H. Default: 2.0.
        dropout (float): The dropout probability of both additions. Default: 0.0.
        normalized (bool): Whether y is normalised too, as the output of the last block is. Default: ``False``.

    Shapes:
        - x: (B, T, D).
        - y: (B, T, H).
        - state: (state of the convolution, state of the layer); (state of the layer,) without a convolution.
        - lengths, resets: See `RecurrentLayer`.

    Raises:
        TypeError: ``layer`` is not a `RecurrentLayer`.
        ValueError: A size is out of range, or the layer reads raw columns.

    Example::

        >>> from elman.layers import Recurrent
        >>> block = Block(Recurrent("gru", 16, 32), input_size=8)
        >>> y, state = block(torch.randn(4, 10, 8))
        >>> y.shape
        torch.Size([4, 10, 8])
    """

    def __init__(
        self,
        layer: RecurrentLayer,
        input_size: int,
        output_size: int | None = None,
        width: int | None = None,
        expansion: float = 2.0,
        dropout: float = 0.0,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        check_layer("layer", layer)
        if layer.raw:
            raise ValueError(f"a block gives its layer no raw columns; the layer reads {', '.join(layer.raw)}")
        self.input_size = D = size("input_size", input_size)
        self.output_size = H = D if output_size is None else size("output_size", output_size)
        self.causal = layer.causal
        width = (4 if layer.causal else 1) if width is None else size("width", width)
        if width > 1 and not layer.causal:
            raise ValueError(f"width must be 1 for a layer that reads in both directions, got: {width}")
        if not expansion > 0:
            raise ValueError(f"expansion must be above 0, got: {expansion}")
        inner = max(1, round(expansion * H))
        self.skip: nn.Module = nn.Identity() if D == H else nn.Linear(D, H, bias=False)
        self.norm, self.inward = nn.RMSNorm(D), nn.Linear(D, layer.input_size)
        self.convolution = ShortConvolution(layer.input_size, width) if width > 1 else None
        self.layer = layer
        self.gate, self.outward = nn.Linear(D, layer.output_size), nn.Linear(layer.output_size, H)
        self.second_norm, self.hidden, self.back = nn.RMSNorm(H), nn.Linear(H, 2 * inner), nn.Linear(inner, H)
        self.dropout = nn.Dropout(probability("dropout", dropout))
        self.last_norm = nn.RMSNorm(H) if flag("normalized", normalized) else None

    def sizes(self) -> Sizes:
        return self._joined(None if self.convolution is None else self.convolution.sizes(), self.layer.sizes())

    def forward(
        self, x: Tensor, state: State = None, lengths: Lengths = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        x, lengths, resets = self.check(x, lengths, resets)
        self.check_state(x, state)
        if lengths is not None:
            real = real_steps(lengths, x.shape[1])[..., None]
            x = x.masked_fill(~real, 0.0)
        convolved, recurrent = self._split(state)
        u = _normalized(self.norm, x)
        v = self.inward(u)
        if self.convolution is not None:
            v, convolved = self.convolution(v, convolved, lengths, resets)
        y, recurrent = self.layer(v, recurrent, lengths, resets)
        y = self._outside(x, u, y)
        return (y if lengths is None else torch.where(real, y, 0.0)), self._joined(convolved, recurrent)

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is not None:
            self.check_state(x, state)
        convolved, recurrent = self._split(state)
        u = _normalized(self.norm, x)
        v = self.inward(u)
        if self.convolution is not None:
            v, convolved = self.convolution.step(v, convolved)
        y, recurrent = self.layer.step(v, recurrent)
        return self._outside(x, u, y), self._joined(convolved, recurrent)

    def _split(self, state: State) -> tuple[State, State]:
        """Return the states of the convolution and of the layer."""
        if state is None:
            return None, None
        return (None, state[0]) if self.convolution is None else tuple(state)

    def _joined(self, convolved: State, recurrent: State) -> State:
        return (recurrent,) if self.convolution is None else (convolved, recurrent)

    def _outside(self, x: Tensor, u: Tensor, y: Tensor) -> Tensor:
        """Return the output, for the input x, the same normalised, and the output y of the layer."""
        x = self.skip(x) + self.dropout(self.outward(silu(self.gate(u)) * y))
        a, b = self.hidden(_normalized(self.second_norm, x)).chunk(2, -1)
        y = x + self.dropout(self.back(silu(a) * b))
        return y if self.last_norm is None else _normalized(self.last_norm, y)


def _normalized(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """Return the norm of x, computed in the dtype of its scale, also under autocast."""
    return norm(x.to(norm.weight.dtype))
