"""The contract of an encoder of pictures: what it reads, its network, and its pretrained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from elman.errors import ElmanError
from elman.layers.convolutional import PictureEncoder


@dataclass(frozen=True)
class Encoder:
    """A network that turns pictures into a grid of feature vectors.

    Args:
        name (str): the value of the option ``encoder``.
        stride (int): pixels from one cell of the grid to the next.
        size (int): the default size of a picture, in pixels a side, a multiple of the stride.
        mean, deviation (tuple[float, float, float]): what is subtracted from the pixels of each channel, 0 to 255, and
            what they are divided by then.
        build: makes the network, with random weights.
        pretrained: returns its pretrained weights by name; None where it is trained from scratch.
        version (str): part of the key of cached features; it changes with what the network computes from the same
            weights. Default: "1".
    """

    name: str
    stride: int
    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    build: Callable[[], PictureEncoder]
    pretrained: Callable[[], Mapping[str, Tensor]] | None = None
    version: str = "1"

    @property
    def computation(self) -> str:
        """A short hash of the version and the normalisation of the pixels."""
        return hashlib.sha256(repr((self.version, self.mean, self.deviation)).encode()).hexdigest()[:8]

    def network(self) -> PictureEncoder:
        """Build the network with its pretrained weights.

        Raises:
            ElmanError: the weights cannot be read.
        """
        network = self.build()
        if self.pretrained is not None:
            load_weights(network, self.pretrained(), f"encoder {self.name}")
        return network


def feature_weights(network: PictureEncoder) -> dict[str, Tensor]:
    """Return the weights of an encoder without those of its head, by name."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("head.")}


def load_weights(network: PictureEncoder, weights: Mapping[str, Tensor], place: str, head: bool = True) -> None:
    """Load the weights of an encoder, with those of its head or without them.

    Raises:
        ElmanError: names or shapes are others, or a value is not finite.
    """
    own = network.state_dict() if head else feature_weights(network)
    wrong = [name for name in own if name not in weights] + [name for name in weights if name not in own]
    wrong += [name for name in own if not wrong and own[name].shape != weights[name].shape]
    wrong += [name for name in own if not wrong and not weights[name].isfinite().all()]
    if wrong:
        raise ElmanError(f"{place}: these are not the weights of the encoder: {wrong[0]} is missing or wrong")
    network.load_state_dict(dict(weights), strict=head)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return a hash of weights, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}\0".encode())
        digest.update(weights[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()
