"""Report files that cannot be read: together, or as left out."""

from __future__ import annotations

import logging

from elman.data.archive import split_member
from elman.errors import ElmanError

_log = logging.getLogger("elman")


class BrokenFile(ElmanError):
    """Raised for pictures and sounds that do not exist or cannot be read."""


def report_broken(
    first: str, wrong: int, total: int, plural: str, skip: bool | None = False, hint: str = "", verb: str = "read"
) -> None:
    """Raise an error about files that cannot be read, or log that they are left out.

    Args:
        first (str): The reason for the first, with its place and name.
        wrong (int): The number of such files.
        total (int): The number of all files.
        plural (str): What they are: ``"pictures"``.
        skip (bool, optional): Whether they are left out. ``None``: they are not, and the message does not suggest
            ``--skip-broken``. Default: ``False``.
        hint (str): The end of the message. Default: ``""``.
        verb (str): What cannot be done with them. Default: ``"read"``.

    Raises:
        BrokenFile: They are not left out, or none of the files can be read.
    """
    if wrong == total:
        count = f"; none of the {total:,} {plural} can be {verb}" if total > 1 else ""
        raise BrokenFile(f"{first}{count}{hint}")
    count = f"{wrong:,} of {total:,} {plural}"
    if not skip:
        remedy = "" if skip is None else "; --skip-broken leaves them out"
        raise BrokenFile(f"{first}; {count} cannot be {verb}{remedy}{hint}")
    _log.warning("left out %s, which cannot be %s; the first, %s%s", count, verb, first, hint)


def located(place: str, name: str, reason: str) -> str:
    """Return a reason with the location and the name of a file in front, each once.

    Example::

        >>> located("table.tsv, row 3", "dog.jpg", "no such file")
        'table.tsv, row 3: dog.jpg: no such file'
    """
    shown = reason.startswith((f"{name}: ", f"{split_member(name)[0]}: "))
    parts = dict.fromkeys(filter(None, (place, name)))
    if shown:
        parts.pop(name, None)
    return ": ".join([*parts, reason])
