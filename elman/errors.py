"""The one error that is the user's to mend, and the words it is told in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ElmanError(ValueError):
    """Input that cannot be used. One line that names the file, line or key and what would be right.

    The command line prints the line and exits with status 2; in Python it is a ValueError.
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ElmanError:
    """The error for a name that is in no list: the nearest one, then all."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return ElmanError(f"unknown {kind} {name!r}: {guess}known are {', '.join(names)}")
