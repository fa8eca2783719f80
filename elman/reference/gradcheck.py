"""How to know that a backward pass is right: compare it with the slope of the forward pass.

For one number v in an array, with everything else kept as it is::

    dL/dv = (L(v + e) - L(v - e)) / (2 e) + O(e^2)

The error falls with e^2, but L(v + e) - L(v - e) loses digits as e shrinks; in float64 about 1e-6
is best and some 8 digits agree. It costs two forward passes a number: for checks, not for training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def numerical_gradient(loss: Callable[[], float], v: np.ndarray, e: float = 1e-6) -> np.ndarray:
    """dL/dv by central differences, of the shape of v.

    Arguments:
        loss: L, computed anew from v at each call.
        v: an array of float64 that ``loss`` reads; changed in place and put back, number by number.
        e: how far each number is moved.

    Raises TypeError where v is no float64: there would be no digits left to compare.
    """
    if v.dtype != np.float64:
        raise TypeError(f"v must be float64, it is {v.dtype}")
    gradient = np.empty_like(v)
    for index in np.ndindex(v.shape):
        kept = v[index]
        v[index] = kept + e
        above = loss()
        v[index] = kept - e
        below = loss()
        v[index] = kept
        # dL/dv = (L(v + e) - L(v - e)) / (2 e)
        gradient[index] = (above - below) / (2 * e)
    return gradient
