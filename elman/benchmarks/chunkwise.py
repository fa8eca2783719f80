"""The mLSTM in chunks of time steps, in operations of torch, as it is written for GPUs: the kernel competes with it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import linear, logsigmoid

from elman.layers import Recurrent

#: The steps of a chunk.
CHUNK = 64


def mlstm(layer: Recurrent, x: Tensor) -> Tensor:
    """Return the output of a layer with the cell `elman.cells.MLSTM`, without lengths and from a state of zeros.

    Inside a chunk the outputs are products with a decay matrix (CHUNK, CHUNK), as in attention; from chunk to chunk the
    memory is carried. The chunkwise form of Beck et al. 2024, https://arxiv.org/abs/2405.04517, appendix, and
    https://arxiv.org/abs/2503.13427.

    Args:
        layer (Recurrent): The layer.
        x (Tensor): The input, (B, T, D).

    Returns:
        Tensor: y, (B, T, H).
    """
    (B, T, _), heads, H, K = x.shape, layer.heads, layer.hidden_size, layer.key_size
    assert layer.weight_ih is not None
    gates = linear(x, layer.weight_ih, layer.bias_ih)
    v, o, q, k, i, f = gates.split([H, H, heads * K, heads * K, heads, heads], -1)
    v, q, k = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (v, q, k))
    k, i, f = k * K**-0.5, i.transpose(1, 2), logsigmoid(f).transpose(1, 2)
    C, n, m = v.new_zeros(B, heads, K, H // heads), v.new_zeros(B, heads, K), v.new_zeros(B, heads)
    outputs = []
    for first in range(0, T, CHUNK):
        chunk = slice(first, first + CHUNK)
        v_c, q_c, k_c, i_c, decay = v[:, :, chunk], q[:, :, chunk], k[:, :, chunk], i[:, :, chunk], f[:, :, chunk]
        decay = decay.cumsum(-1)
        seen = torch.ones(decay.shape[-1], decay.shape[-1], dtype=torch.bool, device=x.device).tril()
        inside = (decay[..., :, None] - decay[..., None, :] + i_c[..., None, :]).masked_fill(~seen, -math.inf)
        carried = decay + m[..., None]
        largest = torch.maximum(carried, inside.amax(-1))
        scores = (q_c @ k_c.transpose(-1, -2)) * torch.exp(inside - largest[..., None])
        carried = torch.exp(carried - largest)
        read = scores @ v_c + carried[..., None] * (q_c @ C)
        scale = (scores.sum(-1) + carried * (q_c @ n[..., None])[..., 0]).abs()
        outputs.append(read / torch.maximum(scale, torch.exp(-largest))[..., None])
        total = decay[..., -1]
        rest = total[..., None] - decay + i_c
        new = torch.maximum(total + m, rest.amax(-1))
        keys = torch.exp(rest - new[..., None])[..., None] * k_c
        kept, m = torch.exp(total + m - new), new
        C = kept[..., None, None] * C + keys.transpose(-1, -2) @ v_c
        n = kept[..., None] * n + keys.sum(-2)
    return torch.cat(outputs, 2).transpose(1, 2).flatten(-2) * torch.sigmoid(o)
