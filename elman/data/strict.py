"""Strict JSON, for files that a person edited or a disk damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pydantic_core

from elman.errors import ElmanError


def parse_json(text: str | bytes, source: str, infinity: bool = False) -> Any:
    """Parse a JSON text strictly.

    Args:
        text (str | bytes): The text.
        source (str): The name of the file, for the error message.
        infinity (bool): Whether to accept ``Infinity``, which Python's ``json`` writes. ``NaN`` is never accepted.
            Default: ``False``.

    Raises:
        ElmanError: The text is not valid JSON, an object has a key twice, or the nesting is too deep.

    Example::

        >>> parse_json('{"steps": 100}', "config.json")
        {'steps': 100}
    """
    try:
        pydantic_core.from_json(text, allow_inf_nan=infinity)  # refuses invalid UTF-8, deep nesting and NaN
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_constant)
    except RecursionError:
        raise ElmanError(f"{source}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ElmanError(f"{source}: not valid JSON: {error}") from None


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
    return result


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is not allowed")
    return float(name)
