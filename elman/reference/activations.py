"""The two squashing functions, with the derivatives that every backward pass uses.

::

    sigma(a) = 1 / (1 + exp(-a))        sigma'(a) = sigma(a) * (1 - sigma(a))
    tanh(a)                             tanh'(a)  = 1 - tanh(a)^2

Both derivatives are written with the value of the function alone: a forward pass that keeps its
gates need not keep what went into them.
"""

from __future__ import annotations

import numpy as np


def sigma(a: np.ndarray) -> np.ndarray:
    """The logistic function 1 / (1 + exp(-a)), by element; a and the result have the same shape."""
    # The same number as 1 / (1 + exp(-a)), but tanh cannot overflow as exp does at a = -1000.
    return 0.5 * (1.0 + np.tanh(0.5 * a))


def softmax(logits: np.ndarray) -> np.ndarray:
    """p_k = exp(l_k) / sum_j exp(l_j) over the last axis; logits and the result are (..., V)."""
    # A constant subtracted from all logits changes no p; with the largest at 0, exp cannot overflow.
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
