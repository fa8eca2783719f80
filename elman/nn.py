"""Drop-ins for torch.nn's recurrent modules: same constructors, calls, state dicts and numbers.

``import elman.nn as nn`` where it said ``torch.nn``, for RNN, LSTM, GRU and their cells. What runs
inside are elman's engines. Batches of unequal length need no packing: give ``lengths``; a
PackedSequence is taken too, and is run unpacked.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import engines
from elman.cells import CELLS, Cell, Weights
from elman.engines import torch_fused
from elman.engines.modes import shape_of
from elman.layers.arguments import flag, real, size, whole
from elman.layers.bidirectional import reverse
from elman.layers.recurrent import Lengths, check_lengths
from elman.layers.state import shapes

Device = torch.device | str | int | None
#: The fields of `Weights` that torch's modules have, in its order.
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class _Recurrence(nn.RNNBase):
    """What RNN, LSTM and GRU have in common; see those for how to call them.

    The parameters, their start, and all that code for torch's modules looks at (``mode``, ``_flat_weights``,
    ``all_weights``) are those of torch.nn.RNNBase.
    """

    cell: Cell

    def __init__(
        self,
        cell: str,
        mode: str,
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
        sizes = (whole(name, n) for name, n in (("input_size", input_size), ("hidden_size", hidden_size)))
        input_size, hidden_size = sizes
        num_layers, proj_size = whole("num_layers", num_layers), whole("proj_size", proj_size)
        flags = (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional))
        bias, batch_first, bidirectional = (flag(name, value) for name, value in flags)
        if not isinstance(dropout, Real) or isinstance(dropout, bool) or not 0 <= float(dropout) <= 1:
            raise ValueError(f"dropout should be a number in range [0, 1], the probability of a zero; got {dropout!r}")
        # torch's warning would not name the line that builds the module.
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, 0.0, bidirectional, proj_size, device,
            real(dtype),
        )  # fmt: skip
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout is between layers, so dropout={dropout} does nothing with num_layers=1", stacklevel=3
            )
        self.dropout = float(dropout)
        self.cell = CELLS[cell]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _weights(self, k: int) -> Weights:
        """Those of the k-th direction of all, by torch's rule: what code has put into `_flat_weights`, but where the
        attribute of that name has become another tensor since, the attribute."""
        names = self._all_weights[k]
        found: dict[str, Any] = dict.fromkeys(_WEIGHTS)
        for index, name in enumerate(names, k * len(names)):
            weight = self._parameters.get(name)
            if weight is None:
                weight = getattr(self, name, None)  # made anew, by a parametrization say
            if weight is None or (not torch.compiler.is_compiling() and self._known(index) is weight):
                weight = self._flat_weights[index]
            found[name[: name.index("_l")]] = weight
        return Weights(*found.values())

    def _known(self, index: int) -> Tensor | None:
        """The parameter that `_flat_weights` was made from."""
        reference = self._flat_weight_refs[index]
        return None if reference is None else reference()

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths = None
    ) -> tuple[Tensor | PackedSequence, Any]:
        """``output, h_n = rnn(input, hx)``; for the LSTM, ``hx`` and ``h_n`` are pairs (h, c).

        Shapes (D directions, L layers, P = proj_size or H):
            input: (T, B, input_size), with batch_first (B, T, input_size), unbatched
                (T, input_size), or a PackedSequence.
            hx: (L D, B, P), and c (L D, B, H); unbatched without B; None: zeros.
            lengths: (B,) integers (a tensor, an array or a list), beyond torch.nn: the real steps of each row, without
                packing.
            output: as input, with D P features; 0 beyond a row's length.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx, lengths)
        name = type(self).__name__
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a tensor or a PackedSequence, it is a {type(input).__name__}")
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        if shape_of(input)[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        if input.dtype != self.weight_ih_l0.dtype and not torch.is_autocast_enabled(input.device.type):
            raise ValueError(f"{name}: input is {input.dtype}, the parameters are {self.weight_ih_l0.dtype}")
        x = input.unsqueeze(0) if not batched else input if self.batch_first else input.transpose(0, 1)
        if shape_of(x)[1] == 0:
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
        count, B = self.num_layers * self._directions, shape_of(x)[0]
        if hx is None:
            return tuple(x.new_zeros(count, x.shape[0], size) for size in sizes)
        wanted = [(count, B, size) if batched else (count, size) for size in sizes]
        parts = _parts(type(self).__name__, x, hx, wanted)
        for part, expected, label in zip(parts, wanted, ("hidden", "cell"), strict=False):
            if tuple(shape_of(part)) != expected:
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
            for way in range(self._directions):
                ahead = reverse(x, lengths) if way else x
                weights = self._weights(k * self._directions + way)
                y, final = engines.run(engines.Scan(self.cell, weights, ahead, next(slots), lengths))
                outputs.append(reverse(y, lengths) if way else y)
                finals.append(final)
            steps = [y.transpose(0, 1) for y in outputs]  # (T, B, H), as torch's kernels lay it out
            joined = steps[0] if len(steps) == 1 else torch.cat(steps, -1)
            if self.dropout and k + 1 < self.num_layers:
                # torch draws its mask in this order too: the same seed gives the same numbers.
                joined = dropout(joined.contiguous(), self.dropout, self.training)
            x = joined.transpose(0, 1)
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _packed(self, packed: PackedSequence, hx: Any, lengths: Lengths) -> tuple[PackedSequence, Any]:
        if lengths is not None:
            raise ValueError("a PackedSequence carries its lengths; give no others")
        x, packed_lengths = pad_packed_sequence(packed, batch_first=True)
        if shape_of(x)[-1] != self.input_size:
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
        *,
        proj_size: int | None = None,
    ) -> None:
        _no_projection(proj_size)
        cell = _rnn_cell(nonlinearity)
        super().__init__(
            cell, cell.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            device, dtype,
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
        cell = "projected_lstm" if whole("proj_size", proj_size) > 0 else "lstm"
        super().__init__(
            cell, "LSTM", input_size, hidden_size, num_layers, bias,
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
        *,
        proj_size: int | None = None,
    ) -> None:
        _no_projection(proj_size)
        super().__init__(
            "gru", "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device,
            dtype,
        )  # fmt: skip


class _Cell(nn.RNNCellBase):
    """What RNNCell, LSTMCell and GRUCell have in common. Sizes may be 0, as torch's may."""

    cell: Cell

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, bias: bool, device: Device, dtype: torch.dtype | None
    ) -> None:
        gates = len(CELLS[cell].input_gates)
        sizes = size("input_size", input_size, 0), size("hidden_size", hidden_size, 0)
        super().__init__(*sizes, flag("bias", bias), gates, device, real(dtype))
        self.cell = CELLS[cell]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """One step: input (B, input_size) or (input_size), hx as what it gives; None: zeros."""
        by_torch = engines.torch_steps(self.cell)
        if by_torch and self._plain(input, hx):  # torch checks the sizes, but for those of biases
            w_ih, w_hh, b_ih, b_hh = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
            if b_ih is None or b_ih.numel() == b_hh.numel() == len(w_ih):
                return torch_fused.STEPS[type(self.cell)](input, hx, w_ih, w_hh, b_ih, b_hh)
        name = type(self).__name__
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a tensor, it is a {type(input).__name__}")
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if shape_of(input)[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        wanted = [(shape_of(x)[0], self.hidden_size)] * len(self.cell.state)
        if hx is None:
            state = tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in wanted)
        else:
            state = _parts(name, x, hx, [shape if input.dim() == 2 else shape[1:] for shape in wanted])
        for part in state:
            if part.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {part.dim()}D instead")
        state = tuple(part if part.dim() == 2 else part.unsqueeze(0) for part in state)
        for part in state:
            if shape_of(part) != wanted[0]:
                raise RuntimeError(f"hidden has inconsistent size: got {list(part.shape)} expected {list(wanted[0])}")
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)  # type: ignore[arg-type]
        _, new = engines.run(engines.Scan(self.cell, weights, x.unsqueeze(1), state))
        new = new if input.dim() == 2 else tuple(part.squeeze(0) for part in new)
        return new if len(new) > 1 else new[0]

    def _plain(self, input: Any, hx: Any) -> bool:
        """Whether these are a batch and its state, of whatever sizes."""
        if not isinstance(input, Tensor) or input.dim() != 2:
            return False
        if len(self.cell.state) == 1:
            return isinstance(hx, Tensor) and hx.dim() == 2
        return type(hx) is tuple and len(hx) == 2 and all(isinstance(h, Tensor) and h.dim() == 2 for h in hx)


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


