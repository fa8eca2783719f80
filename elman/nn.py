"""Drop-ins for torch.nn's recurrent modules: same constructors, calls, state dicts and numbers.

``import elman.nn as nn`` where it said ``torch.nn``, for RNN, LSTM, GRU and their cells. What runs
inside are elman's engines. Batches of unequal length need no packing: give ``lengths``; a
PackedSequence is taken too, and is run unpacked.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import engines
from elman.cells import CELLS, Weights
from elman.layers.bidirectional import reverse
from elman.layers.recurrent import check_lengths

Device = torch.device | str | int | None


class _Recurrence(nn.Module):
    """What RNN, LSTM and GRU have in common; see those for how to call them."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Device,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        for name, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(size, int):
                raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"dropout should be a number in range [0, 1], the probability of a zero; got {dropout!r}")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout is between layers, so dropout={dropout} does nothing with num_layers=1", stacklevel=3
            )
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size has to be zero or positive and smaller than hidden_size, got {proj_size}")
        self.cell = CELLS[cell]
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size

        rows, size = len(self.cell.input_gates) * hidden_size, proj_size or hidden_size
        for k in range(num_layers):
            features = input_size if k == 0 else size * self._directions
            for suffix in self._suffixes(k):
                shapes = {"weight_ih": (rows, features), "weight_hh": (rows, size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}  # type: ignore[dict-item]
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, k: int) -> tuple[str, ...]:
        return (f"_l{k}", f"_l{k}_reverse") if self.bidirectional else (f"_l{k}",)

    def reset_parameters(self) -> None:
        """All parameters uniform in plus or minus 1 / sqrt(hidden_size), drawn in torch's order."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _weights(self, suffix: str) -> Weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return Weights(*(getattr(self, name + suffix, None) for name in names))  # type: ignore[arg-type]

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction."""
        suffixes = [suffix for k in range(self.num_layers) for suffix in self._suffixes(k)]
        return [[p for p in self._weights(suffix)[:5] if p is not None] for suffix in suffixes]  # type: ignore[misc]

    def flatten_parameters(self) -> None:
        """Does nothing; it is here for code that calls torch.nn's. The engines arrange the weights."""

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Any]:
        """``output, h_n = rnn(input, hx)``; for the LSTM, ``hx`` and ``h_n`` are pairs (h, c).

        Shapes (D directions, L layers, P = proj_size or H):
            input: (T, B, input_size), with batch_first (B, T, input_size), unbatched
                (T, input_size), or a PackedSequence.
            hx: (L D, B, P), and c (L D, B, H); unbatched without B; None: zeros.
            lengths: (B,) integers, beyond torch.nn: the real steps of each row, without packing.
            output: as input, with D P features; 0 beyond a row's length.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx, lengths)
        name = type(self).__name__
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        if input.dtype != self.weight_ih_l0.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"{name}: input is {input.dtype}, the parameters are {self.weight_ih_l0.dtype}")
        x = input.unsqueeze(0) if not batched else input if self.batch_first else input.transpose(0, 1)
        if x.shape[1] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if lengths is not None:
            lengths = check_lengths(lengths, x)
        y, state = self._run(x, self._state_in(x, hx, batched), lengths)
        if batched:
            return (y if self.batch_first else y.transpose(0, 1)), self._state_out(state)
        return y.squeeze(0), self._state_out(tuple(part.squeeze(1) for part in state))

    def _state_in(self, x: Tensor, hx: Any, batched: bool) -> tuple[Tensor, ...]:
        """hx as the parts of the state, each (L D, B, size); zeros for None."""
        sizes = [self.proj_size or self.hidden_size] + [self.hidden_size] * (len(self.cell.state) - 1)
        count, B = self.num_layers * self._directions, x.shape[0]
        if hx is None:
            return tuple(x.new_zeros(count, B, size) for size in sizes)
        parts = tuple(hx) if len(sizes) > 1 else (hx,)
        if len(parts) != len(sizes) or not all(isinstance(part, Tensor) for part in parts):
            raise RuntimeError(f"hx must be {'a pair (h_0, c_0)' if len(sizes) > 1 else 'one tensor h_0'}")
        for part, size, label in zip(parts, sizes, ("hidden", "cell"), strict=False):
            expected = (count, B, size) if batched else (count, size)
            if tuple(part.shape) != expected:
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(f"For {kind} input, expected {label} size {expected}, got {list(part.shape)}")
        return parts if batched else tuple(part.unsqueeze(1) for part in parts)

    def _state_out(self, parts: tuple[Tensor, ...]) -> Any:
        return parts if len(parts) > 1 else parts[0]

    def _run(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (B, T, D) through all layers and directions; lengths on x's device."""
        slots = zip(*(part.unbind(0) for part in state), strict=True)
        finals: list[tuple[Tensor, ...]] = []
        for k in range(self.num_layers):
            outputs = []
            for way, suffix in enumerate(self._suffixes(k)):
                ahead = reverse(x, lengths) if way else x
                y, final = engines.run(engines.Scan(self.cell, self._weights(suffix), ahead, next(slots), lengths))
                outputs.append(reverse(y, lengths) if way else y)
                finals.append(final)
            steps = [y.transpose(0, 1) for y in outputs]  # (T, B, H), as torch's kernels lay it out
            joined = steps[0] if len(steps) == 1 else torch.cat(steps, -1)
            if self.dropout and k + 1 < self.num_layers:
                # torch draws its mask in this order too: the same seed gives the same numbers.
                joined = dropout(joined.contiguous(), self.dropout, self.training)
            x = joined.transpose(0, 1)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _packed(self, packed: PackedSequence, hx: Any, lengths: Tensor | None) -> tuple[PackedSequence, Any]:
        if lengths is not None:
            raise ValueError("a PackedSequence carries its lengths; give no others")
        x, packed_lengths = pad_packed_sequence(packed, batch_first=True)
        if x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )
        y, state = self._run(x, self._state_in(x, hx, True), packed_lengths.to(x.device))
        if packed.sorted_indices is not None:
            y = y.index_select(0, packed.sorted_indices)
            packed_lengths = packed_lengths[packed.sorted_indices.cpu()]
        again = pack_padded_sequence(y, packed_lengths, batch_first=True)
        output = PackedSequence(again.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return output, self._state_out(state)

    def extra_repr(self) -> str:
        shown = {
            "proj_size": self.proj_size, "num_layers": self.num_layers if self.num_layers != 1 else 0,
            "bias": None if self.bias else "False", "batch_first": self.batch_first,
            "dropout": self.dropout, "bidirectional": self.bidirectional,
        }  # fmt: skip
        return f"{self.input_size}, {self.hidden_size}" + "".join(f", {k}={v}" for k, v in shown.items() if v)


class RNN(_Recurrence):
    """torch.nn.RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu; `elman.cells.RNNTanh`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            _rnn_cell(nonlinearity), input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(_Recurrence):
    """torch.nn.LSTM, with proj_size; the equations: `elman.cells.LSTM`, `elman.cells.ProjectedLSTM`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "projected_lstm" if proj_size > 0 else "lstm", input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, proj_size, device, dtype,
        )  # fmt: skip


