"""Drop-in replacements for torch.nn's RNN, LSTM and GRU."""

from __future__ import annotations

from typing import Literal

import torch

from elman.layers.arguments import integer
from elman.nn.arguments import Device, cell_name, refuse_projection
from elman.nn.base import RNNBase


class RNN(RNNBase):
    """An Elman network, as torch.nn.RNN: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu in place of tanh.

    Call ``output, h_n = rnn(input, hx=None, lengths=None)``. See `forward` for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        num_layers (int): the number of layers, each of which reads the output of the one below. Default: 1
        nonlinearity (str): ``"tanh"`` or ``"relu"``. Default: ``"tanh"``
        bias (bool): whether the layers have the biases b_ih and b_hh. Default: True
        batch_first (bool): whether input and output are (B, T, ·) instead of (T, B, ·). Default: False
        dropout (float): the probability with which an output of a layer other than the last is zeroed in training, in
            [0, 1]. Default: 0.0
        bidirectional (bool): whether a second direction reads the sequence from its end. Default: False
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None
        proj_size (None): for torch's error message only; not supported. Default: None

    Parameters of layer k (the second direction's names end in ``_reverse``), all drawn from U(-H^-0.5, H^-0.5):
        weight_ih_l[k]: (H, D), in layers above the first (H, H), with two directions (H, 2 H).
        weight_hh_l[k]: (H, H).
        bias_ih_l[k], bias_hh_l[k]: (H,).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or ``proj_size`` is given.

    Example::

        >>> rnn = elman.nn.RNN(10, 20, num_layers=2)
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))

    Elman 1990, https://doi.org/10.1207/s15516709cog1402_1
    """

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
        refuse_projection(proj_size)
        cell = cell_name(nonlinearity)
        super().__init__(
            cell, cell.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """A long short-term memory, as torch.nn.LSTM, with optional projections.

    ::

        i, f, o = sigmoid(W_ii x + b_ii + W_hi h + b_hi), ...      g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        c' = f c + i g                                             h' = o tanh(c'), or W_hr (o tanh(c'))

    Call ``output, (h_n, c_n) = lstm(input, hx=None, lengths=None)``, with ``hx`` the pair (h_0, c_0). See `forward`
    for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        num_layers (int): the number of layers, each of which reads the output of the one below. Default: 1
        bias (bool): whether the layers have the biases b_ih and b_hh. Default: True
        batch_first (bool): whether input and output are (B, T, ·) instead of (T, B, ·). Default: False
        dropout (float): the probability with which an output of a layer other than the last is zeroed in training, in
            [0, 1]. Default: 0.0
        bidirectional (bool): whether a second direction reads the sequence from its end. Default: False
        proj_size (int): the size P of h after a projection, below H; 0: no projection, P = H. Default: 0
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None

    Parameters of layer k (the second direction's names end in ``_reverse``), all drawn from U(-H^-0.5, H^-0.5), the
    gates in the order i, f, g, o:
        weight_ih_l[k]: (4 H, D), in layers above the first (4 H, P), with two directions (4 H, 2 P).
        weight_hh_l[k]: (4 H, P).
        bias_ih_l[k], bias_hh_l[k]: (4 H,).
        weight_hr_l[k]: (P, H), only with a projection.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

    Example::

        >>> lstm = elman.nn.LSTM(10, 20, batch_first=True, bidirectional=True)
        >>> output, (h_n, c_n) = lstm(torch.randn(3, 5, 10), lengths=[5, 2, 4])
        >>> output.shape, h_n.shape
        (torch.Size([3, 5, 40]), torch.Size([2, 3, 20]))

    Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; projections: Sak et al. 2014,
    https://arxiv.org/abs/1402.1128
    """

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
        cell = "projected_lstm" if integer("proj_size", proj_size) > 0 else "lstm"
        super().__init__(
            cell, "LSTM", input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, proj_size, device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """A gated recurrent unit, as torch.nn.GRU.

    ::

        r, z = sigmoid(W_ir x + b_ir + W_hr h + b_hr), ...      n = tanh(W_in x + b_in + r (W_hn h + b_hn))
        h' = (1 - z) n + z h

    Call ``output, h_n = gru(input, hx=None, lengths=None)``. See `forward` for shapes and errors.

    Args:
        input_size (int): the number of features of the input, D.
        hidden_size (int): the number of units, H.
        num_layers (int): the number of layers, each of which reads the output of the one below. Default: 1
        bias (bool): whether the layers have the biases b_ih and b_hh. Default: True
        batch_first (bool): whether input and output are (B, T, ·) instead of (T, B, ·). Default: False
        dropout (float): the probability with which an output of a layer other than the last is zeroed in training, in
            [0, 1]. Default: 0.0
        bidirectional (bool): whether a second direction reads the sequence from its end. Default: False
        device (torch.device | str | int | None): of the parameters; None: torch's default. Default: None
        dtype (torch.dtype | None): of the parameters; None: torch's default. Default: None
        proj_size (None): for torch's error message only; not supported. Default: None

    Parameters of layer k (the second direction's names end in ``_reverse``), all drawn from U(-H^-0.5, H^-0.5), the
    gates in the order r, z, n:
        weight_ih_l[k]: (3 H, D), in layers above the first (3 H, H), with two directions (3 H, 2 H).
        weight_hh_l[k]: (3 H, H).
        bias_ih_l[k], bias_hh_l[k]: (3 H,).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or ``proj_size`` is given.

    Example::

        >>> gru = elman.nn.GRU(10, 20)
        >>> output, h_n = gru(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]))

    Cho et al. 2014, https://arxiv.org/abs/1406.1078
    """

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
        refuse_projection(proj_size)
        super().__init__(
            "gru", "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device,
            dtype,
        )  # fmt: skip
