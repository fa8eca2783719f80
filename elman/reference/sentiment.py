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

Learning is gradient descent on all N training sentences at once, with momentum, for every parameter v::

    g  = dL/dv, L the mean over the sentences, all g together clipped to a norm of 0.1
    u <- 0.9 u + g                            for W_hh: 0.9 u + g + 0.04 (W_hh - I)
    v <- v - rate u                       for W_xh: then each word's vector w is shortened,
                                          w <- max(0, 1 - 0.003 rate / |w|) w

A few dozen sentences can be learnt by heart, and a network that has done so is wrong about the next
one. Four things keep it at the rule, "not" turns what follows:

* At the start W_hh is the identity: the network is a memory, which adds up what its words mean, and
  keeps it over the words that mean nothing ("right now", "earlier"). See Le et al. 2015,
  https://arxiv.org/abs/1504.00941. All else starts at almost 0.
* Weight decay draws W_hh back to the identity, so that the words act on each other only where the
  sentences cannot be told apart by adding up, which is where one word turns another.
* Each word's vector in W_xh is drawn to 0, and words that decide nothing stay there: a frame that was
  seen with one label only ("... right now") must not be taken for its cause. This is the group lasso,
  Yuan & Lin 2006, https://doi.org/10.1111/j.1467-9868.2005.00532.x.
* While it learns, noise is added to the words, x_t + 0.1 e_t with e_t normal, so that nothing may hang
  on small differences. See Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108.

When the loss of an epoch, noise included, is below 0.05 for the first time, the rate begins to fall, to
0 within 700 epochs, and learning ends. The test sentences decide nothing.

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
from elman.reference.clip import clip_by_norm
from elman.reference.errors import InputError
from elman.reference.loss import cross_entropy
from elman.reference.sentences import Example

NOISE = 0.1  # the deviation of what is added to each number of a word
DECAY = 0.04  # of W_hh to the identity
SHORTENING = 0.003  # of each word's vector in W_xh, in a step of rate 1
MOMENTUM = 0.9
CLIP = 0.1  # the norm of the gradient at most
SMALL_LOSS = 0.05  # nats, of an epoch, from which on the rate falls
COOLING = 700  # epochs in which it falls to 0


class Parameters(NamedTuple):
    """The parameters of the network, or their gradients."""

    W_xh: np.ndarray  # (H, V)
    W_hh: np.ndarray  # (H, H)
    b_h: np.ndarray  # (H,)
    W_hy: np.ndarray  # (K, H)
    b_y: np.ndarray  # (K,)


def start(V: int, H: int, K: int, rng: np.random.Generator) -> Parameters:
    """Biases of 0, W_hh the identity, and weights from a normal distribution with a deviation of 0.001.

    So small that the network begins as a memory and nothing else: whatever it does, the sentences made it.
    """
    return Parameters(
        W_xh=0.001 * rng.standard_normal((H, V)),
        W_hh=np.eye(H) + 0.001 * rng.standard_normal((H, H)),
        b_h=np.zeros(H),
        W_hy=0.001 * rng.standard_normal((K, H)),
        b_y=np.zeros(K),
    )


def forward(x: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, rnn.Tape]:
    """x (B, T, V), the words of B sentences, to the logits y (B, K), with h_T (B, H) and the tape of the network."""
    B, H = len(x), len(p.b_h)
    # h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h); rnn.py has two biases, the second stays 0
    no_bias = np.zeros_like(p.b_h)
    _, (h_T,), tape = rnn.forward(x, (np.zeros((B, H)),), rnn.Weights(p.W_xh, p.W_hh, p.b_h, no_bias))
    # y = W_hy h_T + b_y                                                          (B, K)
    y = h_T @ p.W_hy.T + p.b_y
    return y, h_T, tape


def backward(dy: np.ndarray, h_T: np.ndarray, tape: rnn.Tape, p: Parameters) -> Parameters:
    """dy (B, K), dL/dy, to the gradients of the parameters."""
    # dW_hy = dy h_T^T;   db_y = dy                                               (K, H), (K,)
    dW_hy = dy.T @ h_T
    db_y = dy.sum(axis=0)
    # dh_T = W_hy^T dy                                                            (B, H)
    dh_T = dy @ p.W_hy
    # back through time: the outputs before the last are not read, so their gradient is 0
    B, T, _ = tape.x.shape
    _, _, dweights = rnn.backward(np.zeros((B, T, h_T.shape[1]), dy.dtype), (dh_T,), tape)
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


def by_length(
    examples: list[Example], vocabulary: dict[str, int], labels: list[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The sentences of each length side by side, so that one product serves all: x (B, T, V), labels (B,)."""
    batches: dict[int, list[Example]] = {}
    for example in examples:
        batches.setdefault(len(sentences.words(example.text)), []).append(example)
    return [
        (
            np.concatenate([one_hot(example.text, vocabulary) for example in batch], dtype=np.float32),
            np.array([labels.index(example.label) for example in batch]),
        )
        for _, batch in sorted(batches.items())
    ]


def learn(
    train: list[Example],
    test: list[Example],
    *,
    epochs: int = 2000,
    hidden: int = 64,
    rate: float = 1.5,
    rng: np.random.Generator,
) -> float:
    """Trains on ``train``, printing how the loss falls, and gives the accuracy on ``test`` in %.

    Arguments:
        epochs: how often the sentences are gone through at most.
        hidden: H.
        rate: the step size of gradient descent.
        rng: draws the first weights and the noise.

    Raises InputError where the rate is so high that the numbers overflow.
    """
    vocabulary = {word: k for k, word in enumerate(sorted({w for e in train for w in sentences.words(e.text)}))}
    labels = sorted({example.label for example in train})
    _describe(train, test, vocabulary, labels)
    batches = by_length(train, vocabulary, labels)
    # single precision is enough to learn with, and twice as fast
    p = Parameters(*(v.astype(np.float32) for v in start(len(vocabulary), hidden, len(labels), rng)))
    velocity = Parameters(*(np.zeros_like(v) for v in p))
    identity = np.eye(hidden, dtype=np.float32)

    every = max(1, 2400 // len(train))  # epochs between two lines
    learnt = epochs  # the epoch from which on the rate falls
    for epoch in range(1, epochs + 1):
        step = rate * (1 - max(0, epoch - learnt) / COOLING)
        loss, gradient = 0.0, Parameters(*(np.zeros_like(v) for v in p))
        for x, targets in batches:
            share = len(targets) / len(train)
            y, h_T, tape = forward(x + NOISE * rng.standard_normal(x.shape, np.float32), p)
            batch_loss, dy = cross_entropy(y, targets)
            loss += share * batch_loss
            for dv, part in zip(gradient, backward(share * dy, h_T, tape, p), strict=True):
                dv += part
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {epoch}: --rate {rate:g} is too high, {rate / 10:g} may do")
        clipped, _ = clip_by_norm(gradient, CLIP)
        for v, dv, u in zip(p, clipped, velocity, strict=True):
            # u = 0.9 u + dv, for W_hh + 0.04 (W_hh - I);   v = v - rate u
            u *= MOMENTUM
            u += dv + DECAY * (v - identity) if v is p.W_hh else dv
            v -= step * u
            if v is p.W_xh:  # w <- max(0, 1 - 0.003 rate / |w|) w, a word a column
                length = np.linalg.norm(v, axis=0, keepdims=True)
                v *= np.maximum(0, 1 - step * SHORTENING / np.maximum(length, 1e-12))
        if loss < SMALL_LOSS:
            learnt = min(learnt, epoch)
        done = epoch in (epochs, learnt + COOLING)
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
