"""Rewrites a scan of a cell with a projection, so that a kernel without projections can run it.

With h = P m, where m is the result of the step, R h is (R P) m: a recurrence over m with the matrix R P. There is no m
for the initial h. If it is not 0, it enters through additional features of x, which are 0 after the first step and
have the weights R. y = P m is one product over all steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.engines.scan import Scan, State

#: The number of steps from which the product R P pays off.
_STEPS = 16


def refusal(scan: Scan) -> str | None:
    """Return why the projection cannot be folded into R; None if it can."""
    if scan.cell.raw:
        return f"{scan.cell} projects h and reads raw columns of x"
    if scan.cell.inner_gates or scan.cell.mixes_units:
        return f"{scan.cell} is not pointwise"
    if scan.x.shape[1] < _STEPS:
        return f"folding a projection into R pays off from {_STEPS} steps on"
    if scan.hidden_mask is not None or (scan.zoneout is not None and scan.zoneout[0] != 0.0):
        return "recurrent dropout and zoneout act on h after the projection"
    return None


def fold(scan: Scan) -> Scan:
    """Return the scan over m."""
    w, h = scan.weights, scan.state[0]
    assert w.weight_hr is not None
    assert w.weight_hh is not None
    if scan.resets is not None:
        h = torch.where(scan.resets[:, :1], 0.0, h)
    folded = w._replace(weight_hh=w.weight_hh @ w.weight_hr, weight_hr=None)
    x, m = scan.x, h.new_zeros(h.shape[0], w.weight_hr.shape[1])
    if torch.compiler.is_compiling() or h.requires_grad or bool(h.any()):
        first = torch.cat((h.unsqueeze(1), h.new_zeros(h.shape[0], x.shape[1] - 1, h.shape[1])), 1)
        x = torch.cat((x, first.to(x.dtype)), 2)
        folded = folded._replace(weight_ih=torch.cat((w.weight_ih, w.weight_hh), 1))
    return scan._replace(weights=folded, x=x, state=(m, *scan.state[1:]))


def unfold(scan: Scan, m: Tensor, final: State) -> tuple[Tensor, State]:
    """Return y and the final state of the scan, from those of the folded scan."""
    weight = scan.weights.weight_hr
    assert weight is not None
    y, h = linear(m, weight.to(m.dtype)), linear(final[0], weight.to(final[0].dtype))
    if scan.lengths is not None:
        h = torch.where((scan.lengths > 0)[:, None], h, scan.state[0].to(h.dtype))
    return y, (h.to(scan.state[0].dtype), *final[1:])
