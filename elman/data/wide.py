"""Find the columns of a table that are the steps of a series: t0, t1, t2, ..."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from elman.errors import ElmanError

#: A name and the number of a step. Decimals after a name, t0.5, and signs, t-1, are excluded: their order is unclear.
_STEP = re.compile(r"(?!.*(?:\d\.|[-+])\d+$)(.*?)[\s_.]*[\[(]?(\d{1,18})[\])]?", re.DOTALL)
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")


def step_columns(path: str, names: Sequence[str], min_steps: int, wanted: Sequence[str] = ()) -> dict[str, list[str]]:
    """Find the columns of each channel, in the order of their steps.

    Columns whose names are only numbers are the channel ``"1"``.

    Args:
        path (str): The path of the table, for error messages.
        names (Sequence[str]): The names of the columns.
        min_steps (int): The minimum number of steps of a channel.
        wanted (Sequence[str]): The channels to find. Default: all.

    Returns:
        dict[str, list[str]]: The columns of each channel.

    Raises:
        ElmanError: A wanted channel is missing, channels have different steps, or a step is missing.

    Example::

        >>> step_columns("a.csv", ["id", "x0", "x1", "y0", "y1"], 2)
        {'x': ['x0', 'x1'], 'y': ['y0', 'y1']}
    """
    channels: dict[str, dict[Fraction, str]] = {}
    for name in names:
        plain, match = _NUMBER.fullmatch(name.strip()), _STEP.fullmatch(name.strip())
        if (plain is None and match is None) or len(name) > 200:
            continue
        channel = "1" if plain else match[1]  # type: ignore[index]
        number = Fraction(name.strip() if plain else match[2])  # type: ignore[index]
        steps = channels.setdefault(channel, {})
        if number in steps:
            raise ElmanError(f"{path}: columns {steps[number]!r} and {name!r} are both step {number} of {channel!r}")
        steps[number] = name
    channels = {channel: steps for channel, steps in channels.items() if len(steps) >= min_steps}
    for channel in wanted:
        if channel not in channels:
            raise ElmanError(
                f"{path}: no columns {channel}0, {channel}1, ... (--channels); the channels with steps are "
                f"{', '.join(channels) or 'none'}"
            )
    channels = {channel: channels[channel] for channel in wanted or channels}
    if not channels:
        return {}
    first, numbers = next((channel, sorted(steps)) for channel, steps in channels.items())
    for channel, steps in channels.items():
        if sorted(steps) != numbers:
            raise ElmanError(
                f"{path}: {channel!r} has {len(steps)} steps and {first!r} {len(numbers)}, or their numbers differ; "
                "name the channels to read with --channels"
            )
    gaps = {b - a for a, b in itertools.pairwise(numbers)}
    if len(gaps) > 1 and all(number.denominator == 1 for number in numbers):
        gap = min(gaps)
        missing = next(a + gap for a, b in itertools.pairwise(numbers) if b - a != gap)
        raise ElmanError(f"{path}: step {missing} of {first!r} is missing between {numbers[0]} and {numbers[-1]}")
    return {channel: [steps[number] for number in numbers] for channel, steps in channels.items()}
