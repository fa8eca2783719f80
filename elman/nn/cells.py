"""Drop-in replacements for torch.nn's RNNCell, LSTMCell and GRUCell: one step of a recurrence."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from elman import engines
from elman.cells import CELLS, Cell, Weights
from elman.engines import torch_fused
from elman.engines.modes import shape_of
from elman.layers.arguments import flag, floating_dtype, size
from elman.layers.recurrence import Bound, HasRecurrences, Recurrence
from elman.nn.arguments import Device, cell_name, is_state, state_parts


class _Cell(nn.RNNCellBase, HasRecurrences):
    """The common base of RNNCell, LSTMCell and GRUCell. Sizes may be 0, as in torch."""

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, bias: bool, device: Device, dtype: torch.dtype | None
    ) -> None:
        gates = len(CELLS[cell].input_gates)
        sizes = size("input_size", input_size, 0), size("hidden_size", hidden_size, 0)
        super().__init__(*sizes, flag("bias", bias), gates, device, floating_dtype(dtype))
        self._recurrence = Recurrence(CELLS[cell])

    @property
    def cell(self) -> Cell:
        """The equations."""
        return self._recurrence.cell

    def recurrences(self) -> list[Bound]:
        return [Bound("", self._recurrence, self._weights())]

    def _weights(self) -> Weights:
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)  # type: ignore[arg-type]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Run one step.

        Args:
            input (Tensor): (B, input_size), or (input_size,) for a single row.
            hx (Tensor | tuple[Tensor, Tensor] | None): the state before the step, (B, hidden_size) or (hidden_size,);
                for the LSTM a pair (h, c) of them. None: zeros. Default: None

        Returns:
            Tensor | tuple[Tensor, Tensor]: the state after the step, in the form of ``hx``.

        Raises:
            RuntimeError: a size, or the dtype or device of ``hx``, is wrong, as in torch.nn.
            ValueError: a number of dimensions or the nesting of ``hx`` is wrong.
            TypeError: ``input`` is not a tensor.
        """
        recurrence = self._recurrence
        special = recurrence.packed is not None or recurrence.observer is not None
        if not special and isinstance(input, Tensor) and input.dim() == 2:
            # torch checks all sizes but those of biases
            get = self._parameters.get  # faster than attributes
            w_ih, w_hh, b_ih, b_hh = get("weight_ih"), get("weight_hh"), get("bias_ih"), get("bias_hh")
            if (
                engines.torch_cells(recurrence.cell, input, self.hidden_size)
                and is_state(hx, len(recurrence.cell.state), 2)
                and w_ih is not None
                and w_hh is not None
                and w_hh.device == input.device
                and (
                    not self.bias
                    or (b_ih is not None and b_hh is not None and b_ih.numel() == b_hh.numel() == len(w_ih))
                )
            ):
                return torch_fused.STEPS[type(recurrence.cell)](input, hx, w_ih, w_hh, b_ih, b_hh)
        name = type(self).__name__
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: input must be a tensor, it is a {type(input).__name__}")
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if shape_of(input)[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        expected = [(shape_of(x)[0], self.hidden_size)] * len(recurrence.cell.state)
        if hx is None:
            state = tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in expected)
        else:
            state = state_parts(name, x, hx, [shape if input.dim() == 2 else shape[1:] for shape in expected])
        for part in state:
            if part.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {part.dim()}D instead")
        state = tuple(part if part.dim() == 2 else part.unsqueeze(0) for part in state)
        for part in state:
            if shape_of(part) != expected[0]:
                raise RuntimeError(f"hidden has inconsistent size: got {list(part.shape)} expected {list(expected[0])}")
        _, new = recurrence.run(recurrence.scan(self._weights(), x.unsqueeze(1), state))
        new = new if input.dim() == 2 else tuple(part.squeeze(0) for part in new)
        return new if len(new) > 1 else new[0]


class RNNCell(_Cell):
    """One step of an Elman network, as torch.nn.RNNCell: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    Call ``h = cell(x, h)``. See `forward` for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        bias (bool): whether the cell has the biases b_ih and b_hh. Default: True
        nonlinearity (str): ``"tanh"`` or ``"relu"``. Default: ``"tanh"``
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None

    Parameters, all drawn from U(-H^-0.5, H^-0.5):
        weight_ih: (H, D).
        weight_hh: (H, H).
        bias_ih, bias_hh: (H,).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

    Example::

        >>> cell = elman.nn.RNNCell(10, 20)
        >>> h = torch.zeros(3, 20)
        >>> for x in torch.randn(6, 3, 10):
        ...     h = cell(x, h)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(cell_name(nonlinearity), input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """One step of a long short-term memory, as torch.nn.LSTMCell; the equations are those of `elman.nn.LSTM`.

    Call ``h, c = cell(x, (h, c))``. See `forward` for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        bias (bool): whether the cell has the biases b_ih and b_hh. Default: True
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None

    Parameters, all drawn from U(-H^-0.5, H^-0.5), the gates in the order i, f, g, o:
        weight_ih: (4 H, D).
        weight_hh: (4 H, H).
        bias_ih, bias_hh: (4 H,).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

    Example::

        >>> cell = elman.nn.LSTMCell(10, 20)
        >>> h, c = cell(torch.randn(3, 10))
        >>> for x in torch.randn(6, 3, 10):
        ...     h, c = cell(x, (h, c))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("lstm", input_size, hidden_size, bias, device, dtype)


class GRUCell(_Cell):
    """One step of a gated recurrent unit, as torch.nn.GRUCell; the equations are those of `elman.nn.GRU`.

    Call ``h = cell(x, h)``. See `forward` for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        bias (bool): whether the cell has the biases b_ih and b_hh. Default: True
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None

    Parameters, all drawn from U(-H^-0.5, H^-0.5), the gates in the order r, z, n:
        weight_ih: (3 H, D).
        weight_hh: (3 H, H).
        bias_ih, bias_hh: (3 H,).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

    Example::

        >>> cell = elman.nn.GRUCell(10, 20)
        >>> h = cell(torch.randn(3, 10))
        >>> for x in torch.randn(6, 3, 10):
        ...     h = cell(x, h)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("gru", input_size, hidden_size, bias, device, dtype)
