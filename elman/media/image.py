"""Pictures as a medium: picture files to the features or pixels of a grid."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from elman.config import Needs, Options
from elman.data.inputs import InputFile
from elman.data.picture_inputs import pictures_in
from elman.data.pictures import PICTURES, Picture, open_picture, read_pictures
from elman.errors import ElmanError
from elman.layers.convolutional import GridSource, NormalizedConvolution, PictureEncoder, from_cells, to_cells
from elman.layers.naming import Named
from elman.media.columns import Columns
from elman.media.encoder import Encoder, feature_weights, load_weights, weights_digest
from elman.media.encoders import get_encoder, is_pretrained
from elman.media.features import PictureRows, Recipe
from elman.media.medium import Content, Files, Medium, Source
from elman.media.pretrained import KnownVectors
from elman.media.views import PLAIN, vary_pixels, view_of

#: The file of a run with the weights of a frozen encoder.
ENCODER = "encoder.safetensors"

#: The learning rate of a pretrained encoder, as a multiple of that of the rest: at the full rate, it forgets.
_RATE = 0.1
#: Words of texts about pictures whose colours must stay.
_COLOURS = re.compile(
    r"\b(colou?rs?|colou?red|red|orange|yellow|green|teal|cyan|blue|purple|violet|magenta|pink|brown|beige|tan|golden|"
    r"silver|black|white|gr[ae]y)\b",
    re.IGNORECASE,
)
#: Pictures that an encoder reads together: on a CPU, more do not fit into its cache.
_AT_ONCE_CPU, _AT_ONCE_GPU = 4, 64
#: The largest size of a picture.
_MAX_SIZE = 2048


def _frozen(c: Mapping[str, Any]) -> bool:
    """Whether the encoder is not trained."""
    return is_pretrained(c["encoder"]) and not c["tune_encoder"]


def _varied(c: Mapping[str, Any]) -> bool:
    """Whether pictures are changed in training."""
    return not _frozen(c) or c["views"] > 1


_AUGMENTED = Needs("pictures that are changed in training", lambda c: c["augment"])
_PRETRAINED = Needs("a pretrained encoder", lambda c: is_pretrained(c["encoder"]))
_VIEWS = Needs("a frozen encoder", _frozen)
_VARIED = Needs("two views or more, or an encoder that is trained", _varied)
_PIXELS = Needs("an encoder that is trained", lambda c: not _frozen(c))


class ImageOptions(Options):
    """Options for inputs that are pictures."""

    heading = "Pictures"
    needs = (Needs("pictures", lambda c: c["medium"] == "image"),)

    encoder: str = Field(
        "lite0", description="Network that turns a picture into a grid of features: lite0, pretrained on photographs; "
        "small, trained from scratch, for drawings; or timm:NAME, of the package timm."
    )  # fmt: skip
    image_size: int | None = Field(
        None, ge=8, le=_MAX_SIZE, description="Pixels a side to which a picture is resized. Default: 224 for lite0, 64 "
        "for small."
    )  # fmt: skip
    tune_encoder: Annotated[bool, _PRETRAINED] = Field(
        False, description="Train the pretrained encoder, too, which takes many times as long."
    )
    picture_size: int | None = Field(
        None,
        ge=1,
        description="Size of the vector of a grid cell. Default: 384, for small 128.",
    )
    views: Annotated[int, _VIEWS, _AUGMENTED] = Field(
        2, ge=1, le=100, description="Versions of each training picture that a frozen encoder reads: the whole, and "
        "parts of it, every second one mirrored."
    )  # fmt: skip
    mirror: Annotated[bool | None, _VARIED, _AUGMENTED] = Field(
        None,
        description="Mirror pictures in training. Default: yes, except where a caption or a question "
        "says left or right, in English.",
    )
    crop: Annotated[float, _VARIED, _AUGMENTED] = Field(
        0.1, ge=0, le=0.5, description="Largest fraction of the sides of a picture that is cut off in training."
    )
    colours: Annotated[bool | None, _PIXELS, _AUGMENTED] = Field(
        None,
        description="Change the colours of pictures in training. Default: yes, unless a text or label names "
        "one, in English.",
    )

    @field_validator("encoder")
    @classmethod
    def known_encoder(cls, value: str) -> str:
        """Refuse names that are not known; those of timm are looked up when the network is built."""
        if not is_pretrained(value):
            try:
                get_encoder(value)
            except ElmanError as error:
                raise ValueError(str(error)) from None
        return value


def with_augmentation(options: Any, texts: Iterable[str]) -> Any:
    """Return the options with a value for ``colours``: whether no text names a colour, in English."""
    if options.colours is not None:
        return options
    return options.model_copy(update={"colours": not any(map(_COLOURS.search, texts))})


class ImageState(BaseModel):
    """The part of labels.json that is about pictures."""

    encoder_weights: str = ""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture as a model reads it.

    Attributes:
        key (str): the hash of its file.
        views: features or pixels (S, C) of each view; the first is the whole picture.
        mirror (bool): whether training may mirror it.
    """

    key: str
    views: tuple[np.ndarray, ...]
    mirror: bool = False

    def __len__(self) -> int:
        return len(self.views[0])


