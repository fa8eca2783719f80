"""Columns of a table that are the steps of a series: t0, t1, t2, ..."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from elman.errors import ElmanError

#: Neither a decimal number behind a name, t0.5, nor a sign, t-1, whose order is not clear.
_STEP = re.compile(r"(?!.*(?:\d\.|[-+])\d+$)(.*?)[\s_.]*[\[(]?(\d{1,18})[\])]?", re.DOTALL)
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")


def step_columns(path: str, names: Sequence[str], least: int, wanted: Sequence[str] = ()) -> dict[str, list[str]]:
    """The columns of each channel in the order of their steps: {"x": ["x0", "x1"], "y": ["y0", "y1"]}.

    Columns whose names are numbers alone are the channel "1".

    Arguments:
        path: for messages.
        names: of the columns.
        least: so many steps make a channel.
        wanted: the channels to look for; empty: all.

    Raises:
        ElmanError: channels have different steps, or a step is missing.
    """
    found: dict[str, dict[Fraction, str]] = {}
    for name in names:
        plain, match = _NUMBER.fullmatch(name.strip()), _STEP.fullmatch(name.strip())
        if (plain is None and match is None) or len(name) > 200:
            continue
        channel = "1" if plain else match[1]  # type: ignore[index]
        number = Fraction(name.strip() if plain else match[2])  # type: ignore[index]
        steps = found.setdefault(channel, {})
        if number in steps:
            raise ElmanError(f"{path}: columns {steps[number]!r} and {name!r} are both step {number} of {channel!r}")
        steps[number] = name
    found = {channel: steps for channel, steps in found.items() if len(steps) >= least}
    for channel in wanted:
        if channel not in found:
            raise ElmanError(
                f"{path}: no columns {channel}0, {channel}1, ... (--channels); steps are there of "
                f"{', '.join(found) or 'no channel'}"
            )
    found = {channel: found[channel] for channel in wanted or found}
    if not found:
        return {}
    first, numbers = next((channel, sorted(steps)) for channel, steps in found.items())
    for channel, steps in found.items():
        if sorted(steps) != numbers:
            raise ElmanError(
                f"{path}: {channel!r} has {len(steps)} steps and {first!r} {len(numbers)}, or they have other numbers; "
                "--channels names those to read"
            )
    gaps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(gaps) > 1 and all(number.denominator == 1 for number in numbers):
        step = min(gaps)
        lost = next(a + step for a, b in itertools.pairwise(numbers) if b - a != step)
        raise ElmanError(f"{path}: the steps of {first!r} go from {numbers[0]} to {numbers[-1]} without {lost}")
    return {channel: [steps[number] for number in numbers] for channel, steps in found.items()}
