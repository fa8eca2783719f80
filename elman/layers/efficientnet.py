"""EfficientNet-Lite: a convolutional network for pictures that is fast on ordinary processors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from elman.layers.convolutional import NormalizedConvolution, PictureEncoder

#: Of each stage of Lite0: blocks, kernel, stride of its first block, expansion, input and output channels.
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_HEAD = 1280

#: The layers of published weights, and their names here.
_NAMES = {
    "_conv_stem": "stem.convolution", "_bn0": "stem.norm", "_conv_head": "head.convolution", "_bn1": "head.norm",
    "_expand_conv": "expand.convolution", "_depthwise_conv": "depthwise.convolution",
    "_project_conv": "project.convolution",
}  # fmt: skip
_BLOCK_NORMS = {"_bn0": "expand.norm", "_bn1": "depthwise.norm", "_bn2": "project.norm"}


class InvertedBottleneck(nn.Module):
    """Expand the channels by a 1 x 1 convolution, filter each one by itself, and project them to fewer.

    The input is added to the output where both have the same shape.
    Sandler et al. 2018, https://arxiv.org/abs/1801.04381

    Args:
        inputs (int): Channels of the input.
        outputs (int): Channels of the output.
        kernel (int): Rows and columns of the filters.
        stride (int): Step between two positions of the filters.
        expansion (int): Channels of the filters, as a multiple of those of the input; 1: no first convolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand: nn.Module = NormalizedConvolution(inputs, inner) if expansion > 1 else nn.Identity()
        self.depthwise = NormalizedConvolution(inner, inner, kernel, stride, inner)
        self.project = NormalizedConvolution(inner, outputs, activated=False)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, rows, cols) of x (B, inputs, rows, cols)."""
        y = self.project(self.depthwise(self.expand(x)))
        return y.add_(x) if self.adds else y


class EfficientNetLite0(PictureEncoder):
    """EfficientNet-Lite0 without its classifier: features of 320 channels with stride 32, and a head to 1,280.

    Tan & Le 2019, https://arxiv.org/abs/1905.11946; Lite leaves out squeeze-and-excitation and uses ReLU6:
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

    Example::

        >>> encoder = EfficientNetLite0()
        >>> features = encoder.features(torch.zeros(1, 3, 64, 96))
        >>> features.shape, encoder.head(features).shape
        (torch.Size([1, 320, 2, 3]), torch.Size([1, 1280, 2, 3]))
    """

    def __init__(self) -> None:
        last = _STAGES[-1][-1]
        super().__init__(32, last, _HEAD, NormalizedConvolution(last, _HEAD))
        self.stem = NormalizedConvolution(3, _STAGES[0][4], 3, 2)
        self.blocks = nn.Sequential(*[
            InvertedBottleneck(outputs if k else inputs, outputs, kernel, 1 if k else stride, expansion)
            for blocks, kernel, stride, expansion, inputs, outputs in _STAGES
            for k in range(blocks)
        ])  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """Return (B, 320, rows, cols) of x (B, 3, 32 rows, 32 cols)."""
        return self.blocks(self.stem(x))


def renamed_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights of EfficientNet-Lite under the names that they have here, without the classifier.

    Example::

        >>> list(renamed_weights({"_blocks.3._bn2.weight": torch.ones(1), "_fc.bias": torch.ones(1)}))
        ['blocks.3.project.norm.weight']
    """
    found = {}
    for name, value in published.items():
        block, layer, kind = re.fullmatch(r"(_blocks\.\d+\.)?(\w+)\.(\w+)", name).groups()  # type: ignore[union-attr]
        own = _BLOCK_NORMS.get(layer) if block else None
        own = own or _NAMES.get(layer)
        if own is not None and kind != "num_batches_tracked":
            found[f"{(block or '').removeprefix('_')}{own}.{kind}"] = value
    return found
