"""The reference: recurrent networks in NumPy, forward and backward through time derived by hand.

One file a subject, to be read beside a textbook. Each begins with its formulas and the derivation of the
backward pass; below, the formula of each step stands above its line.

=================== ========================================================================
rnn                 the simple recurrent network, tanh or relu; begin here
lstm                long short-term memory
peephole_lstm       LSTM whose gates look at the cell
gru                 gated recurrent unit, as torch and cuDNN compute it
bidirectional       two networks over the same x, one from either end
activations         sigma and softmax
loss                cross-entropy
clip                exploding gradients, clipped by value or by norm
gradcheck           is the derivation right? slopes by finite differences
sentiment           a network that learns whether a sentence is positive or negative
sentences           the sentences for it, from a small grammar or from tables
hello               a network of four letters that learns to say hello
=================== ========================================================================

Every cell is a pair of functions over whole sequences::

    y, state, tape = lstm.forward(x, state, weights)
    dx, dstate_0, dweights = lstm.backward(dy, dstate, tape)

x is (B, T, D), y is (B, T, H); state is a tuple of (B, H), (h,) or (h, c); ``weights`` is the file's
``Weights``, with the names, shapes and gate order of torch.nn. The tape is what forward keeps for
backward. B batch, T time, D input, H hidden, V vocabulary, K labels.

    python -m elman.reference sentiment [TRAIN.tsv TEST.tsv]
    python -m elman.reference hello [TEXT]

NumPy is all it needs: it imports nothing else of the package, and is what the rest is tested against.
"""

from __future__ import annotations

from elman.reference import activations, bidirectional, clip, gradcheck, gru, loss, lstm, peephole_lstm, rnn

__all__ = ["rnn", "lstm", "peephole_lstm", "gru", "bidirectional", "activations", "loss", "clip", "gradcheck"]
