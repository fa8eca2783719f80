"""The contract of loops that write: a network as matrices and cells, and how its next token is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from elman.engines.scan import Scan

#: The error of a network whose logits are not finite.
NO_NUMBERS = "the model's outputs are not numbers (NaN or infinite), so it cannot write"


class Linear(NamedTuple):
    """y = W x + b: weight (N, K), bias (N,) or None."""

    weight: Tensor
    bias: Tensor | None


class Layers(NamedTuple):
    """Recurrent layers, each of which reads what the one below writes.

    Attributes:
        scans: a single step of each, with its state (B, H) before it; of x only the shape (B, 1, D) counts.
        connection: see `elman.layers.Stack`.
        carries: of a highway connection, the map to each gate t but that of the first layer.
    """

    scans: Sequence[Scan]
    connection: str
    carries: Sequence[Linear]


#: Where a module keeps a weight: the dictionary of its parameters, and the name.
Place = tuple[Mapping[str, Tensor | None], str]


class Written(NamedTuple):
    """A network that reads a token and gives the logits of the next one.

    Attributes:
        embedding: (V, E).
        layers: the recurrent layers.
        linears: the linear layers on top, the last one to logits (B, V).
    """

    embedding: Tensor
    layers: Layers
    linears: Sequence[Linear]


class Writes(ABC):
    """A network that a loop can write with."""

    @abstractmethod
    def written(self, state: Any) -> Written | None:
        """Return the network after a state; None if somebody watches it, or it is none of this form."""


class Choice(NamedTuple):
    """How tokens are chosen; `elman.decoding.sampling.choose` is the law.

    Attributes:
        temperature: the divisor of logits; 0 takes the most probable token.
        top_k, top_p, penalty: see `elman.decoding.Sampling`; top_k 0 keeps all tokens.
        banned: (V,), added to the logits: 0 or minus infinity.
        seeds: of each row.
        end: the token after which a row writes nothing else; None if no row ends.
    """

    temperature: float
    top_k: int
    top_p: float
    penalty: float
    banned: Tensor
    seeds: Sequence[int]
    end: int | None


class Writer(ABC):
    """A loop that has been started: it holds the state, and writes on whenever it is called."""

    @abstractmethod
    def write(self, count: int) -> Tensor:
        """Return the next tokens (N, B), N up to ``count``; fewer if all rows have ended.

        Raises:
            ElmanError: a logit is no number.
        """


class Writing(ABC):
    """An engine that can write without Python between the tokens."""

    @abstractmethod
    def writer(
        self, network: Written, choice: Choice, last: Tensor, seen: Tensor | None, ended: Tensor, written: int
    ) -> Writer | None:
        """Return a writer that goes on after the tokens ``last`` (B,); None if the engine cannot write for it.

        The caller promises that the weights stay as they are.

        Args:
            network: what gives the logits.
            choice: how tokens are chosen.
            last: (B,), the last tokens, which the network has not read.
            seen: (B, V) bool, the tokens to penalise; needed where ``choice.penalty`` is not 1.
            ended: (B,) bool, the rows that have ended.
            written: how many tokens each row has written so far.
        """
