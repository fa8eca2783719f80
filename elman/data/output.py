"""Checks before output is written: finite numbers in JSON, and paths that can be written to."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable
from typing import Any

from elman.errors import ElmanError


def json_line(value: Any, what: str) -> str:
    """Return a value as one line of JSON.

    Characters outside ASCII are escaped if the encoding of standard output is not UTF-8.

    Args:
        value: The value; nested dicts, lists and tuples are allowed.
        what (str): What the value is, for the error message, such as ``"the metrics"``.

    Raises:
        ElmanError: A number in the value is NaN or infinite, which JSON cannot represent.

    Example::

        >>> json_line({"loss": 0.5}, "the metrics")
        '{"loss": 0.5}'
    """
    check_finite(value, what)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf"), allow_nan=False)


def check_finite(value: Any, what: str, key: str = "") -> None:
    """Check that all numbers in a nested value are finite.

    Args:
        value: The value; nested dicts, lists and tuples are allowed.
        what (str): What the value is, for the error message.
        key (str): The key of the value in its dict, for the error message. Default: ``""``.

    Raises:
        ElmanError: A number is NaN or infinite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        place = f", {key}," if key else ""
        raise ElmanError(f"{what}{place} would be {value}: the weights or the input are too large or not finite")
    if isinstance(value, dict):
        for name, item in value.items():
            check_finite(item, what, str(name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_finite(item, what, key)


def check_writable(path: str, option: str, inputs: Iterable[str] = ()) -> None:
    """Check that a file can be written to a path.

    Args:
        path (str): The path.
        option (str): The option that gives the path, for the error message.
        inputs (Iterable[str]): Files that must not be overwritten.

    Raises:
        ElmanError: The path is empty or a folder, its folder does not exist, or it is one of the inputs.
    """
    if not path.strip() or "\0" in path:
        raise ElmanError(f"{option}: {path!r} is not the name of a file")
    if os.path.isdir(path):
        raise ElmanError(f"{option}: {path} is a folder; name a file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ElmanError(f"{option}: {path}: the folder {folder} does not exist")
    for name in inputs:
        if os.path.exists(path) and os.path.exists(name) and os.path.samefile(path, name):
            raise ElmanError(f"{option}: {path} is also an input; choose another name")


def numbered(path: str, number: int) -> str:
    """Return the name of one of several files that are written.

    Args:
        path (str): The name that the user has given.
        number (int): Which of the files it is.

    Example::

        >>> numbered("speech.wav", 2)
        'speech-2.wav'
    """
    name, ending = os.path.splitext(path)
    return f"{name}-{number}{ending}"
