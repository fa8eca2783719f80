"""Read labelled series from .ts files, the format of sktime and of the UCR and UEA archives."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import polars

from elman.data.cells import listed, read_cells, short
from elman.data.text import read_text
from elman.errors import ElmanError

#: The directives of a header besides @data, in lower case.
_DIRECTIVES = (
    "problemname", "timestamps", "missing", "univariate", "dimension", "dimensions", "equallength", "serieslength",
    "classlabel", "targetlabel",
)  # fmt: skip


class TsSeries(NamedTuple):
    """A series of a .ts file.

    Attributes:
        values (numpy.ndarray): The series (T, C), float64, NaN where missing.
        label (str, optional): Its label; None if the file has none.
        place (str): Its location, for messages.
    """

    values: np.ndarray
    label: str | None
    place: str


def read_ts(path: str, labelled: bool | None = True, channels: int = 0) -> list[TsSeries]:
    """Read the series of a .ts file.

    Each line after ``@data`` is a series: its channels, separated by colons, and its label at the end.

    Löning et al. 2019, https://arxiv.org/abs/1909.07872

    Args:
        path (str): The path of the file.
        labelled (bool, optional): Whether the series must have labels. ``None``: labels are read if there are any.
            Default: ``True``.
        channels (int): C, by which labels are recognised if the header does not mention them; 0 is unknown.
            Default: 0.

    Returns:
        list[TsSeries]: The series.

    Raises:
        ElmanError: The file has time stamps, required labels are missing, a line is not a series, or a series
            contradicts the header.
    """
    header: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    result: list[TsSeries] = []
    in_data = False
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line, place = line.strip(), f"{path}, line {number}"
        if not line or line.startswith(("#", "%")):
            continue
        if in_data:
            result.append(_parse_series(line, place, header, labelled, channels))
            _check_against_header(result, header, place)
            continue
        if not line.startswith("@"):
            raise ElmanError(f"{place}: this line comes before @data; series must come after it")
        name, *rest = line[1:].split(None, 1) or [""]
        name = name.lower()
        if name == "data":
            in_data = True
            if labelled and header.get("classlabel", ["true"])[0] != "true":
                raise ElmanError(f"{path}, line {lines['classlabel']}: the series have no class labels")
            continue
        header[name], lines[name] = _parse_directive(name, rest[0] if rest else "", place), number
    if not result:
        raise ElmanError(f"{path}: no series; they must come after a line @data")
    return result


def _parse_directive(name: str, text: str, place: str) -> list[str]:
    """Return the words of a directive of the header, the first of them in lower case if it is true or false."""
    if name not in _DIRECTIVES:
        raise ElmanError(
            f"{place}: unknown header @{name[:40]}; known are {', '.join(f'@{n}' for n in _DIRECTIVES)}, @data"
        )
    words = _split_words(text)
    first = words[:1]
    if name in ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel"):
        words = [first[0].lower() if first else "false", *words[1:]]
        if words[0] not in ("true", "false"):
            raise ElmanError(f"{place}: @{name} must be true or false, not {short(first[0])}")
    if name == "timestamps" and words[0] == "true":
        raise ElmanError(f"{place}: time stamps in .ts files are not supported; give plain values")
    if name == "targetlabel" and words[0] == "true":
        raise ElmanError(f"{place}: the series have numbers to predict (@targetLabel), not class labels")
    is_count = name in ("dimension", "dimensions", "serieslength")
    if is_count and not (first and re.fullmatch(r"[0-9]{1,9}", first[0])):
        raise ElmanError(f"{place}: @{name} must be a number, not {short(first[0] if first else '')}")
    return words


def _split_words(text: str) -> list[str]:
    """Split a text at white space outside quotes."""
    words, quote = [""], ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
            words[-1] += c if quote else ""
        elif c in "\"'" and not words[-1]:
            quote = c
        elif c.isspace():
            words.append("")
        else:
            words[-1] += c
    return [word for word in words if word]


def _parse_series(line: str, place: str, header: dict[str, list[str]], labelled: bool | None, C: int) -> TsSeries:
    parts = line.split(":")
    class_label = header.get("classlabel")
    has_label = class_label[0] == "true" if class_label else bool(labelled or (C and len(parts) == C + 1))
    label: str | None = None
    if has_label:
        *parts, label = parts
        label = label.strip()
        if not parts:
            raise ElmanError(f"{place}: no colon; separate channels and the label by colons")
        if label[:1] in ('"', "'") and label[-1:] == label[:1] and len(label) > 1:
            label = label[1:-1].strip()
        known = class_label[1:] if class_label else []
        if known and label not in known:
            raise ElmanError(f"{place}: the label {short(label)} is not one of @classLabel: {listed(known)}")
    values = [_numbers(part, place, k) for k, part in enumerate(parts, 1)]
    if len({len(channel) for channel in values}) > 1:
        raise ElmanError(f"{place}: the channels have unequal lengths: {listed([str(len(v)) for v in values])}")
    return TsSeries(np.stack(values, 1), label, place)


def _numbers(text: str, place: str, channel: int) -> np.ndarray:
    if not text.strip():
        raise ElmanError(f"{place}: channel {channel} has no values")
    cells = text.split(",")
    if "_" not in text:
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            pass  # there is a missing value or something other than a number
    try:
        column = read_cells(polars.Series("values", cells), place, ".")
    except ElmanError:
        column = None
    if column is None or column.kind not in ("numbers", "empty"):
        raise ElmanError(
            f"{place}: channel {channel} must be numbers separated by commas; a missing value is written '?'"
        )
    return column.values


def _check_against_header(result: list[TsSeries], header: dict[str, list[str]], place: str) -> None:
    """Raise an error if the last series has another number of channels or steps than the header says."""
    T, C = result[-1].values.shape
    channels = int((header.get("dimensions") or header.get("dimension") or [str(C)])[0])
    channels = 1 if header.get("univariate") == ["true"] else channels
    if channels != C:
        raise ElmanError(f"{place}: {C} channels, but the header says {channels}")
    if header.get("equallength") == ["true"]:
        length = int(header.get("serieslength", [str(len(result[0].values))])[0])
        if length != T:
            raise ElmanError(f"{place}: {T} steps, but the header says that all series have {length} (@equalLength)")
