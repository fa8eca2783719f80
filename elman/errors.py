"""The exception for unusable input, and its message for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ElmanError(ValueError):
    """Raised for input that cannot be used: a file, an option, a config key or a name.

    The message is one line. It names the file, line, option or key, says what is wrong and what would be right.
    The command line prints the message and exits with status 2.

    Example::

        >>> import elman
        >>> elman.cells.get("grru")
        Traceback (most recent call last):
        elman.errors.ElmanError: unknown cell 'grru': did you mean gru? choose from coupled_lstm, deltanet, ...
    """


def unknown_name(kind: str, name: object, choices: Iterable[str], hint: str = "") -> ElmanError:
    """Return the error for a name that is not among the choices.

    Args:
        kind (str): What is named, for example ``"cell"``.
        name (object): The unknown name.
        choices (Iterable[str]): The valid names.
        hint (str): Text that ends the message. Default: ``""``.

    Returns:
        ElmanError: An error whose message suggests the nearest choice, if one is near, and lists all choices.
    """
    names = sorted(choices)
    nearest = _nearest(str(name), names)
    suggestion = f"did you mean {nearest}? " if nearest else ""
    return ElmanError(f"unknown {kind} {name!r}: {suggestion}choose from {', '.join(names)}{hint}")


def _nearest(name: str, choices: list[str]) -> str | None:
    """Return the likeliest choice: equal up to case and separators, with these initials (lr), or spelled alike."""
    normalised = {choice: choice.lower().strip("-").replace("-", "_") for choice in choices}
    wanted = name.partition("=")[0].lower().strip("-").replace("-", "_")
    for choice, form in normalised.items():
        if form.replace("_", "") == wanted.replace("_", ""):
            return choice
    for choice, form in normalised.items():
        if len(wanted) > 1 and "".join(part[:1] for part in form.split("_")) == wanted:
            return choice
    matches = difflib.get_close_matches(wanted, normalised.values(), n=1)
    return next(choice for choice, form in normalised.items() if form == matches[0]) if matches else None