class GRU(_Recurrence):
    """torch.nn.GRU; the equations: `elman.cells.GRU`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "gru", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )


class _Cell(nn.Module):
    """What RNNCell, LSTMCell and GRUCell have in common."""

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, bias: bool, device: Device, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.cell = CELLS[cell]
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = len(self.cell.input_gates) * hidden_size
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        for name in ("bias_ih", "bias_hh"):
            vector = nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, vector)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All parameters uniform in plus or minus 1 / sqrt(hidden_size), drawn in torch's order."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """One step: input (B, input_size) or (input_size), hx as what it gives; None: zeros."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        state = (hx if len(self.cell.state) > 1 else (hx,)) if hx is not None else None
        if state is None:
            state = tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in self.cell.state)
        for part in state:
            if part.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {part.dim()}D instead")
        state = tuple(part if part.dim() == 2 else part.unsqueeze(0) for part in state)
        for part in state:
            if part.shape != (x.shape[0], self.hidden_size):
                raise RuntimeError(
                    f"hidden has inconsistent size: got {list(part.shape)} expected {[x.shape[0], self.hidden_size]}"
                )
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)  # type: ignore[arg-type]
        _, new = engines.run(engines.Scan(self.cell, weights, x.unsqueeze(1), state))
        new = new if input.dim() == 2 else tuple(part.squeeze(0) for part in new)
        return new if len(new) > 1 else new[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """torch.nn.RNNCell: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(_rnn_cell(nonlinearity), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """torch.nn.LSTMCell: ``h, c = cell(x, (h, c))``."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """torch.nn.GRUCell: ``h = cell(x, h)``."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)


def _rnn_cell(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
    return f"rnn_{nonlinearity}"


__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]
