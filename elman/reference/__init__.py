"""Reference implementation of recurrent networks in NumPy, with backward passes derived by hand.

Each file covers one subject and can be read beside a textbook. It begins with the equations and the
derivation of the backward pass; in the code, each line stands below its equation.

=================== ========================================================================
rnn                 simple recurrent network, tanh or relu; start here
lstm                long short-term memory
peephole_lstm       LSTM with peephole connections from the cell state to the gates
gru                 gated recurrent unit, in the form of torch and cuDNN
bidirectional       two networks over the same x, in opposite directions of time
activations         sigma (logistic function) and softmax
loss                softmax cross-entropy
clip                gradient clipping by value and by norm
gradcheck           gradients by finite differences
errors              the error for invalid input
sentiment           a network that classifies sentences as positive or negative
sentences           its data: a small grammar, or tables of the user
hello               a character model that learns the word "hello"
=================== ========================================================================

Every cell is a pair of functions over whole sequences::

    y, state, tape = lstm.forward(x, state, weights)
    dx, dstate_0, dweights = lstm.backward(dy, dstate, tape)

Shapes:
    - x: (B, T, D); y: (B, T, H).
    - state: a tuple of (B, H) arrays, (h,) or (h, c).
    - weights: the ``Weights`` of the module, with the names, shapes and gate order of torch.nn.
    - tape: the intermediate values that ``forward`` keeps for ``backward``.

Letters: B batch, T time, D input, H hidden, V vocabulary, K labels. d followed by a name is the
gradient of the loss L: dv = dL/dv.

Commands::

    python -m elman.reference sentiment [TRAIN.tsv TEST.tsv]
    python -m elman.reference hello [TEXT]

The package needs NumPy only and imports no other part of elman. The tests compare the layers of elman
with it.
"""

from __future__ import annotations

from elman.reference import activations, bidirectional, clip, gradcheck, gru, loss, lstm, peephole_lstm, rnn

__all__ = ["rnn", "lstm", "peephole_lstm", "gru", "bidirectional", "activations", "loss", "clip", "gradcheck"]
