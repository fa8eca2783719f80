"""Weights in eight bits, for running a trained model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from elman.engines.int8 import int8_scale
from elman.layers.recurrent import Recurrent


@torch.no_grad()
def quantize(module: nn.Module) -> None:
    """Rounds the matrices of all recurrent and linear layers in ``module``, in place, to int8 precision.

    Every row w becomes s round(w / s), s = max |w| / 127. Biases, embeddings and per-unit vectors stay. Inside
    `elman.layers.packed`, which decoding loops open, the cpu engine reads the weights as int8: a quarter of the bytes.
    Everywhere else the rounded weights are used as they are, so that an evaluation shows what the rounding costs. For
    running, not for training: an optimiser step leaves the grid again.

    Source: symmetric per-row quantisation, Jacob et al. 2018, https://arxiv.org/abs/1712.05877
    """
    for layer in module.modules():
        if isinstance(layer, Recurrent):
            for matrix in (layer.weight_ih, layer.weight_hh, layer.weight_hr):
                if matrix is not None:
                    _round(matrix)
            layer.int8 = True
        elif isinstance(layer, nn.Linear):
            _round(layer.weight)


def _round(matrix: Tensor) -> None:
    scale = int8_scale(matrix)[:, None]
    matrix.copy_((matrix / scale).round() * scale)
