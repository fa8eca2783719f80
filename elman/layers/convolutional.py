"""Convolutional layers over pictures (B, C, rows, cols), and the module that turns pictures into vectors (B, S, D)."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, pad, relu6

#: Pictures that an encoder reads at a time without gradients, so that its activations fit into the processor's cache.
_AT_ONCE = 4


class FixedBatchNorm(nn.Module):
    """Batch normalisation whose mean and variance are constants: y = (x - mean) / sqrt(variance + eps) * weight + bias.

    In a pretrained network the statistics are those of its own training. They do not change here, so that training and
    evaluation compute the same, whatever else is in a batch.

    Args:
        channels (int): C, the number of channels.
        eps (float): Added to the variance. Default: 1e-3.

    Shapes:
        - x, y: (B, C, rows, cols).
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, normalised."""
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class NormalizedConvolution(nn.Module):
    """Convolution, batch normalisation with fixed statistics, and ReLU6.

    The output has ceil(rows / stride) rows. Where the padding is odd, the last row and column get more, as in
    TensorFlow.

    Args:
        inputs (int): Channels of the input.
        outputs (int): Channels of the output.
        kernel (int): Rows and columns of the kernel, odd. Default: 1.
        stride (int): Step between two positions of the kernel. Default: 1.
        groups (int): Groups of channels with a kernel of their own. Default: 1.
        activated (bool): Whether ReLU6 follows. Default: True.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activated: bool = True
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm: nn.Module = FixedBatchNorm(outputs)
        self.kernel, self.stride, self.activated = kernel, stride, activated

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, rows, cols) of x (B, inputs, rows, cols)."""
        if self.stride > 1:
            missing = [max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[-2:]]
            x = pad(x, [part for n in reversed(missing) for part in (n // 2, n - n // 2)])
        y = self.norm(self.convolution(x))
        return relu6(y, inplace=True) if self.activated else y

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the normalisation into the convolution, for a network that is not trained."""
        norm, plain = self.norm, self.convolution
        if not isinstance(norm, FixedBatchNorm):
            return
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        plain.weight.mul_(scale[:, None, None, None])
        plain.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
        self.norm = nn.Identity()


