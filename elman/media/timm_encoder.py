"""Encoders of the timm package: ``timm:resnet18.a1_in1k``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from elman.errors import ElmanError
from elman.layers.convolutional import PictureEncoder
from elman.media.encoder import Encoder

#: How the names of these encoders begin.
TIMM = "timm:"


class TimmEncoder(PictureEncoder):
    """The last feature map of a model of timm; dropout is off and the statistics of its normalisation are constants.

    Args:
        model (nn.Module): what ``timm.create_model(NAME, features_only=True)`` returns.
    """

    def __init__(self, model: nn.Module) -> None:
        about: Any = model.feature_info
        stride, channels = about.reduction()[-1], about.channels()[-1]
        super().__init__(stride, channels, channels)
        self.inner = model

    def features(self, x: Tensor) -> Tensor:
        self.inner.eval()
        y = self.inner(x)[-1]
        return y if y.shape[1] == self.channels else y.permute(0, 3, 1, 2)  # some models have the channels last


@functools.cache
def timm_encoder(name: str) -> Encoder:
    """Return the encoder of a name that begins with ``timm:``.

    Raises:
        ElmanError: timm or torchvision cannot be imported, or timm has no such model.
    """
    network = TimmEncoder(_create(name, False))
    config = getattr(network.inner, "pretrained_cfg", None) or {}
    stride = network.stride
    size = max(round(config.get("input_size", (3, 224, 224))[-1] / stride), 1) * stride
    mean, deviation = (
        tuple(255.0 * x for x in config.get(key, default))
        for key, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225)))
    )

    def weights() -> Mapping[str, Tensor]:
        return TimmEncoder(_create(name, True)).state_dict()

    version = getattr(sys.modules["timm"], "__version__", "")
    build = lambda: TimmEncoder(_create(name, False))  # noqa: E731
    return Encoder(name, stride, size, mean, deviation, build, weights, version)  # type: ignore[arg-type]


def _create(name: str, pretrained: bool) -> nn.Module:
    """The model of timm."""
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:  # torchvision beside another build of torch
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElmanError(
            f"encoder {name}: timm cannot be imported ({reason}): pip install timm, with the build of torchvision for "
            "this build of torch; the encoder lite0 needs neither"
        ) from None
    plain = name.removeprefix(TIMM)
    try:
        return timm.create_model(plain, pretrained=pretrained, features_only=True)
    except Exception as error:  # unknown names, models without features, no network, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElmanError(f"encoder {name}: timm cannot create it: {reason}") from None
