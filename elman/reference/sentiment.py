"""Sentiment classification: a many-to-one network with every gradient derived by hand.

The words x_1 .. x_T of a sentence are one-hot vectors: 1 at the index of the word, 0 elsewhere (all zeros
for a word that does not occur in the training data). The network reads them in order. Its last state gives
the logits of the K labels::

    h_t    = tanh(W_xh x_t + W_hh h_{t-1} + b_h)         h_0 = 0
    y      = W_hy h_T + b_y                              the logits
    L      = -log softmax(y)[label]                      see loss.py

Backward. L depends on the states through the last one only::

    dy     = softmax(y) - one-hot of the label
    dW_hy  = dy h_T^T        db_y = dy        dh_T = W_hy^T dy
    dW_xh, dW_hh, db_h: from dh_T by backpropagation through time, see rnn.py

Training is gradient descent with momentum on all N training sentences at once. For every parameter v::

    g  = dL/dv, with L the mean over the sentences, clipped to a norm of 0.1 over all parameters
    u <- 0.9 u + g                            for W_hh: 0.9 u + g + 0.04 (W_hh - I)
    v <- v - rate u                           for W_xh, afterwards, each word vector w:
                                              w <- max(0, 1 - 0.003 rate / |w|) w

A network can memorise a few dozen sentences without learning the rule ("not" negates what follows), and
then it fails on new sentences. Four regularisers prevent this:

* W_hh starts as the identity, and all other weights near 0. The network starts as a memory: it adds up the
  contributions of its words and keeps the sum over words that contribute nothing ("right now", "earlier").
  Le, Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941.
* Weight decay draws W_hh back to the identity, so that words interact only where a sum cannot separate the
  sentences, that is, where one word negates another.
* A group lasso draws the word vectors in W_xh to 0, and those of irrelevant words stay there. Otherwise a frame
  that occurs with one label only ("... right now") would be taken for the cause of that label.
  Yuan & Lin 2006, https://doi.org/10.1111/j.1467-9868.2005.00532.x.
* Training adds noise to the words, x_t + 0.1 e_t with standard normal e_t, so that the result cannot depend on
  small differences. Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108.

As soon as the training loss of an epoch, with noise, is below 0.05, the learning rate decays linearly to 0
over 700 epochs, and training ends. The test sentences have no influence on training.

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

NOISE = 0.1  # standard deviation of the noise on each element of a word
WEIGHT_DECAY = 0.04  # of W_hh towards the identity
LASSO = 0.003  # reduction of the norm of each word vector in W_xh, per step and unit of learning rate
MOMENTUM = 0.9
CLIP = 0.1  # largest norm of the gradient
LOSS_THRESHOLD = 0.05  # nats; the learning rate decays from the first epoch with a smaller loss
DECAY_EPOCHS = 700  # epochs over which the learning rate decays to 0


class Parameters(NamedTuple):
    """The parameters of the network or their gradients."""

    W_xh: np.ndarray  # (H, V)
    W_hh: np.ndarray  # (H, H)
    b_h: np.ndarray  # (H,)
    W_hy: np.ndarray  # (K, H)
    b_y: np.ndarray  # (K,)


def initialise(V: int, H: int, K: int, rng: np.random.Generator) -> Parameters:
    """Initialise the parameters: biases 0, W_hh the identity, plus normal noise of standard deviation 0.001.

    The noise is so small that the untrained network is only a memory (see the top of the file).

    Args:
        V: number of words.
        H: number of hidden units.
        K: number of labels.
        rng: generator of the weights.

    Returns:
        The parameters, float64.

    Example:
        >>> p = initialise(20, 64, 2, np.random.default_rng(0))
        >>> p.W_xh.shape, bool(np.allclose(p.W_hh, np.eye(64), atol=0.01))
        ((64, 20), True)
    """
    return Parameters(
        W_xh=0.001 * rng.standard_normal((H, V)),
        W_hh=np.eye(H) + 0.001 * rng.standard_normal((H, H)),
        b_h=np.zeros(H),
        W_hy=0.001 * rng.standard_normal((K, H)),
        b_y=np.zeros(K),
    )


def forward(x: np.ndarray, p: Parameters) -> tuple[np.ndarray, np.ndarray, rnn.Tape]:
    """Compute the logits of B sentences with T words each.

    Args:
        x: (B, T, V), the words.
        p: the parameters.

    Returns:
        - y (B, K), the logits.
        - h_T (B, H), the last hidden state.
        - The tape for `backward`.

    Example:
        >>> p = initialise(2, 4, 3, np.random.default_rng(0))
        >>> y, h_T, tape = forward(one_hot("not bad", {"not": 0, "bad": 1}), p)
        >>> y.shape, h_T.shape
        ((1, 3), (1, 4))
    """
    B, H = len(x), len(p.b_h)
    # h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h); rnn.py has two biases; the second is 0
    no_bias = np.zeros_like(p.b_h)
    _, (h_T,), tape = rnn.forward(x, (np.zeros((B, H)),), rnn.Weights(p.W_xh, p.W_hh, p.b_h, no_bias))
    # y = W_hy h_T + b_y                                                          (B, K)
    y = h_T @ p.W_hy.T + p.b_y
    return y, h_T, tape


def backward(dy: np.ndarray, h_T: np.ndarray, tape: rnn.Tape, p: Parameters) -> Parameters:
    """Compute the gradients of the parameters.

    Args:
        dy: (B, K), the gradient dL/dy of the logits.
        h_T: (B, H), the last hidden state, from `forward`.
        tape: the tape of `forward`.
        p: the parameters.

    Returns:
        The gradients, of the shapes of ``p``.

    Example:
        >>> p = initialise(2, 4, 3, np.random.default_rng(0))
        >>> y, h_T, tape = forward(one_hot("not bad", {"not": 0, "bad": 1}), p)
        >>> loss, dy = cross_entropy(y, np.array([2]))
        >>> backward(dy, h_T, tape, p).W_hy.shape
        (3, 4)
    """
    # dW_hy = dy h_T^T;   db_y = dy                                               (K, H), (K,)
    dW_hy = dy.T @ h_T
    db_y = dy.sum(axis=0)
    # dh_T = W_hy^T dy                                                            (B, H)
    dh_T = dy @ p.W_hy
    # Backpropagation through time. The outputs before the last are not used, so their gradient is 0.
    B, T, _ = tape.x.shape
    _, _, dweights = rnn.backward(np.zeros((B, T, h_T.shape[1]), dy.dtype), (dh_T,), tape)
    return Parameters(dweights.weight_ih, dweights.weight_hh, dweights.bias_ih, dW_hy, db_y)


def one_hot(text: str, vocabulary: dict[str, int]) -> np.ndarray:
    """Encode a sentence as one-hot vectors.

    Args:
        text: a sentence of T words.
        vocabulary: the index of each of the V words.

    Returns:
        x (1, T, V), with 1 at the index of each word. Unknown words are all zeros.

    Example:
        >>> one_hot("not so bad", {"not": 0, "bad": 1})[0]
        array([[1., 0.],
               [0., 0.],
               [0., 1.]])
    """
    x = np.zeros((1, len(sentences.words(text)), len(vocabulary)))
    for t, word in enumerate(sentences.words(text)):
        if word in vocabulary:
            x[0, t, vocabulary[word]] = 1
    return x


def evaluate(
    examples: list[Example], vocabulary: dict[str, int], labels: list[str], p: Parameters
) -> tuple[float, list[np.ndarray]]:
    """Compute the loss and the predicted probabilities.

    Args:
        examples: the sentences.
        vocabulary: the index of each word.
        labels: the K labels.
        p: the parameters.

    Returns:
        - The mean loss in nats over the examples whose label is in ``labels``; NaN if there is none.
        - The probabilities of the labels, softmax(y) (K,), of each example.

    Example:
        >>> p = initialise(2, 4, 2, np.random.default_rng(0))
        >>> loss, probabilities = evaluate([Example("not bad", "good")], {"not": 0, "bad": 1}, ["bad", "good"], p)
        >>> round(loss, 2), probabilities[0].round(2)
        (0.69, array([0.5, 0.5]))
    """
    losses, probabilities = [], []
    for example in examples:
        y, _, _ = forward(one_hot(example.text, vocabulary), p)
        probabilities.append(softmax(y[0]))
        if example.label in labels:
            losses.append(cross_entropy(y, np.array([labels.index(example.label)]))[0])
    return (float(np.mean(losses)) if losses else math.nan), probabilities


def accuracy(examples: list[Example], labels: list[str], probabilities: list[np.ndarray]) -> float:
    """Compute the percentage of examples whose most probable label is correct.

    Args:
        examples: the sentences.
        labels: the K labels.
        probabilities: the probabilities (K,) of each example, from `evaluate`.

    Returns:
        The accuracy, 0 to 100.

    Example:
        >>> accuracy([Example("not bad", "good")], ["bad", "good"], [np.array([0.2, 0.8])])
        100.0
    """
    correct = sum(labels[p.argmax()] == example.label for example, p in zip(examples, probabilities, strict=True))
    return 100 * correct / len(examples)


def batches_by_length(
    examples: list[Example], vocabulary: dict[str, int], labels: list[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group the sentences by length, one batch per length.

    Args:
        examples: the sentences.
        vocabulary: the index of each word.
        labels: the labels.

    Returns:
        For each length T, x (B, T, V), float32, and the indices (B,) of the labels.

    Example:
        >>> examples = [Example("bad", "bad"), Example("good", "good"), Example("not bad", "good")]
        >>> [x.shape for x, _ in batches_by_length(examples, {"bad": 0, "good": 1, "not": 2}, ["bad", "good"])]
        [(2, 1, 3), (1, 2, 3)]
    """
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