class PictureEncoder(nn.Module, ABC):
    """A network that turns pictures into a grid of feature vectors.

    A frozen encoder computes `features` once for each picture; its ``head`` is applied whenever they are read.

    Args:
        stride (int): Pixels from one cell of the grid to the next.
        channels (int): Channels of `features`.
        outputs (int): Channels after the head.
        head (nn.Module, optional): From (B, channels, rows, cols) to (B, outputs, rows, cols), each cell by itself.
            Default: the identity.
    """

    def __init__(self, stride: int, channels: int, outputs: int, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stride, self.channels, self.outputs = stride, channels, outputs
        self.head = nn.Identity() if head is None else head

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return the features (B, channels, rows, cols) of pictures (B, 3, stride rows, stride cols), normalised."""


class BatchNormalization(nn.Module):
    """Normalise the channels of pictures (B, C, rows, cols) over a batch, scale and shift them.

    ::

        y = (x - mean) / sqrt(variance + 1e-5) * weight + bias

    Mean and variance are those of the batch in training, and otherwise running ones: means over all steps so far, over
    about the last hundred after these. The statistics so fit from the first steps on, and fit averaged weights.
    A batch with one value per channel is normalised by the running statistics.

    Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167

    Args:
        channels (int): C.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        by_batch = self.training and x.numel() > x.shape[1]
        if by_batch:
            self.steps += 1
        share = max(0.01, 1 / max(1, int(self.steps)))
        return nn.functional.batch_norm(
            x, self.mean, self.variance, self.weight, self.bias, training=by_batch, momentum=share
        )


class SmallConvolutional(PictureEncoder):
    """A small network for drawings and diagrams, trained from scratch: three 3 x 3 convolutions with stride 2.

    A fourth one, whose input is added to its output, lets a cell of 8 x 8 pixels see its neighbours. Cells are not
    normalised by themselves, as an empty background would then weigh as much as a small object; see
    `BatchNormalization`.

    Args:
        channels (int): Channels of the features, a multiple of 4. Default: 128.
    """

    def __init__(self, channels: int = 128) -> None:
        super().__init__(8, channels, channels)
        sizes = (3, channels // 4, channels // 2, channels)
        stages = [self._stage(*pair, 2) for pair in itertools.pairwise(sizes)]
        self.stages = nn.Sequential(*stages)
        self.last = self._stage(channels, channels, 1)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, BatchNormalization(outputs), nn.ReLU())

    def features(self, x: Tensor) -> Tensor:
        """Return (B, channels, rows, cols) of x (B, 3, 8 rows, 8 cols)."""
        x = self.stages(x)
        return x + self.last(x)


class GridSource(nn.Module):
    """Turn a batch of pictures into vectors (B, S, D), one for each cell of a grid.

    [encoder.features] -> [head] -> Linear -> [LayerNorm] -> + learnt vectors of the cell's row and column

    Args:
        grid (tuple[int, int]): Rows and columns; S is their product.
        size (int): D, the size of a vector.
        channels (int): C, the channels of the features; not used with an encoder.
        encoder (PictureEncoder, optional): The network that is applied to pixels. Default: the inputs are features.
        head (nn.Module, optional): Applied to features (B, C, S, 1). Default: None.
        outputs (int, optional): Channels after the head. Default: C.
        mean (Sequence[float]): What is subtracted from the pixels of each channel, 0 to 255. Default: 127.
        deviation (Sequence[float]): What they are divided by then. Default: 128.
        norm (bool): Whether the vector of each cell is normalised. Default: True.

    Shapes:
        - x: features (B, S, C); with an encoder pixels (B, S, 3 stride²), 0 to 255, in the order of `to_cells`.
        - y: (B, S, D).

    Example::

        >>> source = GridSource((2, 2), size=5, encoder=SmallConvolutional(16))
        >>> source(torch.zeros(1, 4, 3 * 8 * 8, dtype=torch.uint8)).shape
        torch.Size([1, 4, 5])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        grid: tuple[int, int],
        size: int,
        channels: int = 0,
        encoder: PictureEncoder | None = None,
        head: nn.Module | None = None,
        outputs: int | None = None,
        mean: Sequence[float] = (127.0, 127.0, 127.0),
        deviation: Sequence[float] = (128.0, 128.0, 128.0),
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.grid, self.encoder, self.head = grid, encoder, head
        self.register_buffer("mean", torch.tensor(list(mean)), persistent=False)
        self.register_buffer("deviation", torch.tensor(list(deviation)), persistent=False)
        self.project = nn.Linear(encoder.outputs if encoder is not None else outputs or channels, size)
        self.norm = nn.LayerNorm(size) if norm else nn.Identity()
        self.rows = nn.Parameter(torch.empty(grid[0], size))
        self.columns = nn.Parameter(torch.empty(grid[1], size))
        for vectors in (self.rows, self.columns):
            nn.init.normal_(vectors, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors (B, S, D) of features or pixels."""
        if self.encoder is not None:
            x = self._encoded(x, self.encoder)
        elif self.head is not None:
            x = self.head(x.mT[..., None])[..., 0].mT
        places = (self.rows[:, None] + self.columns).flatten(0, 1)
        return self.norm(self.project(x)) + places

    def _encoded(self, x: Tensor, encoder: PictureEncoder) -> Tensor:
        parts = x.split(len(x) if torch.is_grad_enabled() else _AT_ONCE) if len(x) else [x]
        return torch.cat([self._features(part, encoder) for part in parts])

    def _features(self, x: Tensor, encoder: PictureEncoder) -> Tensor:
        pixels = (from_cells(x, self.grid, encoder.stride).float() - self.mean) / self.deviation
        return encoder.head(encoder.features(pixels.permute(0, 3, 1, 2))).flatten(2).mT


def to_cells(pixels: Tensor, stride: int) -> Tensor:
    """Cut pictures (B, stride rows, stride cols, 3) into cells (B, rows cols, 3 stride²).

    Example::

        >>> pixels = torch.arange(2 * 16 * 8 * 3).view(2, 16, 8, 3)
        >>> cells = to_cells(pixels, 8)
        >>> cells.shape, bool((from_cells(cells, (2, 1), 8) == pixels).all())
        (torch.Size([2, 2, 192]), True)
    """
    x = pixels.unflatten(1, (-1, stride)).unflatten(3, (-1, stride))  # (B, rows, stride, cols, stride, 3)
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def from_cells(cells: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Put pictures (B, stride rows, stride cols, 3) together again; see `to_cells`."""
    x = cells.unflatten(1, grid).unflatten(3, (stride, stride, 3)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)
