"""Character model that learns the word "hello".

At every step the network reads one letter, a one-hot vector over the V letters of the text, and predicts
a distribution over the next letter::

    h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h)            h_0 = 0
    y_t = W_hy h_t + b_y                                 the logits
    L   = mean over t of -log softmax(y_t)[x_{t+1}]      see loss.py

"l" is followed once by "l" and once by "o". To predict which, the network must remember what it has read.

Backward. Every step has a loss, so every h_t receives a gradient::

    dy_t = (softmax(y_t) - one-hot of x_{t+1}) / T
    dW_hy = sum_t dy_t h_t^T      db_y = sum_t dy_t      dh_t = W_hy^T dy_t
    dW_xh, dW_hh, db_h: from all dh_t by backpropagation through time, see rnn.py

Training is gradient descent on the whole text at once, with the gradient clipped to norm 1. It ends when L
is below 0.05, or after the last epoch.

After the figure in Andrej Karpathy, "The unreasonable effectiveness of recurrent neural networks"
(2015), https://karpathy.github.io/2015/05/21/rnn-effectiveness/
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from elman.reference import rnn
from elman.reference.activations import softmax
from elman.reference.clip import clip_by_norm
from elman.reference.errors import InputError
from elman.reference.loss import cross_entropy

LOSS_THRESHOLD = 0.05  # nats; the next letter then has a probability of 0.95
CLIP = 1.0  # largest norm of the gradient
ROWS, COLUMNS = 40, 12  # largest table that is printed


class Parameters(NamedTuple):
    """The parameters of the network or their gradients."""

    W_xh: np.ndarray  # (H, V)
    W_hh: np.ndarray  # (H, H)
    b_h: np.ndarray  # (H,)
    W_hy: np.ndarray  # (V, H)
    b_y: np.ndarray  # (V,)


def initialise(V: int, H: int, rng: np.random.Generator) -> Parameters:
    """Initialise the weights from a normal distribution with standard deviation 1 / sqrt(H), the biases with 0.

    Args:
        V: number of letters.
        H: number of hidden units.
        rng: generator of the weights.

    Returns:
        The parameters, float64.

    Example:
        >>> initialise(4, 3, np.random.default_rng(0)).W_xh.shape
        (3, 4)
    """
    deviation = 1 / np.sqrt(H)
    return Parameters(
        W_xh=deviation * rng.standard_normal((H, V)),
        W_hh=deviation * rng.standard_normal((H, H)),
        b_h=np.zeros(H),
        W_hy=deviation * rng.standard_normal((V, H)),
        b_y=np.zeros(V),
    )


def forward(x: np.ndarray, h_0: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, rnn.Tape]:
    """Compute the logits of the next letter at every step.

    Args:
        x: (1, T, V), one-hot letters.
        h_0: (1, H), the initial hidden state.
        p: the parameters.

    Returns:
        - y (T, V), the logits.
        - h_T (1, H), the last hidden state.
        - The tape for `backward`.

    Example:
        >>> p = initialise(4, 3, np.random.default_rng(0))
        >>> y, h_T, tape = forward(np.eye(4)[None, [0, 1, 2, 2]], np.zeros((1, 3)), p)
        >>> y.shape, h_T.shape
        ((4, 4), (1, 3))
    """
    # h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h); rnn.py has two biases; the second is 0
    h, (h_T,), tape = rnn.forward(x, (h_0,), rnn.Weights(p.W_xh, p.W_hh, p.b_h, np.zeros_like(p.b_h)))
    # y_t = W_hy h_t + b_y, all steps at once                                     (T, V)
    y = h[0] @ p.W_hy.T + p.b_y
    return y, h_T, tape


def backward(dy: np.ndarray, tape: rnn.Tape, p: Parameters) -> Parameters:
    """Compute the gradients of the parameters.

    Args:
        dy: (T, V), the gradient dL/dy of the logits.
        tape: the tape of `forward`.
        p: the parameters.

    Returns:
        The gradients, of the shapes of ``p``.

    Example:
        >>> p = initialise(4, 3, np.random.default_rng(0))
        >>> y, _, tape = forward(np.eye(4)[None, [0, 1, 2, 2]], np.zeros((1, 3)), p)
        >>> loss, dy = cross_entropy(y, np.array([1, 2, 2, 3]))
        >>> backward(dy, tape, p).W_hh.shape
        (3, 3)
    """
    h = tape.h[0, 1:]  # (T, H)
    # dW_hy = sum_t dy_t h_t^T;   db_y = sum_t dy_t                               (V, H), (V,)
    dW_hy = dy.T @ h
    db_y = dy.sum(axis=0)
    # dh_t = W_hy^T dy_t                                                          (T, H)
    dh = dy @ p.W_hy
    # Backpropagation through time. The final state is used by the last output only, so its own gradient is 0.
    _, _, dweights = rnn.backward(dh[None], (np.zeros_like(dh[:1]),), tape)
    return Parameters(dweights.weight_ih, dweights.weight_hh, dweights.bias_ih, dW_hy, db_y)


def fit(
    text: str = "hello",
    *,
    epochs: int = 2000,
    hidden: int | None = None,
    rate: float = 0.1,
    rng: np.random.Generator,
) -> str:
    """Train on a text, print the predicted distributions before and after, and generate text.

    Args:
        text: at least two characters. Default: ``"hello"``.
        epochs: largest number of passes over the text. Default: 2000.
        hidden: number of hidden units, H. Default: 3 for "hello", as in the figure, and 64 for any other text.
        rate: learning rate. Default: 0.1.
        rng: generator of the initial weights.

    Returns:
        The text that the trained network generates from the first letter, of the length of ``text``.

    Raises:
        InputError: if the text is too short or not UTF-8, or if the loss overflows because the learning rate is
            too high.

    Example:
        >>> generated = fit(rng=np.random.default_rng(0))  # doctest: +SKIP
        3 hidden units, text 'hello', 4 letters
        ...
        generated from 'h': 'hello'
    """
    if len(text) < 2:
        raise InputError(f"the text {text!r} is too short: it must have at least 2 characters")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"the text {text!r} is not UTF-8; encode it as UTF-8")
    hidden = hidden or (3 if text == "hello" else 64)
    letters = list(dict.fromkeys(text))  # in the order of their first occurrence
    V, T = len(letters), len(text) - 1
    ids = np.array([letters.index(letter) for letter in text])  # (T + 1,)
    x = np.eye(V)[ids[:-1]][None]  # (1, T, V)  the input
    targets = ids[1:]  # (T,)  the next letters
    h_0 = np.zeros((1, hidden))
    p = initialise(V, hidden, rng)

    print(f"{hidden} hidden units, text {text!r}, {V} letters\n")
    first_loss = math.nan
    log_every = max(1, 20_000 // T)  # epochs between two lines of output; none for a short text
    for epoch in range(epochs + 1):
        y, _, tape = forward(x, h_0, p)
        loss, dy = cross_entropy(y, targets)
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {epoch}: --rate {rate:g} is too high, try {rate / 10:g}")
        if epoch == 0:
            first_loss = loss
            print(f"before training: loss {loss:.3f}\n{table(text, letters, softmax(y))}\n")
        elif epoch % log_every == 0:
            print(f"epoch {epoch:4}   loss {loss:.3f}", flush=True)
        if loss < LOSS_THRESHOLD or epoch == epochs:
            break
        gradients, _ = clip_by_norm(backward(dy, tape, p), CLIP)
        for v, dv in zip(p, gradients, strict=True):
            v -= rate * dv

    print(f"after {epoch} epochs: loss {first_loss:.3f} -> {loss:.3f}\n{table(text, letters, softmax(y))}\n")
    generated = generate(letters, int(ids[0]), T, p)
    print(f"generated from {text[0]!r}: {generated!r}")
    return generated


def generate(letters: list[str], first: int, T: int, p: Parameters) -> str:
    """Generate text greedily: at each step, append the most probable letter and read it as the next input.

    Args:
        letters: the V letters.
        first: index of the first letter.
        T: number of letters to append.
        p: the parameters.

    Returns:
        T + 1 letters.

    Example:
        >>> p = initialise(4, 3, np.random.default_rng(0))
        >>> len(generate(["h", "e", "l", "o"], 0, 4, p))
        5
    """
    h = np.zeros((1, len(p.b_h)))
    ids = [first]
    for _ in range(T):
        x = np.eye(len(letters))[None, ids[-1:]]  # (1, 1, V)
        y, h, _ = forward(x, h, p)
        ids.append(int(y[0].argmax()))
    return "".join(letters[k] for k in ids)


def table(text: str, letters: list[str], p: np.ndarray) -> str:
    """Format the predicted distributions as plain text, one row per step and one column per letter.

    The first two columns are the letter read and the letter that follows. At most 40 rows and 12 letters
    are shown.

    Args:
        text: the text, of T + 1 letters.
        letters: the V letters.
        p: (T, V), the distributions.

    Returns:
        The lines of the table.

    Example:
        >>> print(table("aba", ["a", "b"], np.array([[0.1, 0.9], [1.0, 0.0]])))
          reads  next     a     b
              a     b  0.10  0.90
              b     a  1.00  0.00
    """
    rows = [["reads", "next", *map(_printable, letters[:COLUMNS])]]
    for t in range(min(len(p), ROWS)):
        rows.append([_printable(text[t]), _printable(text[t + 1]), *(f"{number:.2f}" for number in p[t, :COLUMNS])])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if len(p) > ROWS or len(letters) > COLUMNS:
        shown = f"{min(len(p), ROWS)} of {len(p)} steps and {min(len(letters), COLUMNS)} of {len(letters)} letters"
        lines.append(f"  (the first {shown})")
    return "\n".join(lines)


def _printable(letter: str) -> str:
    """Return the letter, or its repr if it is not visible."""
    return letter if letter.isprintable() and letter != " " else repr(letter)
