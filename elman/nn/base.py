"""The base of `elman.nn.RNN`, `LSTM` and `GRU`: torch.nn.RNNBase, run by elman's engines."""

from __future__ import annotations

import warnings
from numbers import Real
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import engines
from elman.cells import CELLS, Cell, Weights
from elman.engines import torch_fused
from elman.engines.modes import readable, shape_of, transform
from elman.layers.arguments import flag, floating_dtype, integer
from elman.layers.bidirectional import reverse
from elman.layers.lengths import Lengths, check_lengths
from elman.layers.recurrence import Bound, HasRecurrences, Recurrence
from elman.nn.arguments import Device, is_state, state_parts


class RNNBase(nn.RNNBase, HasRecurrences):
    """The common base of RNN, LSTM and GRU.

    Parameters, their initialisation, and the attributes that code written for torch's modules reads (``mode``,
    ``_flat_weights``, ``all_weights``) are those of torch.nn.RNNBase. Each layer and direction is an
    `elman.layers.recurrence.Recurrence`. It gets the current parameters at every call, because registering them
    under a second name would change ``named_parameters``, ``state_dict`` and ``functional_call``.
    """

    _recurrences: list[Recurrence]

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
        sizes = (integer(name, n) for name, n in (("input_size", input_size), ("hidden_size", hidden_size)))
        input_size, hidden_size = sizes
        num_layers, proj_size = integer("num_layers", num_layers), integer("proj_size", proj_size)
        flags = (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional))
        bias, batch_first, bidirectional = (flag(name, value) for name, value in flags)
        if not isinstance(dropout, Real) or isinstance(dropout, bool) or not 0 <= float(dropout) <= 1:
            raise ValueError(f"dropout should be a number in range [0, 1], the probability of a zero; got {dropout!r}")
        # dropout is set below: torch's warning would not point to the line that builds the module.
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, 0.0, bidirectional, proj_size, device,
            floating_dtype(dtype),
        )  # fmt: skip
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout is between layers, so dropout={dropout} does nothing with num_layers=1", stacklevel=3
            )
        self.dropout = float(dropout)
        self._recurrences = [Recurrence(CELLS[cell]) for _ in self._all_weights]

    @property
    def cell(self) -> Cell:
        """The equations."""
        return self._recurrences[0].cell

    def recurrences(self) -> list[Bound]:
        """Return one entry for each layer and direction, named by the suffix of its parameters: ``l0_reverse``."""
        names = [names[0].removeprefix("weight_ih_") for names in self._all_weights]
        return [
            Bound(name, recurrence, self._weights(k), name.endswith("_reverse"))
            for k, (name, recurrence) in enumerate(zip(names, self._recurrences, strict=True))
        ]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _weights(self, k: int) -> Weights:
        """Return the weights of the k-th direction, counted over all layers.

        As in torch, they are those in `_flat_weights`; but where the attribute of that name has been replaced since
        `_flat_weights` was made, the attribute counts.
        """
        names, flat, references = self._all_weights[k], self._flat_weights, self._flat_weight_refs
        compiling, weights = torch.compiler.is_compiling(), []
        for index, name in enumerate(names, k * len(names)):
            weight = self._parameters.get(name)
            if weight is None:
                weight = getattr(self, name, None)  # computed at every call, for example by a parametrization
            reference = references[index]  # to the parameter that the flat weight was made from
            if weight is None or (not compiling and reference is not None and reference() is weight):
                weight = flat[index]
            weights.append(weight)
        b_ih, b_hh = weights[2:4] if self.bias else (None, None)
        return Weights(weights[0], weights[1], b_ih, b_hh, weights[-1] if self.proj_size else None)  # type: ignore[arg-type]

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths = None
    ) -> tuple[Tensor | PackedSequence, Any]:
        """Run the module over a batch of sequences, as torch.nn's modules do, with optional lengths.

        In the shapes, T is the number of steps, B the batch size, D the number of directions, L that of layers, H is
        ``hidden_size``, and P is ``proj_size`` if it is above 0, else H.

        Args:
            input (Tensor | PackedSequence): (T, B, input_size); with ``batch_first`` (B, T, input_size); (T,
                input_size) for a single sequence; or a PackedSequence.
            hx (Tensor | tuple[Tensor, Tensor] | None): the initial state, h (D L, B, P); for the LSTM the pair (h, c)
                with c (D L, B, H); without B for a single sequence. None: zeros. Default: None
            lengths (Tensor | Sequence[int] | ndarray | None): (B,) integers in 0..T, the number of real steps of each
                row, so that padded batches need no packing. Torch's modules do not have it. Default: None, all T

        Returns:
            tuple: the output and the final state. The output has the form of ``input``, with D P features; it is 0
            beyond a row's length. The final state has the form of ``hx``.

        Raises:
            RuntimeError: a size, or the dtype or device of ``hx``, is wrong, as in torch.nn.
            ValueError: the number of dimensions, the dtype of ``input``, the nesting of ``hx``, or ``lengths`` is
                wrong.
            TypeError: ``input`` is neither a tensor nor a PackedSequence.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx, lengths)
        if lengths is None and (result := self._by_torch(input, hx)) is not None:
            return result
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

    def _by_torch(self, input: Any, hx: Any) -> tuple[Tensor, Any] | None:
        """Run torch's layer where it is faster and all arguments are as it takes them; return None elsewhere."""
        if not isinstance(input, Tensor) or input.dim() != 3 or not _is_plain(input):
            return None
        recurrences = self._recurrences
        recurrence = recurrences[0]
        cell, (B, T) = recurrence.cell, input.shape[:2] if self.batch_first else input.shape[1::-1]
        if recurrence.packed is not None or recurrence.observer is not None or not B or not T:
            return None
        if not engines.torch_layers(cell, B, T, self.input_size, self.hidden_size):
            return None
        weights, parameters = self._flat_weights, self._parameters
        if len(weights) != len(parameters) or not all(map(is_, weights, parameters.values())):
            return None
        if input.shape[2] != self.input_size or input.dtype is not weights[0].dtype:  # type: ignore[union-attr]
            return None
        shape = (len(recurrences), B, self.hidden_size)
        if hx is None:
            zeros = input.new_zeros(shape)
            hx = (zeros, zeros) if len(cell.state) == 2 else zeros
        else:
            if not is_state(hx, len(cell.state), 3):
                return None
            if any(p.shape != shape or p.dtype is not input.dtype for p in (hx if type(hx) is tuple else (hx,))):
                return None
        results = torch_fused.OPERATIONS[type(cell)](  # type: ignore[operator]
            input, hx, weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional,
            self.batch_first,
        )  # fmt: skip
        return results if len(results) == 2 else (results[0], results[1:])

    def _state_in(self, x: Tensor, hx: Any, batched: bool) -> tuple[Tensor, ...]:
        """Return the parts of the state hx, each (D L, B, size); zeros for None."""
        sizes = [self.proj_size or self.hidden_size] + [self.hidden_size] * (len(self.cell.state) - 1)
        count, B = len(self._recurrences), shape_of(x)[0]
        if hx is None:
            return tuple(x.new_zeros(count, x.shape[0], size) for size in sizes)
        expected = [(count, B, size) if batched else (count, size) for size in sizes]
        parts = state_parts(type(self).__name__, x, hx, expected)
        for part, shape, label in zip(parts, expected, ("hidden", "cell"), strict=False):
            if tuple(shape_of(part)) != shape:
                kind = "batched 3-D" if batched else "unbatched 2-D"
                raise RuntimeError(f"For {kind} input, expected {label} size {shape}, got {list(part.shape)}")
        return parts if batched else tuple(part.unsqueeze(1) for part in parts)

    def _state_out(self, parts: tuple[Tensor, ...]) -> Any:
        """Return the state in torch's form: a tensor, or the pair (h, c)."""
        return parts if len(parts) > 1 else parts[0]

    def _run(self, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run all layers and directions over x (B, T, input_size); lengths are on x's device."""
        cell = self._recurrences[0].cell
        single = lengths is None and _is_plain(x) and x.shape[1] == 1
        single = single and engines.torch_steps(cell, len(x), self.input_size, self.hidden_size)
        states = zip(*(part.unbind(0) for part in state), strict=True)
        finals: list[tuple[Tensor, ...]] = []
        for k in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                index = k * self._directions + direction
                recurrence, weights = self._recurrences[index], self._weights(index)
                inputs = reverse(x, lengths) if direction else x
                if single and recurrence.packed is None and recurrence.observer is None:
                    final = torch_fused.step(cell, weights, inputs.squeeze(1), next(states))
                    y = final[0].unsqueeze(1)
                else:
                    y, final = recurrence.run(recurrence.scan(weights, inputs, next(states), lengths))
                outputs.append(reverse(y, lengths) if direction else y)
                finals.append(final)
            steps = [y.transpose(0, 1) for y in outputs]  # (T, B, H), the layout of torch's kernels
            joined = steps[0] if len(steps) == 1 else torch.cat(steps, -1)
            if self.dropout and k + 1 < self.num_layers:
                # In torch's layout, so that the same seed draws the same mask.
                joined = dropout(joined.contiguous(), self.dropout, self.training)
            x = joined.transpose(0, 1)
        return x, tuple([torch.stack(parts) for parts in zip(*finals, strict=True)])

    def _packed(self, packed: PackedSequence, hx: Any, lengths: Lengths) -> tuple[PackedSequence, Any]:
        """Run the module over a PackedSequence, unpacked."""
        if lengths is not None:
            raise ValueError("lengths must be None for a PackedSequence, which has its own")
        x, packed_lengths = pad_packed_sequence(packed, batch_first=True)
        if shape_of(x)[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )
        y, state = self._run(x, self._state_in(x, hx, True), packed_lengths.to(x.device))
        if packed.sorted_indices is not None:
            y = y.index_select(0, packed.sorted_indices)
            packed_lengths = packed_lengths[packed.sorted_indices.cpu()]
        repacked = pack_padded_sequence(y, packed_lengths, batch_first=True)
        output = PackedSequence(repacked.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return output, self._state_out(state)


def _is_plain(x: Tensor) -> bool:
    """Return whether torch's own operation may take the call.

    It may not while a mode, tracer or transform is active, nor under autocast, where oneDNN has no LSTM for some
    processors.
    """
    return readable(x) and not transform() and not torch._C._is_any_autocast_enabled()
