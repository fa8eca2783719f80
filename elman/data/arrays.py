"""Series of numbers as arrays (T, C): convert, check and fill them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from elman.data.cells import listed
from elman.errors import ElmanError

Missing = Literal["refuse", "interpolate", "zero", "mask"]


def reorder_channels(values: np.ndarray, names: Sequence[str], wanted: Sequence[str], place: str) -> np.ndarray:
    """Reorder the channels of a series by their names.

    Names that are numbers, and missing names, match any names if the number of channels is right.

    Args:
        values (numpy.ndarray): The series (T, C).
        names (Sequence[str]): The names of its channels.
        wanted (Sequence[str]): The names in the order of the result.
        place (str): The location of the series, for error messages.

    Returns:
        numpy.ndarray: The series (T, C).

    Raises:
        ElmanError: The series has other channels.

    Example::

        >>> reorder_channels(np.array([[1.0, 2.0]]), ["x", "y"], ["y", "x"], "a.csv")
        array([[2., 1.]])
    """
    if list(names) == list(wanted):
        return values
    if sorted(names) == sorted(wanted):
        return values[:, [list(names).index(name) for name in wanted]]
    unnamed = not names or all(n.isdigit() for n in names) or all(n.isdigit() for n in wanted)
    if values.shape[1] != len(wanted) or not unnamed:
        raise ElmanError(
            f"{place}: {values.shape[1]} channels: {listed(names)}; {len(wanted)} are required: {listed(wanted)}"
        )
    return values


def as_numbers(array: Any) -> np.ndarray:
    """Convert an array or nested lists to float64.

    Raises:
        TypeError, ValueError, OverflowError: The items are not real numbers.
    """
    if np.iscomplexobj(array):
        raise TypeError("complex numbers")
    return np.asarray(array, dtype=np.float64)


def series_from_cells(cells: Sequence[Any], places: Sequence[str], name: str) -> list[np.ndarray]:
    """Convert the cells of a column in memory to series.

    Args:
        cells (Sequence[Any]): Arrays or lists of numbers, (T,) or (T, C).
        places (Sequence[str]): The location of each cell, for error messages.
        name (str): The name of the column, for error messages.

    Returns:
        list[numpy.ndarray]: Series (T, C), float64.

    Raises:
        ElmanError: A cell is not a series of numbers.
    """
    result = []
    for cell, place in zip(cells, places, strict=True):
        try:
            values = as_numbers(cell)
        except (TypeError, ValueError):
            raise ElmanError(f"{place}: column {name!r} contains neither a text nor a series of numbers") from None
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise ElmanError(
                f"{place}: column {name!r} contains an array of shape {values.shape}; a series is (T,) or (T, C)"
            )
        result.append(values)
    return result


def check_series(values: np.ndarray, place: str, names: Sequence[str], missing: bool = False) -> None:
    """Check the values of a series.

    Args:
        values (numpy.ndarray): The series (T, C).
        place (str): The location of the series, for error messages.
        names (Sequence[str]): The names of its channels, for error messages.
        missing (bool): Whether NaN is allowed. Default: ``False``.

    Raises:
        ElmanError: The series is empty, or a value is not finite or exceeds 1e300.
    """
    if not len(values):
        raise ElmanError(f"{place}: the series is empty")
    wrong = np.argwhere(np.isinf(values) | (np.abs(values) > 1e300) if missing else ~(np.abs(values) <= 1e300))
    if len(wrong):
        step, channel = wrong[0]
        value, name = values[step, channel], names[channel] if channel < len(names) else str(channel + 1)
        problem = f"{value:g}, not a number" if not np.isfinite(value) else f"{value:g}, too large"
        hint = "; for missing values give --missing interpolate, zero or mask" if np.isnan(value) else ""
        raise ElmanError(f"{place}: step {step + 1} of channel {name} is {problem}{hint}")


def fill_missing(values: np.ndarray, missing: Missing) -> np.ndarray:
    """Fill the missing values of a series.

    ``"interpolate"`` is linear between steps with values and constant beyond the first and the last of them. NaN stays
    with ``"refuse"`` and ``"mask"``, and in channels without any value.

    Args:
        values (numpy.ndarray): The series (T, C), NaN where missing.
        missing (str): ``"refuse"``, ``"interpolate"``, ``"zero"`` or ``"mask"``.

    Returns:
        numpy.ndarray: The series (T, C).

    Example::

        >>> fill_missing(np.array([[1.0], [np.nan], [3.0]]), "interpolate").ravel()
        array([1., 2., 3.])
    """
    gaps = np.isnan(values)
    if missing in ("refuse", "mask") or not gaps.any():
        return values
    if missing == "zero":
        return np.where(gaps, 0.0, values)
    steps, values = np.arange(len(values)), values.copy()
    for k in np.flatnonzero(gaps.any(0) & ~gaps.all(0)):
        given = ~gaps[:, k]
        values[~given, k] = np.interp(steps[~given], steps[given], values[given, k])
    return values
