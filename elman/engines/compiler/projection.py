"""Cells whose output is projected, run by the kernel of the same cell without the projection.

With h = P m, where m is what the step gives, R h is (R P) m: a recurrence over m with the matrix R P. The
first h has no m; if it is not 0 it comes in through further features of x, which are 0 after the first step, with R as
their weights. y = P m is one product over all steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from elman.engines.scan import Scan, State

#: Shorter runs are not worth the product R P.
_STEPS = 16


def refusal(scan: Scan) -> str | None:
    """Why the projection cannot be folded into R; None if it can."""
    if scan.cell.raw:
        return f"{scan.cell} projects h and reads raw columns of x"
    if scan.cell.inner_gates or scan.cell.mixes_units:
        return f"{scan.cell} is not pointwise"
    if scan.x.shape[1] < _STEPS:
        return f"fewer than {_STEPS} steps do not pay for folding a projection into R"
    if scan.hidden_mask is not None or (scan.zoneout is not None and scan.zoneout[0] != 0.0):
        return "recurrent dropout and zoneout act on h after the projection"
    return None


def fold(scan: Scan) -> Scan:
    """The scan over m."""
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
    """y and the state of the scan, from what its folded one gave."""
    weight = scan.weights.weight_hr
    assert weight is not None
    y, h = linear(m, weight.to(m.dtype)), linear(final[0], weight.to(final[0].dtype))
    if scan.lengths is not None:
        h = torch.where((scan.lengths > 0)[:, None], h, scan.state[0].to(h.dtype))
    return y, (h.to(scan.state[0].dtype), *final[1:])
