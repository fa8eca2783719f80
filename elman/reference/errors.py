"""The error for input that cannot be used."""

from __future__ import annotations


class InputError(ValueError):
    """Raised for invalid input: one line that names the place and says what would be right.

    ``python -m elman.reference`` prints the line and exits with status 2.

    Example:
        >>> from elman.reference import sentences
        >>> sentences.read("missing.tsv")
        Traceback (most recent call last):
        elman.reference.errors.InputError: missing.tsv: No such file or directory; give the path of a readable table
    """
