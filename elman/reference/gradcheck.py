"""Check of a backward pass against finite differences of the forward pass.

For one element v of an array, with all other elements fixed::

    dL/dv = (L(v + e) - L(v - e)) / (2 e) + O(e^2)

The truncation error falls with e^2, but L(v + e) - L(v - e) loses digits to rounding as e shrinks. In
float64 the best e is about 1e-6, and about 8 digits agree. Each element costs two forward passes, so the
method is for tests, not for training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def numerical_gradient(loss: Callable[[], float], v: np.ndarray, e: float = 1e-6) -> np.ndarray:
    """Compute dL/dv by central differences.

    Args:
        loss: function that computes L from the current content of ``v``.
        v: float64 array that ``loss`` reads. Each element is changed in place and then restored.
        e: size of the change, in the unit of ``v``. Default: 1e-6.

    Returns:
        The gradient dL/dv, float64, of the shape of ``v``.

    Raises:
        TypeError: if ``v`` is not float64. Other dtypes have too few digits for the difference.

    Example:
        >>> v = np.array([1.0, -2.0])
        >>> numerical_gradient(lambda: float(np.sum(v**2)), v).round(6)
        array([ 2., -4.])
    """
    if v.dtype != np.float64:
        raise TypeError(f"v must be float64, not {v.dtype}")
    gradient = np.empty_like(v)
    for index in np.ndindex(v.shape):
        value = v[index]
        v[index] = value + e
        above = loss()
        v[index] = value - e
        below = loss()
        v[index] = value
        # dL/dv = (L(v + e) - L(v - e)) / (2 e)
        gradient[index] = (above - below) / (2 * e)
    return gradient