def fit(
    train: list[Example],
    test: list[Example],
    *,
    epochs: int = 2000,
    hidden: int = 64,
    rate: float = 1.5,
    rng: np.random.Generator,
) -> float:
    """Train the network and print the progress.

    Args:
        train: training sentences.
        test: test sentences. They have no influence on training.
        epochs: largest number of passes over the training sentences. Default: 2000.
        hidden: number of hidden units, H. Default: 64.
        rate: learning rate. Default: 1.5.
        rng: generator of the initial weights and of the noise.

    Returns:
        The accuracy on ``test`` in percent.

    Raises:
        InputError: if the loss overflows because the learning rate is too high.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> accuracy = fit(*sentences.make(rng), rng=rng)  # doctest: +SKIP
        192 training sentences, 18 words; 32 test sentences
        ...
        test accuracy 100.0%
    """
    vocabulary = {word: k for k, word in enumerate(sorted({w for e in train for w in sentences.words(e.text)}))}
    labels = sorted({example.label for example in train})
    _describe(train, test, vocabulary, labels)
    batches = batches_by_length(train, vocabulary, labels)
    # Single precision is sufficient for training, and twice as fast.
    p = Parameters(*(v.astype(np.float32) for v in initialise(len(vocabulary), hidden, len(labels), rng)))
    velocity = Parameters(*(np.zeros_like(v) for v in p))
    identity = np.eye(hidden, dtype=np.float32)

    log_every = max(1, 2400 // len(train))  # epochs between two lines of output
    decay_start = epochs  # epoch from which the learning rate decays
    for epoch in range(1, epochs + 1):
        step = rate * (1 - max(0, epoch - decay_start) / DECAY_EPOCHS)
        loss, gradient = 0.0, Parameters(*(np.zeros_like(v) for v in p))
        for x, targets in batches:
            share = len(targets) / len(train)
            y, h_T, tape = forward(x + NOISE * rng.standard_normal(x.shape, np.float32), p)
            batch_loss, dy = cross_entropy(y, targets)
            loss += share * batch_loss
            for dv, part in zip(gradient, backward(share * dy, h_T, tape, p), strict=True):
                dv += part
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} in epoch {epoch}: --rate {rate:g} is too high, try {rate / 10:g}")
        clipped, _ = clip_by_norm(gradient, CLIP)
        for v, dv, u in zip(p, clipped, velocity, strict=True):
            # u = 0.9 u + dv, for W_hh + 0.04 (W_hh - I);   v = v - rate u
            u *= MOMENTUM
            u += dv + WEIGHT_DECAY * (v - identity) if v is p.W_hh else dv
            v -= step * u
            if v is p.W_xh:  # w <- max(0, 1 - 0.003 rate / |w|) w; each column is a word vector
                length = np.linalg.norm(v, axis=0, keepdims=True)
                v *= np.maximum(0, 1 - step * LASSO / np.maximum(length, 1e-12))
        if loss < LOSS_THRESHOLD:
            decay_start = min(decay_start, epoch)
        done = epoch in (epochs, decay_start + DECAY_EPOCHS)
        if done or epoch == 1 or epoch % log_every == 0:
            train_loss, probabilities = evaluate(train, vocabulary, labels, p)
            train_accuracy = accuracy(train, labels, probabilities)
            test_loss, probabilities = evaluate(test, vocabulary, labels, p)
            test_accuracy = accuracy(test, labels, probabilities)
            print(
                f"epoch {epoch:4}   train loss {train_loss:.3f} accuracy {train_accuracy:5.1f}%"
                f"   test loss {test_loss:.3f} accuracy {test_accuracy:5.1f}%",
                flush=True,
            )
        if done:
            break

    print("\n" + _sample_predictions(test, labels, probabilities) + "\n")
    print(f"test accuracy {test_accuracy:.1f}%")
    return test_accuracy