@final
class Image(Medium):
    """Pictures: resized to a square and encoded, a vector for each cell of a grid.

    Args:
        options (ImageOptions): the options; image_size has its value.
        encoder (Encoder): what the option ``encoder`` names.
        network (PictureEncoder, optional): the encoder with its pretrained weights; None where there are none.
    """

    name, plural, kind = "image", "pictures", "pictures"
    positions: ClassVar = "grid"
    dropout = 0.3
    State = ImageState
    grid: tuple[int, int]

    def __init__(self, options: Any, encoder: Encoder, network: PictureEncoder | None) -> None:
        super().__init__(options)
        self._encoder, self._network = encoder, network
        self.device = torch.device("cpu")  # of a frozen encoder
        self.frozen = _frozen(dict(options))
        cells = options.image_size // encoder.stride
        self.grid = (cells, cells)

    @classmethod
    def reads(cls, path: str) -> bool:
        return path.lower().endswith(PICTURES)

    @classmethod
    def read_files(cls, paths: Sequence[str], places: Sequence[str], columns: Columns) -> Content:
        found = read_pictures(paths, places, columns.skip_broken)
        return Content([None if one is None else one._replace(mirror=True) for one in found])

    @classmethod
    def join(cls, parts: Sequence[Content], places: Sequence[Sequence[str]]) -> Content:
        return Content([x for part in parts for x in part.inputs])

    @classmethod
    def check(cls, content: Content, places: Sequence[str], columns: Columns) -> None:
        """Pictures are checked as they are read."""

    @classmethod
    def digest(cls, x: Picture) -> str:
        return x.digest

    @classmethod
    def same_columns(cls, columns: Columns, content: Content) -> Columns:
        return columns

    @classmethod
    def facts(cls, content: Content) -> Mapping[str, Any]:
        return {}

    @classmethod
    def learn(cls, options: Any, content: Content) -> Self:
        encoder = get_encoder(options.encoder)
        size = options.image_size or encoder.size
        if size % encoder.stride:
            below = max(size // encoder.stride, 1) * encoder.stride
            raise ElmanError(
                f"image_size: {size} is not a multiple of {encoder.stride}, the stride of the encoder {encoder.name}; "
                f"{below} or {below + encoder.stride} is one"
            )
        vector = options.picture_size or (384 if is_pretrained(encoder.name) else 128)
        options = options.model_copy(update={"image_size": size, "picture_size": vector})
        return cls(options, encoder, encoder.network() if is_pretrained(encoder.name) else None)

    @classmethod
    def load(cls, options: Any, state: ImageState, files: Files) -> Self:
        encoder = get_encoder(options.encoder)
        if options.image_size is None or options.image_size % encoder.stride:
            raise ElmanError(f"{files.path}: image_size {options.image_size} is not one of the encoder {encoder.name}")
        if not is_pretrained(encoder.name):
            return cls(options, encoder, None)
        with torch.device("cpu"):  # also where the model is built without memory, to be checked
            network = encoder.build()
        if _frozen(dict(options)):
            weights, _ = files.read_tensors(ENCODER)
            load_weights(network, weights, str(files.path / ENCODER), head=False)
            if weights_digest(feature_weights(network)) != state.encoder_weights:
                raise ElmanError(f"{files.path / ENCODER}: does not belong to this run")
        return cls(options, encoder, network)

    @functools.cached_property
    def _weights(self) -> dict[str, Tensor]:
        """The weights of a frozen encoder, without its head; none where the encoder is trained."""
        return feature_weights(self._network) if self.frozen and self._network is not None else {}

    @functools.cached_property
    def _digest(self) -> str:
        return weights_digest(self._weights) if self._weights else ""

    def state(self) -> ImageState:
        return ImageState(encoder_weights=self._digest)

    def files(self) -> dict[str, str | bytes]:
        if not self._weights:
            return {}
        return {ENCODER: safetensors.torch.save({k: v.contiguous() for k, v in self._weights.items()})}

    def columns(self, columns: Columns) -> Columns:
        return columns

    def encode(self, content: Content, places: Sequence[str], training: bool = False) -> list[PictureRow]:
        """Encode pictures, or find them in the cache.

        Args:
            content: `Picture` objects.
            places (Sequence[str]): the origin of each, for messages.
            training (bool): whether to make the views that training chooses from, too. Default: False.
        """
        c, pictures = self.options, content.inputs
        may = [picture.mirror if c.mirror is None else c.mirror for picture in pictures]
        count = c.views if training and self.frozen and getattr(c, "augment", True) else 1
        views = [
            list(dict.fromkeys(view_of(k, picture.digest, mirror, c.crop) for k in range(count)))
            for picture, mirror in zip(pictures, may, strict=True)
        ]
        rows = self._rows.read(pictures, views, places)
        return [
            PictureRow(picture.digest, row, mirror) for picture, row, mirror in zip(pictures, rows, may, strict=True)
        ]

    @functools.cached_property
    def _rows(self) -> PictureRows:
        """Where rows come from: the cache, or the encoder."""
        encoder, size, cells = self._encoder, self.options.image_size, self.grid[0] * self.grid[1]
        if not self.frozen:
            stride = encoder.stride
            pixels = lambda x: to_cells(torch.from_numpy(x), stride).numpy()  # noqa: E731
            return PictureRows(Recipe(f"pixels-{stride}-{size}", size, (cells, 3 * stride * stride), np.uint8, pixels))
        assert self._network is not None
        network = copy.deepcopy(self._network).eval().requires_grad_(False)
        for module in network.modules():
            if isinstance(module, NormalizedConvolution):
                module.fold()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        device = self.device
        network = network.to(device)
        mean, deviation = (torch.tensor(values, device=device) for values in (encoder.mean, encoder.deviation))

        def features(pixels: np.ndarray) -> np.ndarray:
            x = ((torch.from_numpy(pixels).to(device).float() - mean) / deviation).permute(0, 3, 1, 2)
            y = network.features(x).flatten(2).mT
            return y.clamp(-65504, 65504).half().contiguous().cpu().numpy()

        name = "".join(k if k.isalnum() or k in "._" else "_" for k in encoder.name)
        name = f"{name}-{self._digest[:16]}-{encoder.computation}-{size}"
        if device.type != "cpu":  # whose results differ a little
            name = f"{name}-{device.type}"
        at_once = _AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE_GPU
        return PictureRows(Recipe(name, size, (cells, network.channels), np.float16, features, at_once))

    def read(self, given: Sequence[Any]) -> list[PictureRow]:
        places = ["" if isinstance(x, (str, Picture)) else f"input {k} of {len(given)}" for k, x in enumerate(given, 1)]
        known = [x if isinstance(x, Picture) else None for x in given]
        asked = [k for k, x in enumerate(known) if x is None]
        found = read_pictures([given[k] for k in asked], [places[k] for k in asked], None)
        for k, picture in zip(asked, found, strict=True):
            known[k] = picture
        return self.encode(Content(known), places)

    def in_file(self, argument: str, column: str | None, columns: Columns, whole: bool) -> InputFile | None:
        return pictures_in(argument, column or columns.file, images=columns.images, skip_bad=columns.skip_bad)

    def batch(self, rows: Sequence[PictureRow]) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(np.stack([row.views[0] for row in rows]))
        return x.float() if self.frozen else x, torch.full((len(rows),), x.shape[1])

    def vary(self, rows: list[PictureRow], source: nn.Module, draw: np.random.Generator) -> list[PictureRow]:
        if self.frozen:
            chosen = [int(draw.integers(len(row.views))) for row in rows]
            return [PictureRow(row.key, (row.views[k],), row.mirror) for row, k in zip(rows, chosen, strict=True)]
        return [PictureRow(row.key, (self._vary(row, draw),), row.mirror) for row in rows]

    def _vary(self, row: PictureRow, draw: np.random.Generator) -> np.ndarray:
        stride = self._encoder.stride
        pixels = from_cells(torch.from_numpy(np.array(row.views[0]))[None], self.grid, stride)[0].numpy()
        pixels = vary_pixels(pixels, row.mirror, self.options.crop, self.options.colours, draw)
        return to_cells(torch.from_numpy(np.array(pixels))[None], stride)[0].numpy()

    def hide(self, inputs: Tensor) -> Tensor:
        return inputs

    def source(self) -> Source:
        encoder, size = self._encoder, self.options.picture_size
        head, network, channels, outputs = None, None, 0, None
        if not self.frozen:
            network = encoder.build() if self._network is None else copy.deepcopy(self._network)
            for parameter in network.parameters() if self._network is not None else ():
                parameter.rate = _RATE  # type: ignore[attr-defined]
        else:
            assert self._network is not None
            channels, outputs = self._network.channels, self._network.outputs
            if not isinstance(self._network.head, nn.Identity):
                head = copy.deepcopy(self._network.head).requires_grad_(False)
        norm = is_pretrained(encoder.name)
        grid = GridSource(self.grid, size, channels, network, head, outputs, encoder.mean, encoder.deviation, norm)
        return Source(grid, size)

    @property
    def feature_names(self) -> None:
        """None: the vectors of the grid are learnt."""

    def named(self, source: nn.Module) -> list[Named]:
        """Name what a frozen encoder gives: that of another encoder means something else."""
        assert isinstance(source, GridSource)
        if not self.frozen:
            return []
        weight = source.project.weight
        return [Named(weight, (None, [(self._encoder.name, k) for k in range(weight.shape[1])]))]

    def begin(self, source: nn.Module, rows: Sequence[PictureRow]) -> list[KnownVectors]:
        return []

    def boundaries(self, inputs: Tensor) -> Tensor | None:
        return None

    def pieces(self, given: Any) -> list[str]:
        return []

    def amount(self, content: Content) -> float:
        return 150.0 * len(content.inputs)

    def describe(self) -> str:
        return f"pictures ({self._encoder.name}, {self.grid[0]} x {self.grid[1]} cells)"

    def describe_input(self, given: Any) -> str:
        """Return the size of a picture and what becomes of it."""
        (width, height), c = open_picture(given).size, self.options
        trained = "frozen" if self.frozen else "trained"
        return (
            f"picture: {width} x {height} pixels, resized to {c.image_size} x {c.image_size}; encoder: "
            f"{self._encoder.name}, {trained}; grid: {self.grid[0]} x {self.grid[1]} cells of {c.picture_size} numbers"
        )


__all__ = ["ENCODER", "PLAIN", "Image", "ImageOptions", "ImageState", "PictureRow"]
