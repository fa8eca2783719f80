"""Is a sentence good or bad news? A many-to-one network that learns it, every gradient by hand.

The words x_1 .. x_T of a sentence are one-hot vectors: 1 at the word's number, 0 elsewhere (zeros
throughout for a word that training never saw). The network reads them one by one, and after the last
gives a score to each of the K labels::

    h_t    = tanh(W_xh x_t + W_hh h_{t-1} + b_h)         h_0 = 0
    y      = W_hy h_T + b_y                              the logits
    L      = -log softmax(y)[label]                      see loss.py

Backward: L depends on the states through the last one alone::

    dy     = softmax(y) - one-hot of the label
    dW_hy  = dy h_T^T        db_y = dy        dh_T = W_hy^T dy
    dW_xh, dW_hh, db_h: dh_T sent back through time, see rnn.py

Learning is stochastic gradient descent, a sentence at a time: v -= rate * clip(dL/dv, -1, 1) for every
parameter v. It ends when the mean loss of an epoch over the training sentences is below 0.005, or with
the last epoch. The test sentences decide nothing.

After Victor Zhou, "An introduction to recurrent neural networks for beginners" (2019),
https://victorzhou.com/blog/intro-to-rnns/
"""

from __future__ import annotations

import math
import textwrap
from typing import NamedTuple

import numpy as np

from elman.reference import rnn, sentences
from elman.reference.activations import softmax
from elman.reference.clip import clip_by_value
from elman.reference.errors import InputError
from elman.reference.loss import cross_entropy
from elman.reference.sentences import Example

SMALL_LOSS = 0.005  # nats; the label then has a probability of 0.995
CLIP = 1.0


class Parameters(NamedTuple):
    """The parameters of the network, or their gradients."""

    W_xh: np.ndarray  # (H, V)
    W_hh: np.ndarray  # (H, H)
    b_h: np.ndarray  # (H,)
    W_hy: np.ndarray  # (K, H)
    b_y: np.ndarray  # (K,)


def start(V: int, H: int, K: int, rng: np.random.Generator) -> Parameters:
    """Biases of 0, and weights from normal distributions: deviation 0.3 for W_xh, 0.4 / sqrt(H) for
    W_hh, 0.8 / sqrt(H) for W_hy.

    The words differ clearly from the start, and what is past is at first half forgotten at every step:
    the network begins near the plain rule, a score for each word, and departs from it where it must.
    """
    return Parameters(
        W_xh=0.3 * rng.standard_normal((H, V)),
        W_hh=0.4 / np.sqrt(H) * rng.standard_normal((H, H)),
        b_h=np.zeros(H),
        W_hy=0.8 / np.sqrt(H) * rng.standard_normal((K, H)),
        b_y=np.zeros(K),
    )


def forward(x: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, rnn.Tape]:
    """x (1, T, V), the one-hot words, to the logits y (1, K), with h_T (1, H) and the tape of the network."""
    H = len(p.b_h)
    # h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h); rnn.py has two biases, the second stays 0
    _, (h_T,), tape = rnn.forward(x, (np.zeros((1, H)),), rnn.Weights(p.W_xh, p.W_hh, p.b_h, np.zeros(H)))
    # y = W_hy h_T + b_y                                                          (1, K)
    y = h_T @ p.W_hy.T + p.b_y
    return y, h_T, tape


def backward(dy: np.ndarray, h_T: np.ndarray, tape: rnn.Tape, p: Parameters) -> Parameters:
    """dy (1, K), dL/dy, to the gradients of the parameters."""
    # dW_hy = dy h_T^T;   db_y = dy                                               (K, H), (K,)
    dW_hy = dy.T @ h_T
    db_y = dy.sum(axis=0)
    # dh_T = W_hy^T dy                                                            (1, H)
    dh_T = dy @ p.W_hy
    # back through time: the outputs before the last are not read, so their gradient is 0
    T = tape.x.shape[1]
    _, _, dweights = rnn.backward(np.zeros((1, T, h_T.shape[1])), (dh_T,), tape)
    return Parameters(dweights.weight_ih, dweights.weight_hh, dweights.bias_ih, dW_hy, db_y)


def one_hot(text: str, vocabulary: dict[str, int]) -> np.ndarray:
    """A sentence to (1, T, V): a row a word, 1 at the word's number; zeros for an unknown word."""
    x = np.zeros((1, len(sentences.words(text)), len(vocabulary)))
    for t, word in enumerate(sentences.words(text)):
        if word in vocabulary:
            x[0, t, vocabulary[word]] = 1
    return x