def _describe(train: list[Example], test: list[Example], vocabulary: dict[str, int], labels: list[str]) -> None:
    """Print the sizes of the data, and the words and labels that training does not cover."""
    print(f"{len(train)} training sentences, {len(vocabulary)} words; {len(test)} test sentences")
    print(textwrap.shorten(f"labels: {', '.join(labels)}", 120, placeholder=" ..."))
    unknown = {word for example in test for word in sentences.words(example.text)} - set(vocabulary)
    print(f"test words that do not occur in training: {len(unknown)} (encoded as zeros)")
    unknown_labels = sum(example.label not in labels for example in test)
    if unknown_labels:
        print(f"test sentences with a label that does not occur in training: {unknown_labels} (counted as errors)")
    print()


def _sample_predictions(test: list[Example], labels: list[str], probabilities: list[np.ndarray]) -> str:
    """Format the predictions for five test sentences, errors first."""
    lines = []
    for (text, label), p in zip(test, probabilities, strict=True):
        predicted = labels[p.argmax()]
        verdict = "" if predicted == label else f"  wrong: the label is {label}"
        lines.append((predicted == label, f"{text!r}: {predicted} ({100 * p.max():.1f}%){verdict}"))
    return "\n".join(line for _, line in sorted(lines, key=lambda line: line[0])[:5])