def _parts(name: str, x: Tensor, hx: Any, wanted: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """hx as a tuple of so many tensors, of the kind of x; their sizes are the caller's to check.

    ValueError where it is nested in another way: a tensor is no pair, whatever its size. RuntimeError where dtype or
    device differ, as in torch.
    """
    parts = (hx,) if len(wanted) == 1 else hx
    if (
        not isinstance(parts, (tuple, list))
        or len(parts) != len(wanted)
        or not all(isinstance(part, Tensor) for part in parts)
    ):
        form = f"one tensor {wanted[0]}" if len(wanted) == 1 else f"a pair of tensors (h, c), {tuple(wanted)}"
        raise ValueError(f"{name}: hx must be {form}; it is {shapes(hx)}")
    for part in parts:
        if part.device != x.device:
            raise RuntimeError(
                "Input and hidden tensors are not at the same device, found input tensor at "
                f"{x.device} and hidden tensor at {part.device}"
            )
        if part.dtype is not x.dtype and not (part.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise RuntimeError(
                "Input and hidden tensors are not the same dtype, found input tensor with "
                f"{x.dtype} and hidden tensor with {part.dtype}"
            )
    return tuple(parts)


def _no_projection(proj_size: Any) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


def _rnn_cell(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
    return f"rnn_{nonlinearity}"


__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]
