"""The one error that is the user's to mend, and the words it is told in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ElmanError(ValueError):
    """Input that cannot be used. One line that names the file, line or key and what would be right.

    The command line prints the line and exits with status 2; in Python it is a ValueError.
    """


def unknown_name(kind: str, name: object, known: Iterable[str], hint: str = "") -> ElmanError:
    """The error for a name that is in no list: the nearest one, then all, then the hint."""
    names = sorted(known)
    near = _nearest(str(name), names)
    guess = f"did you mean {near}? " if near else ""
    return ElmanError(f"unknown {kind} {name!r}: {guess}known are {', '.join(names)}{hint}")


def _nearest(name: str, known: list[str]) -> str | None:
    """The known name that is most likely meant: the same in other letters, by its initials (lr), or nearly the same."""
    plain = {one: one.lower().strip("-").replace("-", "_") for one in known}
    wanted = name.partition("=")[0].lower().strip("-").replace("-", "_")
    for one, form in plain.items():
        if form.replace("_", "") == wanted.replace("_", ""):
            return one
    for one, form in plain.items():
        if len(wanted) > 1 and "".join(part[:1] for part in form.split("_")) == wanted:
            return one
    near = difflib.get_close_matches(wanted, plain.values(), n=1)
    return next(one for one, form in plain.items() if form == near[0]) if near else None
