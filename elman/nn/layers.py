"""torch.nn's layers: RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

import warnings
from numbers import Real
from operator import is_
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import engines
from elman.cells import CELLS, Cell, Weights
from elman.engines import torch_fused
from elman.engines.modes import readable, shape_of, transform
from elman.layers.arguments import flag, real, whole
from elman.layers.bidirectional import reverse
from elman.layers.recurrent import Lengths, check_lengths
from elman.nn.arguments import Device, is_state, no_projection, parts_of, rnn_cell


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
        names, flat, known = self._all_weights[k], self._flat_weights, self._flat_weight_refs
        compiling, found = torch.compiler.is_compiling(), []
        for index, name in enumerate(names, k * len(names)):
            weight = self._parameters.get(name)
            if weight is None:
                weight = getattr(self, name, None)  # made anew, by a parametrization say
            reference = known[index]  # to what the flat weight was made from
            if weight is None or (not compiling and reference is not None and reference() is weight):
                weight = flat[index]
            found.append(weight)
        b_ih, b_hh = found[2:4] if self.bias else (None, None)
        return Weights(found[0], found[1], b_ih, b_hh, found[-1] if self.proj_size else None)  # type: ignore[arg-type]

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
        if lengths is None and self._best_by_torch(input, hx):
            return self._by_torch(input, hx)
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

    def _best_by_torch(self, input: Any, hx: Any) -> bool:
        """Whether torch's layer runs this call faster; its parameters, input and state are as torch takes them."""
        if not isinstance(input, Tensor) or input.dim() != 3 or not _is_plain(input):
            return False
        B, T = input.shape[:2] if self.batch_first else input.shape[1::-1]
        if not B or not T or not engines.torch_layers(self.cell, B, T, self.input_size, self.hidden_size):
            return False
        weights, parameters = self._flat_weights, self._parameters
        if len(weights) != len(parameters) or not all(map(is_, weights, parameters.values())):
            return False
        if input.shape[2] != self.input_size or input.dtype is not weights[0].dtype:  # type: ignore[union-attr]
            return False
        if hx is None:
            return True
        shape = (self.num_layers * self._directions, B, self.hidden_size)
        if not is_state(hx, len(self.cell.state), 3):
            return False
        parts = hx if type(hx) is tuple else (hx,)
        return all(part.shape == shape and part.dtype is input.dtype for part in parts)

    def _by_torch(self, input: Tensor, hx: Any) -> tuple[Tensor, Any]:
        if hx is None:
            B = input.shape[0 if self.batch_first else 1]
            zeros = input.new_zeros(self.num_layers * self._directions, B, self.hidden_size)
            hx = (zeros, zeros) if len(self.cell.state) == 2 else zeros
        found = torch_fused.OPERATIONS[type(self.cell)](  # type: ignore[operator]
            input, hx, self._flat_weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional,
            self.batch_first,
        )  # fmt: skip
        return found if len(found) == 2 else (found[0], found[1:])

    def _state_in(self, x: Tensor, hx: Any, batched: bool) -> tuple[Tensor, ...]:
        """hx as the parts of the state, each (L D, B, size); zeros for None."""
        sizes = [self.proj_size or self.hidden_size] + [self.hidden_size] * (len(self.cell.state) - 1)
        count, B = self.num_layers * self._directions, shape_of(x)[0]
        if hx is None:
            return tuple(x.new_zeros(count, x.shape[0], size) for size in sizes)
        wanted = [(count, B, size) if batched else (count, size) for size in sizes]
        parts = parts_of(type(self).__name__, x, hx, wanted)
        for part, expected, label in zip(parts, wanted, ("hidden", "cell"), strict=False):
            if tuple(shape_of(part)) != expected:
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(f"For {kind} input, expected {label} size {expected}, got {list(part.shape)}")
        return parts if batched else tuple(part.unsqueeze(1) for part in parts)

    def _state_out(self, parts: tuple[Tensor, ...]) -> Any:
        return parts if len(parts) > 1 else parts[0]

    def _run(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (B, T, D) through all layers and directions; lengths on x's device."""
        single = lengths is None and _is_plain(x) and x.shape[1] == 1
        single = single and engines.torch_steps(self.cell, len(x), self.input_size, self.hidden_size)
        slots = zip(*(part.unbind(0) for part in state), strict=True)
        finals: list[tuple[Tensor, ...]] = []
        for k in range(self.num_layers):
            outputs = []
            for way in range(self._directions):
                ahead = reverse(x, lengths) if way else x
                weights = self._weights(k * self._directions + way)
                if single:
                    final = torch_fused.step(self.cell, weights, ahead.squeeze(1), next(slots))
                    y = final[0].unsqueeze(1)
                else:
                    y, final = engines.run(engines.Scan(self.cell, weights, ahead, next(slots), lengths))
                outputs.append(reverse(y, lengths) if way else y)
                finals.append(final)
            steps = [y.transpose(0, 1) for y in outputs]  # (T, B, H), as torch's kernels lay it out
            joined = steps[0] if len(steps) == 1 else torch.cat(steps, -1)
            if self.dropout and k + 1 < self.num_layers:
                # torch draws its mask in this order too: the same seed gives the same numbers.
                joined = dropout(joined.contiguous(), self.dropout, self.training)
            x = joined.transpose(0, 1)
        return x, tuple([torch.stack(parts) for parts in zip(*finals, strict=True)])

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


def _is_plain(x: Tensor) -> bool:
    """Whether torch's own operation may take the call: nobody watches it, and autocast, where oneDNN has no LSTM for
    some processors, is off."""
    return readable(x) and not transform() and not torch._C._is_any_autocast_enabled()


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
        no_projection(proj_size)
        cell = rnn_cell(nonlinearity)
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
        no_projection(proj_size)
        super().__init__(
            "gru", "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device,
            dtype,
        )  # fmt: skip
