"""Round the weights of a trained network to int8 or bfloat16 precision."""

from __future__ import annotations

import torch
from torch import nn

from elman.engines.rounding import ROUNDINGS, rounded
from elman.layers.recurrence import recurrences_of


@torch.no_grad()
def quantize(module: nn.Module, dtype: torch.dtype = torch.int8) -> None:
    """Round the matrices of all recurrent and linear layers of a network to int8 or bfloat16 precision, in place.

    For int8 every row w becomes s round(w / s), with s = max |w| / 127; for bfloat16 every weight becomes the nearest
    number with 8 bits of precision. Biases, embeddings and per-unit vectors are left unchanged. Inside
    `elman.layers.packed`, which decoding loops open, the cpu engine reads float32 weights as int8 or bfloat16, a
    quarter or half of the bytes. For int8 it multiplies integers, and rounds the vectors that meet the weights to 16
    bits. Everywhere else the rounded weights are used in their own dtype, so that an evaluation shows the cost of
    rounding. Use it for inference: an optimiser step changes the weights again.

    Symmetric per-row quantisation, Jacob et al. 2018, https://arxiv.org/abs/1712.05877

    Args:
        module (nn.Module): a network. Its recurrent layers are those of `elman.layers` and `elman.nn`, and those of
            every module that implements `elman.layers.recurrence.HasRecurrences`.
        dtype (torch.dtype): ``torch.int8`` or ``torch.bfloat16``. Default: ``torch.int8``

    Raises:
        ValueError: ``dtype`` is another; or a matrix is computed from other parameters at every call (a
            parametrization, weight normalisation, pruning), so that rounding would not last. Nothing is rounded then.

    Example::

        >>> lstm = elman.nn.LSTM(8, 16).eval()
        >>> quantize(lstm)
        >>> len(lstm.weight_hh_l0[0].unique()) <= 255
        True
    """
    if dtype not in ROUNDINGS:
        raise ValueError(f"quantize: dtype must be torch.int8 or torch.bfloat16, got: {dtype}")
    matrices = [(path, layer.weight) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    recurrences = []
    for path, bound in recurrences_of(module):
        name = ".".join(filter(None, (path, bound.name)))
        w = bound.weights
        matrices += [(name, m) for m in (w.weight_ih, w.weight_hh, w.weight_hr) if m is not None]
        recurrences.append(bound.recurrence)
    stored = {*module.parameters(), *module.buffers()}
    for name, matrix in matrices:
        if matrix not in stored:
            raise ValueError(
                f"quantize: a matrix of {name or 'the module'} is computed from other parameters at every call; "
                "remove the parametrization, weight norm or pruning first"
            )
    for _, matrix in matrices:
        matrix.copy_(rounded(matrix, dtype))
    for recurrence in recurrences:
        recurrence.rounded = dtype
