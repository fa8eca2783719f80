"""Input that cannot be used, told in one line."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave cannot be used: one line that names the place and what would be right.

    ``python -m elman.reference`` prints the line and exits with status 2; in Python it is a ValueError.
    """
