"""Read TOML files."""

from __future__ import annotations

import tomllib
from typing import Any

from elman.data.text import read_text
from elman.errors import ElmanError


def read_toml(path: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path (str): A path or a URL.

    Raises:
        ElmanError: The file cannot be read, or is not TOML.

    Example::

        >>> options = read_toml("options.toml")  # doctest: +SKIP
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ElmanError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ElmanError(f"{path}: not TOML that can be read: nested too deeply") from None
