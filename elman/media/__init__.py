"""Media: the kinds of inputs that a model reads.

A medium reads files, encodes and batches inputs, augments them, and turns them into vectors; see `Medium`.
"""

from __future__ import annotations

from elman.errors import unknown_name
from elman.media.image import Image
from elman.media.medium import Content, Medium, Source
from elman.media.series import Series
from elman.media.sound import Sound
from elman.media.text import Text

#: Name, in saved models, to medium. The one list of media.
MEDIA: dict[str, type[Medium]] = {medium.name: medium for medium in (Text, Series, Sound, Image)}


def get(name: str) -> type[Medium]:
    """Return the medium of that name.

    Raises:
        ElmanError: it is not known.
    """
    if name not in MEDIA:
        raise unknown_name("medium", name, MEDIA)
    return MEDIA[name]


def register(medium: type[Medium]) -> None:
    """Make a medium known by its name, for data and saved models.

    Files that several media read belong to the one that was registered last; what no other one reads is text.

    Raises:
        ValueError: a medium of that name is already known.
    """
    if medium.name in MEDIA:
        raise ValueError(f"a medium is already called {medium.name!r}: {MEDIA[medium.name]}")
    MEDIA[medium.name] = medium


def medium_of(path: str) -> type[Medium]:
    """Return the medium that reads a file, by its name."""
    return next(medium for medium in reversed(MEDIA.values()) if medium.reads(path))


__all__ = ["MEDIA", "Content", "Image", "Medium", "Series", "Sound", "Source", "Text", "get", "medium_of", "register"]
