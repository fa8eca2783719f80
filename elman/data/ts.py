"""Series in sktime's .ts files."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import polars

from elman.data.cells import listed, read_cells, short
from elman.data.text import read_text
from elman.errors import ElmanError

#: What a header may say beside the data; names in small letters.
_KNOWN = (
    "problemname", "timestamps", "missing", "univariate", "dimension", "dimensions", "equallength", "serieslength",
    "classlabel", "targetlabel",
)  # fmt: skip


class TsSeries(NamedTuple):
    """values: (T, C) float64 each, NaN where missing; label: None where the file has none; place: for messages."""

    values: np.ndarray
    label: str | None
    place: str


def read_ts(path: str, labelled: bool | None = True, channels: int = 0) -> list[TsSeries]:
    """The series of a .ts file: channels stand between colons, the label last.

    Löning et al. 2019, https://arxiv.org/abs/1909.07872

    Arguments:
        path: the file.
        labelled: whether series must have labels; None: those that are there are read.
        channels: C, by which labels are known where the header does not say whether there are any; 0: unknown.

    Raises:
        ElmanError: the file has time stamps, or no labels though they are needed; a line is not such a series, or not
            what the header says.
    """
    header: dict[str, list[str]] = {}
    said: dict[str, int] = {}
    found: list[TsSeries] = []
    inside = False
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line, place = line.strip(), f"{path}, line {number}"
        if not line or line.startswith(("#", "%")):
            continue
        if inside:
            found.append(_series(line, place, header, labelled, channels))
            _as_said(found, header, place)
            continue
        if not line.startswith("@"):
            raise ElmanError(f"{place}: series stand behind a line @data; this is before it")
        name, *rest = line[1:].split(None, 1) or [""]
        name = name.lower()
        if name == "data":
            inside = True
            if labelled and header.get("classlabel", ["true"])[0] != "true":
                raise ElmanError(f"{path}, line {said['classlabel']}: the series have no class labels")
            continue
        if name not in _KNOWN:
            raise ElmanError(
                f"{place}: unknown header @{name[:40]}; known are {', '.join(f'@{n}' for n in _KNOWN)}, @data"
            )
        header[name], said[name] = _words(rest[0] if rest else ""), number
        first = header[name][:1]
        if name in ("timestamps", "missing", "univariate", "equallength", "classlabel", "targetlabel"):
            header[name] = [first[0].lower() if first else "false", *header[name][1:]]
            if header[name][0] not in ("true", "false"):
                raise ElmanError(f"{place}: @{name} is true or false, not {short(first[0])}")
        if name == "timestamps" and header[name][0] == "true":
            raise ElmanError(f"{place}: time stamps in .ts files are not read; give plain values")
        if name == "targetlabel" and header[name][0] == "true":
            raise ElmanError(f"{place}: the series have numbers to predict (@targetLabel), not class labels")
        if name in ("dimension", "dimensions", "serieslength") and not (
            first and re.fullmatch(r"[0-9]{1,9}", first[0])
        ):
            raise ElmanError(f"{place}: @{name} is a number, not {short(first[0] if first else '')}")
    if not found:
        raise ElmanError(f"{path}: no series; they stand behind a line @data")
    return found


def _words(text: str) -> list[str]:
    """Words between white space; quotes hold those with white space together."""
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


def _series(line: str, place: str, header: dict[str, list[str]], labelled: bool | None, C: int) -> TsSeries:
    parts = line.split(":")
    says = header.get("classlabel")
    has_label = says[0] == "true" if says else bool(labelled or (C and len(parts) == C + 1))
    label: str | None = None
    if has_label:
        *parts, label = parts
        label = label.strip()
        if not parts:
            raise ElmanError(f"{place}: no colon; channels and the label stand between colons")
        if label[:1] in ('"', "'") and label[-1:] == label[:1] and len(label) > 1:
            label = label[1:-1].strip()
        known = says[1:] if says else []
        if known and label not in known:
            raise ElmanError(f"{place}: the label {short(label)} is not one of @classLabel: {listed(known)}")
    values = [_numbers(part, place, k) for k, part in enumerate(parts, 1)]
    if len({len(one) for one in values}) > 1:
        raise ElmanError(f"{place}: channels of unequal length: {listed([str(len(v)) for v in values])}")
    return TsSeries(np.stack(values, 1), label, place)


def _numbers(text: str, place: str, channel: int) -> np.ndarray:
    if not text.strip():
        raise ElmanError(f"{place}: channel {channel} has no values")
    cells = text.split(",")
    if "_" not in text:
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            pass  # a missing value, or no number
    try:
        found = read_cells(polars.Series("values", cells), place, ".")
    except ElmanError:
        found = None
    if found is None or found.kind not in ("numbers", "empty"):
        raise ElmanError(f"{place}: not numbers between commas in channel {channel}; a missing value is '?'")
    return found.values


def _as_said(found: list[TsSeries], header: dict[str, list[str]], place: str) -> None:
    """ElmanError where the last series is not what the header says."""
    T, C = found[-1].values.shape
    wanted = int((header.get("dimensions") or header.get("dimension") or [str(C)])[0])
    wanted = 1 if header.get("univariate") == ["true"] else wanted
    if wanted != C:
        raise ElmanError(f"{place}: {C} channels; the header says {wanted}")
    if header.get("equallength") == ["true"]:
        length = int(header.get("serieslength", [str(len(found[0].values))])[0])
        if length != T:
            raise ElmanError(f"{place}: {T} steps; the header says that all series have {length} (@equalLength)")
