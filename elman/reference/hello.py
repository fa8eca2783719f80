"""The network of four letters that learns to say h-e-l-l-o.

At every step it reads one letter, a one-hot vector over the V letters of the text, and gives a
distribution over the letter that comes next::

    h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h)            h_0 = 0
    y_t = W_hy h_t + b_y                                 the logits
    L   = mean over t of -log softmax(y_t)[x_{t+1}]      see loss.py

After "l" comes "l" once and "o" once: to know which, the network has to remember what it has read.

Backward: every step has a loss of its own, so a gradient enters at every h_t::

    dy_t = (softmax(y_t) - one-hot of x_{t+1}) / T
    dW_hy = sum_t dy_t h_t^T      db_y = sum_t dy_t      dh_t = W_hy^T dy_t
    dW_xh, dW_hh, db_h: all dh_t sent back through time, see rnn.py

Learning is gradient descent on the whole text at once, the gradient clipped to norm 1. It ends when L
is below 0.05, or with the last epoch.

After the picture in Andrej Karpathy, "The unreasonable effectiveness of recurrent neural networks"
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

SMALL_LOSS = 0.05  # nats; the next letter then has a probability of 0.95
CLIP = 1.0
ROWS, COLUMNS = 40, 12  # no larger table is printed


class Parameters(NamedTuple):
    """The parameters of the network, or their gradients."""

    W_xh: np.ndarray  # (H, V)
    W_hh: np.ndarray  # (H, H)
    b_h: np.ndarray  # (H,)
    W_hy: np.ndarray  # (V, H)
    b_y: np.ndarray  # (V,)


def start(V: int, H: int, rng: np.random.Generator) -> Parameters:
    """Weights drawn from a normal distribution of deviation 1 / sqrt(H), biases 0."""
    deviation = 1 / np.sqrt(H)
    return Parameters(
        W_xh=deviation * rng.standard_normal((H, V)),
        W_hh=deviation * rng.standard_normal((H, H)),
        b_h=np.zeros(H),
        W_hy=deviation * rng.standard_normal((V, H)),
        b_y=np.zeros(V),
    )


def forward(x: np.ndarray, h_0: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, rnn.Tape]:
    """x (1, T, V), one-hot letters, and h_0 (1, H) to the logits (T, V), h_T (1, H) and the network's tape."""
    # h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h); rnn.py has two biases, the second stays 0
    h, (h_T,), tape = rnn.forward(x, (h_0,), rnn.Weights(p.W_xh, p.W_hh, p.b_h, np.zeros_like(p.b_h)))
    # y_t = W_hy h_t + b_y, all steps at once                                     (T, V)
    y = h[0] @ p.W_hy.T + p.b_y
    return y, h_T, tape


def backward(dy: np.ndarray, tape: rnn.Tape, p: Parameters) -> Parameters:
    """dy (T, V), dL/dy, to the gradients of the parameters."""
    h = tape.h[0, 1:]  # (T, H)
    # dW_hy = sum_t dy_t h_t^T;   db_y = sum_t dy_t                               (V, H), (V,)
    dW_hy = dy.T @ h
    db_y = dy.sum(axis=0)
    # dh_t = W_hy^T dy_t                                                          (T, H)
    dh = dy @ p.W_hy
    # back through time; nothing reads the final state but the last output: its gradient is 0
    _, _, dweights = rnn.backward(dh[None], (np.zeros_like(dh[:1]),), tape)
    return Parameters(dweights.weight_ih, dweights.weight_hh, dweights.bias_ih, dW_hy, db_y)


def learn(
    text: str = "hello",
    *,
    epochs: int = 2000,
    hidden: int | None = None,
    rate: float = 0.1,
    rng: np.random.Generator,
) -> str:
    """Trains on the text, prints its distributions before and after, and gives what it then says.

    Arguments:
        text: at least two characters.
        epochs: how often the text is gone through at most.
        hidden: H; None: 3 for hello, as in the picture, and 64 for any other text.
        rate: the step size of gradient descent.
        rng: draws the first weights.

    Raises InputError for a text that is too short, and where the rate is so high that the numbers overflow.
    """
    if len(text) < 2:
        raise InputError(f"the text {text!r} is too short: it must have at least 2 characters, one to follow another")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"the text {text!r} is not UTF-8; give it as UTF-8")
    hidden = hidden or (3 if text == "hello" else 64)
    letters = list(dict.fromkeys(text))  # in the order in which they first come
    V, T = len(letters), len(text) - 1
    ids = np.array([letters.index(letter) for letter in text])  # (T + 1,)
    x = np.eye(V)[ids[:-1]][None]  # (1, T, V)  what is read
    targets = ids[1:]  # (T,)  what should be said
    h_0 = np.zeros((1, hidden))
    p = start(V, hidden, rng)

    print(f"{hidden} hidden units learn to say {text!r}: {V} letters\n")
    first_loss = math.nan
    every = max(1, 20_000 // T)  # epochs between two lines; a short text needs none
    for epoch in range(epochs + 1):
        y, _, tape = forward(x, h_0, p)
        loss, dy = cross_entropy(y, targets)
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {epoch}: --rate {rate:g} is too high, {rate / 10:g} may do")
        if epoch == 0:
            first_loss = loss
            print(f"before training: loss {loss:.3f}\n{table(text, letters, softmax(y))}\n")
        elif epoch % every == 0:
            print(f"epoch {epoch:4}   loss {loss:.3f}", flush=True)
        if loss < SMALL_LOSS or epoch == epochs:
            break
        gradients, _ = clip_by_norm(backward(dy, tape, p), CLIP)
        for v, dv in zip(p, gradients, strict=True):
            v -= rate * dv

    print(f"after {epoch} epochs: loss {first_loss:.3f} -> {loss:.3f}\n{table(text, letters, softmax(y))}\n")
    said = say(letters, int(ids[0]), T, p)
    print(f"given {text[0]!r} and then its own letters, it says {said!r}")
    return said


def say(letters: list[str], first: int, T: int, p: Parameters) -> str:
    """The letter number ``first``, and T more: each the likeliest, and read by the network in its turn."""
    h = np.zeros((1, len(p.b_h)))
    ids = [first]
    for _ in range(T):
        x = np.eye(len(letters))[None, ids[-1:]]  # (1, 1, V)
        y, h, _ = forward(x, h, p)
        ids.append(int(y[0].argmax()))
    return "".join(letters[k] for k in ids)


def table(text: str, letters: list[str], p: np.ndarray) -> str:
    """The distributions p (T, V) as plain text: a row a step, a column a letter.

    The first two columns are the letter read and the one that should come next. At most 40 rows and 12
    letters are shown.
    """
    rows = [["reads", "next", *map(_shown, letters[:COLUMNS])]]
    for t in range(min(len(p), ROWS)):
        rows.append([_shown(text[t]), _shown(text[t + 1]), *(f"{number:.2f}" for number in p[t, :COLUMNS])])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if len(p) > ROWS or len(letters) > COLUMNS:
        shown = f"{min(len(p), ROWS)} of {len(p)} steps and {min(len(letters), COLUMNS)} of {len(letters)} letters"
        lines.append(f"  (the first {shown})")
    return "\n".join(lines)


def _shown(letter: str) -> str:
    return letter if letter.isprintable() and letter != " " else repr(letter)
