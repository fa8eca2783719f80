"""Activation functions, with the derivatives that the backward passes use.

::

    sigma(a) = 1 / (1 + exp(-a))        sigma'(a) = sigma(a) * (1 - sigma(a))
    tanh(a)                             tanh'(a)  = 1 - tanh(a)^2

Both derivatives depend on the value of the function only, so a forward pass that keeps the values of
its gates need not keep their arguments. tanh is NumPy's.
"""

from __future__ import annotations

import numpy as np


def sigma(a: np.ndarray) -> np.ndarray:
    """Compute the logistic function 1 / (1 + exp(-a)) elementwise.

    Args:
        a: array of any shape.

    Returns:
        An array of the shape of ``a``, between 0 and 1.

    Example:
        >>> sigma(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    # Equal to 1 / (1 + exp(-a)), but tanh does not overflow as exp does at a = -1000.
    return 0.5 * (1.0 + np.tanh(0.5 * a))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute p_k = exp(l_k) / sum_j exp(l_j) over the last axis.

    Args:
        logits: (..., V).

    Returns:
        The probabilities (..., V). They sum to 1 over the last axis.

    Example:
        >>> softmax(np.array([[0.0, np.log(3.0)]]))
        array([[0.25, 0.75]])
    """
    # Subtracting a constant from all logits does not change p; with a maximum of 0, exp cannot overflow.
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
