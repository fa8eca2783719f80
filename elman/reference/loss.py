"""Softmax cross-entropy: the loss of a classification into V classes, forward and backward.

Forward, for one row of logits l with the true class k; the loss is the mean over N rows::

    p_j = exp(l_j) / sum_m exp(l_m)
    L   = -log p_k = log sum_m exp(l_m) - l_k

Backward. The derivative of the first term by l_j is exp(l_j) / sum_m exp(l_m) = p_j; that of the second
is 1 for j = k and 0 otherwise. Hence::

    dl_j = (p_j - [j = k]) / N

Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs",
https://doi.org/10.1007/978-3-642-76153-9_28
"""

from __future__ import annotations

import numpy as np

from elman.reference.activations import softmax


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the mean of -log softmax(logits)[target] and its gradient.

    Args:
        logits: (N, V).
        targets: (N,) integers, the true classes, 0 to V - 1.

    Returns:
        The loss in nats, and dlogits (N, V), the gradient of the loss by the logits.

    Raises:
        ValueError: if ``targets`` does not have N elements, or one of them is not a class.

    Example:
        >>> loss, dlogits = cross_entropy(np.zeros((1, 4)), np.array([2]))
        >>> round(loss, 4)  # log 4
        1.3863
        >>> dlogits
        array([[ 0.25,  0.25, -0.75,  0.25]])
    """
    N, V = logits.shape
    if targets.shape != (N,) or not np.all((targets >= 0) & (targets < V)):
        raise ValueError(f"targets must be {N} integers between 0 and {V - 1}")
    rows = np.arange(N)
    # Subtracting the maximum of each row does not change p, and exp cannot overflow.            (N, V)
    shifted = logits - logits.max(axis=1, keepdims=True)
    # L = mean of (log sum_m exp(l_m) - l_k)
    loss = float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, targets]))
    # dl = (p - one-hot of the target) / N                                        (N, V)
    dlogits = softmax(logits)
    dlogits[rows, targets] -= 1
    dlogits /= N
    return loss, dlogits
