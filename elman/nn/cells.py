"""torch.nn's cells: one step of a recurrence."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from elman import engines
from elman.cells import CELLS, Cell, Weights
from elman.engines import torch_fused
from elman.engines.modes import shape_of
from elman.layers.arguments import flag, real, size
from elman.nn.arguments import Device, is_state, parts_of, rnn_cell


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
        if isinstance(input, Tensor) and input.dim() == 2:  # torch checks the sizes, but for those of biases
            get = self._parameters.get  # faster than attributes
            w_ih, w_hh, b_ih, b_hh = get("weight_ih"), get("weight_hh"), get("bias_ih"), get("bias_hh")
            if (
                engines.torch_cells(self.cell, input, self.hidden_size)
                and is_state(hx, len(self.cell.state), 2)
                and w_ih is not None
                and w_hh is not None
                and w_hh.device == input.device
                and (
                    not self.bias
                    or (b_ih is not None and b_hh is not None and b_ih.numel() == b_hh.numel() == len(w_ih))
                )
            ):
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
            state = parts_of(name, x, hx, [shape if input.dim() == 2 else shape[1:] for shape in wanted])
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
        super().__init__(rnn_cell(nonlinearity), input_size, hidden_size, bias, device, dtype)
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
