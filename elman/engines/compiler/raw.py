"""Rewrites raw columns of x as gates, whose rows of W select the column."""

from __future__ import annotations

import torch

from elman.engines.scan import Scan


def as_gates(scan: Scan) -> Scan:
    """Return the scan with a gate for each raw column of x, which has the same value in every unit."""
    raw, w, D = len(scan.cell.raw), scan.weights, scan.x.shape[-1]
    if not raw or w.weight_ih.shape[1] == D:
        return scan
    H = w.weight_ih.shape[0] // len(scan.cell.input_gates)
    columns = w.weight_ih.new_zeros(w.weight_ih.shape[0], raw)
    selection = torch.eye(D, dtype=w.weight_ih.dtype, device=w.weight_ih.device)[D - raw :].repeat_interleave(H, 0)
    weight = torch.cat((torch.cat((w.weight_ih, columns), 1), selection))
    bias = None if w.bias_ih is None else torch.cat((w.bias_ih, w.bias_ih.new_zeros(raw * H)))
    return scan._replace(weights=w._replace(weight_ih=weight, bias_ih=bias))