def evaluate(
    examples: list[Example], vocabulary: dict[str, int], labels: list[str], p: Parameters
) -> tuple[float, list[np.ndarray]]:
    """The mean loss over the examples whose label is known, and for each example softmax(y) (K,)."""
    losses, probabilities = [], []
    for example in examples:
        y, _, _ = forward(one_hot(example.text, vocabulary), p)
        probabilities.append(softmax(y[0]))
        if example.label in labels:
            losses.append(cross_entropy(y, np.array([labels.index(example.label)]))[0])
    return (float(np.mean(losses)) if losses else math.nan), probabilities


def accuracy(examples: list[Example], labels: list[str], probabilities: list[np.ndarray]) -> float:
    """How many % of the examples have their likeliest label right."""
    right = sum(labels[p.argmax()] == example.label for example, p in zip(examples, probabilities, strict=True))
    return 100 * right / len(examples)


def learn(
    train: list[Example],
    test: list[Example],
    *,
    epochs: int = 1000,
    hidden: int = 64,
    rate: float = 2e-2,
    rng: np.random.Generator,
) -> float:
    """Trains on ``train``, printing how the loss falls, and gives the accuracy on ``test`` in %.

    Arguments:
        epochs: how often the sentences are gone through at most.
        hidden: H.
        rate: the step size of gradient descent.
        rng: draws the first weights and the order of the sentences.

    Raises InputError where the rate is so high that the numbers overflow.
    """
    vocabulary = {word: k for k, word in enumerate(sorted({w for e in train for w in sentences.words(e.text)}))}
    labels = sorted({example.label for example in train})
    _describe(train, test, vocabulary, labels)
    known = [(one_hot(e.text, vocabulary), np.array([labels.index(e.label)])) for e in train]
    p = start(len(vocabulary), hidden, len(labels), rng)

    every = max(1, 1200 // len(train))  # epochs between two lines
    for epoch in range(1, epochs + 1):
        loss = 0.0
        for k in rng.permutation(len(known)):
            x, target = known[k]
            y, h_T, tape = forward(x, p)
            sentence_loss, dy = cross_entropy(y, target)
            gradients = clip_by_value(backward(dy, h_T, tape, p), CLIP)
            for v, dv in zip(p, gradients, strict=True):
                v -= rate * dv
            loss += sentence_loss / len(train)
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {epoch}: --rate {rate:g} is too high, {rate / 10:g} may do")
        done = epoch == epochs or loss < SMALL_LOSS
        if done or epoch == 1 or epoch % every == 0:
            train_loss, answers = evaluate(train, vocabulary, labels, p)
            train_percent = accuracy(train, labels, answers)
            test_loss, answers = evaluate(test, vocabulary, labels, p)
            test_percent = accuracy(test, labels, answers)
            print(
                f"epoch {epoch:4}   train loss {train_loss:.3f} accuracy {train_percent:5.1f}%"
                f"   test loss {test_loss:.3f} accuracy {test_percent:5.1f}%",
                flush=True,
            )
        if done:
            break

    print("\n" + _some(test, labels, answers) + "\n")
    print(f"test accuracy {test_percent:.1f}%")
    return test_percent


def _describe(train: list[Example], test: list[Example], vocabulary: dict[str, int], labels: list[str]) -> None:
    print(f"{len(train)} sentences to learn from, {len(vocabulary)} words; {len(test)} sentences to be tested on")
    print(textwrap.shorten(f"labels: {', '.join(labels)}", 120, placeholder=" ..."))
    unknown = {word for example in test for word in sentences.words(example.text)} - set(vocabulary)
    print(f"words of the test sentences that training does not have: {len(unknown)} (each is read as zeros)")
    strange = sum(example.label not in labels for example in test)
    if strange:
        print(f"test sentences with a label that training does not have: {strange} (each counts as wrong)")
    print()


def _some(test: list[Example], labels: list[str], answers: list[np.ndarray]) -> str:
    """Five test sentences and what the network makes of them, the wrong ones first."""
    lines = []
    for (text, label), p in zip(test, answers, strict=True):
        answer = labels[p.argmax()]
        verdict = "" if answer == label else f"  wrong: it is {label}"
        lines.append((answer == label, f"{text!r}: {answer} ({100 * p.max():.1f}%){verdict}"))
    return "\n".join(line for _, line in sorted(lines, key=lambda line: line[0])[:5])
