"""What is written: JSON of finite numbers, and paths that may be written to."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable
from typing import Any

from elman.errors import ElmanError


def json_line(value: Any, what: str) -> str:
    """The value as one line of JSON, its characters as escapes where standard output is not UTF-8.

    Arguments:
        what: what it is, for the message: "the metrics", say.

    Raises:
        ElmanError: a number in it is NaN or infinite, which JSON does not know.
    """
    check_finite(value, what)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf"), allow_nan=False)


def check_finite(value: Any, what: str, key: str = "") -> None:
    """ElmanError if a number in the nested value is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        place = f", {key}," if key else ""
        raise ElmanError(f"{what}{place} would be {value}: the weights or the input are out of all bounds")
    if isinstance(value, dict):
        for name, one in value.items():
            check_finite(one, what, str(name))
    elif isinstance(value, (list, tuple)):
        for one in value:
            check_finite(one, what, key)


def check_writable(path: str, option: str, inputs: Iterable[str] = ()) -> None:
    """ElmanError if a file cannot be written to the path, or if it is one of the inputs.

    Arguments:
        option: the option that names it, for the message.
    """
    if not path.strip() or "\0" in path:
        raise ElmanError(f"{option}: {path!r} is not the name of a file")
    if os.path.isdir(path):
        raise ElmanError(f"{option}: {path} is a folder; name a file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ElmanError(f"{option}: {path}: there is no folder {folder}")
    for one in inputs:
        if os.path.exists(path) and os.path.exists(one) and os.path.samefile(path, one):
            raise ElmanError(f"{option}: {path} is what is read; choose another name")
