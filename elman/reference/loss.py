"""The loss of a choice among V classes: softmax and cross-entropy in one, forward and backward.

Forward, for one row of logits l and its true class k; the loss is the mean over N rows::

    p_j = exp(l_j) / sum_m exp(l_m)
    L   = -log p_k = log sum_m exp(l_m) - l_k

Backward. d/dl_j of the first term is exp(l_j) / sum_m exp(l_m), which is p_j; of the second it is 1 at
j = k and 0 elsewhere. So::

    dl_j = (p_j - [j = k]) / N

Bridle 1990, https://doi.org/10.1007/978-3-642-76153-9_28
"""

from __future__ import annotations

import numpy as np

from elman.reference.activations import softmax


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of -log softmax(logits)[target], and its gradient.

    Arguments:
        logits: (N, V).
        targets: (N,) integers, the true classes, 0 .. V - 1.

    Returns the loss (in nats) and dlogits (N, V). Raises ValueError for a target that is no class.
    """
    N, V = logits.shape
    if targets.shape != (N,) or not np.all((targets >= 0) & (targets < V)):
        raise ValueError(f"targets must be {N} integers between 0 and {V - 1}")
    rows = np.arange(N)
    # The largest logit subtracted from all of its row changes no p, and exp cannot overflow.  (N, V)
    shifted = logits - logits.max(axis=1, keepdims=True)
    # L = mean of (log sum_m exp(l_m) - l_k)
    loss = float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, targets]))
    # dl = (p - one-hot of the target) / N                                        (N, V)
    dlogits = softmax(logits)
    dlogits[rows, targets] -= 1
    dlogits /= N
    return loss, dlogits
