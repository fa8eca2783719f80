"""Recurrent neural network transducers (RNN-T): the loss, the predictor and the joiner.

A transducer writes any number of tokens at each frame of its input, and then a blank, with which it moves on to the
next frame::

    g_u       = predictor(tokens 1..u)                       a recurrent network over the tokens written so far
    p(k | t, u) = softmax(W tanh(W_e h_t + W_p g_u + b_e) + b)   the joiner, for frame t after u tokens

Graves 2012, https://arxiv.org/abs/1211.3711; the joiner of Graves, Mohamed & Hinton 2013,
https://arxiv.org/abs/1303.5778
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from elman.cells import Cell
from elman.layers.arguments import size as positive
from elman.layers.dropout import SequenceDropout
from elman.layers.lengths import real_steps
from elman.layers.recurrent import features_only
from elman.layers.stack import stack
from elman.layers.state import State
from elman.layers.transducer_loss import joint_loss, transducer_loss

__all__ = ["Joiner", "Predictor", "transducer_loss"]


class Predictor(nn.Module):
    """The network over the tokens written so far: ``y = predictor(targets, lengths)``.

    ::

        g_0 = RNN(start)        g_u = RNN(token_u, state)

    Args:
        vocab_size (int): V, the number of tokens, the blank included.
        embedding_size (int): The size of a token's vector.
        hidden_size (int): H, the number of units of a layer.
        cell (str | Cell): The cell of all layers. Default: ``"lstm"``.
        num_layers (int): The number of layers. Default: 1.
        dropout (float): The dropout probability of the vectors, between layers, and of the output. Default: 0.0.
        start_id (int): The token before the first one; the blank, which is never written. Default: 0.

    Shapes:
        - targets: (B, U), integers in 0..V - 1. Tokens beyond a row's length are ignored.
        - lengths: (B,), integers in 0..U; None if every row has U tokens.
        - y: (B, U + 1, H).

    Raises:
        TypeError: A size is not an int.
        ValueError: An argument is out of range.
        ElmanError: The cell is unknown, or reads raw columns of its input.

    Example::

        >>> predictor = Predictor(vocab_size=30, embedding_size=8, hidden_size=16)
        >>> predictor(torch.tensor([[5, 4, 9], [7, 3, 0]]), torch.tensor([3, 2])).shape
        torch.Size([2, 4, 16])
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        cell: str | Cell = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        start_id: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(positive("vocab_size", vocab_size), positive("embedding_size", embedding_size))
        self.recurrent = stack(cell, embedding_size, hidden_size, num_layers, dropout=dropout)
        features_only(self.recurrent)
        self.dropout = SequenceDropout(dropout)
        self.start_id, self.output_size = start_id, self.recurrent.output_size

    def forward(self, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return g_0, ..., g_U, (B, U + 1, H)."""
        if lengths is not None:
            targets = targets.masked_fill(~real_steps(lengths, targets.shape[1]), self.start_id)
        ids = pad(targets, (1, 0), value=self.start_id)
        y, _ = self.recurrent(self.dropout(self.embedding(ids)), None, None if lengths is None else lengths + 1)
        return self.dropout(y)

    def step(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return g (R, H) and the new state after the tokens ids (R,); the first ones are ``start_id``."""
        return self.recurrent.step(self.embedding(ids), state)


class Joiner(nn.Module):
    """The joint network: ``logits = W tanh(W_e h + W_p g + b_e) + b``.

    Args:
        encoder_size (int): E, the size of h, an output of the encoder.
        predictor_size (int): P, the size of g, an output of the predictor.
        size (int): J, the number of hidden units.
        vocab_size (int): V, the number of tokens, the blank included.

    Shapes:
        - encodings: (B, T, E).
        - predictions: (B, U + 1, P).
        - logits: (B, T, U + 1, V).

    Raises:
        TypeError: A size is not an int.
        ValueError: A size is below 1.

    Example::

        >>> joiner = Joiner(encoder_size=6, predictor_size=16, size=12, vocab_size=30)
        >>> encodings, predictions = torch.randn(2, 10, 6), torch.randn(2, 4, 16)
        >>> joiner(encodings, predictions).shape
        torch.Size([2, 10, 4, 30])
        >>> targets, lengths = torch.tensor([[5, 4, 9], [7, 3, 0]]), torch.tensor([10, 8])
        >>> joiner.loss(encodings, predictions, targets, lengths, torch.tensor([3, 2])).shape
        torch.Size([2])
    """

    def __init__(self, encoder_size: int, predictor_size: int, size: int, vocab_size: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(positive("encoder_size", encoder_size), positive("size", size))
        self.predictor = nn.Linear(positive("predictor_size", predictor_size), size, bias=False)
        self.output = nn.Linear(size, positive("vocab_size", vocab_size))

    def forward(self, encodings: Tensor, predictions: Tensor) -> Tensor:
        """Return the logits of every frame after every number of tokens, (B, T, U + 1, V)."""
        return self.join(self.encoder(encodings)[:, :, None], self.predictor(predictions)[:, None])

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Return logits (..., V) for W_e h + b_e, from ``encoder``, and W_p g, from ``predictor``, (..., J) each."""
        return self.output(torch.tanh(encoded + predicted))

    def loss(
        self,
        encodings: Tensor,
        predictions: Tensor,
        targets: Tensor,
        lengths: Tensor,
        target_lengths: Tensor,
        blank: int = 0,
    ) -> Tensor:
        """Compute the loss without the tensor of all logits.

        The result is that of `transducer_loss` for the logits of `forward`. The logits are computed in pieces, twice:
        for the loss, and for the gradients, which leave out pieces whose nodes (t, u) all have posterior probabilities
        below the rounding error of the dtype. Second derivatives are not available.

        Args:
            encodings (Tensor): Outputs of the encoder, (B, T, E).
            predictions (Tensor): Outputs of the predictor, (B, U + 1, P).
            targets, lengths, target_lengths, blank: See `transducer_loss`.

        Returns:
            Tensor: -log p(targets) of each row, (B,), in nats, float32 or float64.

        Raises:
            ValueError: See `transducer_loss`.
        """
        return joint_loss(
            self.encoder(encodings), self.predictor(predictions), self.output.weight, self.output.bias,
            targets, lengths, target_lengths, blank,
        )  # fmt: skip
