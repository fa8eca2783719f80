"""Options, checked: unknown keys, wrong types and numbers out of bounds are errors. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from elman.errors import ElmanError, unknown_name

Config = TypeVar("Config", bound=BaseModel)

#: The largest integer, and the largest number, of options that have no bound of their own.
_MAX_INTEGER, _MAX_NUMBER = 10**9, 1e12


class Needs(NamedTuple):
    """Metadata of an option that has an effect in some settings only: ``Annotated[int, Needs("an LSTM", is_lstm)]``.

    Attributes:
        setting (str): where the option has an effect, for the error message.
        holds: whether a mapping of option values and facts about the data is such a setting. A KeyError means that it
            is not known yet.
    """

    setting: str
    holds: Callable[[Mapping[str, Any]], bool]


class FileName(NamedTuple):
    """Metadata of an option whose value is a path: ``Annotated[str | None, FileName()]``.

    In a file of options, such a path is relative to the file.
    """


class Options(BaseModel):
    """Options of a command. An unknown key is an error, and every number has a bound.

    Attributes:
        heading: the heading under which the help shows the options that a class defines.
        needs: conditions that hold for all options that a class defines.
    """

    heading: ClassVar[str] = ""
    needs: ClassVar[tuple[Needs, ...]] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def bounded(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse numbers that are too large, where an option has no bound of its own."""
        field = cls.model_fields[info.field_name or ""]
        if any(getattr(one, "le", getattr(one, "lt", None)) is not None for one in field.metadata):
            return value
        for one in value if isinstance(value, list) else [value]:
            bound = _MAX_INTEGER if isinstance(one, int) else _MAX_NUMBER
            if isinstance(one, (int, float)) and abs(one) > bound:
                raise ValueError(f"should be at most {bound:,}")
        return value

    @classmethod
    def owner(cls, name: str) -> type[Options]:
        """Return the class that defines an option, the base class that declares it first."""
        return next(kind for kind in reversed(cls.__mro__) if issubclass(kind, Options) and name in kind.model_fields)

    @classmethod
    def beside(cls, values: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Return values of options, with those that are paths relative to a folder."""
        names = {
            name for name, field in cls.model_fields.items() if any(isinstance(m, FileName) for m in field.metadata)
        }
        return {
            key: os.path.join(folder, os.path.expanduser(value)) if key in names and isinstance(value, str) else value
            for key, value in values.items()
        }

    @classmethod
    def conditions(cls, name: str) -> Iterator[Needs]:
        """Yield all conditions under which an option has an effect."""
        yield from (one for one in cls.model_fields[name].metadata if isinstance(one, Needs))
        yield from vars(cls.owner(name)).get("needs", ())  # not those of its bases


def check_applicable(config: Options, given: Collection[str], facts: Mapping[str, Any]) -> None:
    """Refuse options that have no effect in this setting.

    Args:
        config (Options): the options.
        given (Collection[str]): the names of those that the user has set.
        facts (Mapping[str, Any]): what is known of the data beside the options.

    Raises:
        ElmanError: an option has no effect; the message names those under its heading that have one.
    """
    kind, setting = type(config), {**dict(config), **facts}
    for name in filter(given.__contains__, kind.model_fields):  # in their order, so that the message is always the same
        if (failed := _failed(kind, name, setting)) is not None:
            heading = kind.owner(name).heading
            effective = [option for option in kind.model_fields if _failed(kind, option, setting) is None]
            related = [option for option in effective if kind.owner(option).heading == heading]
            related = related or [option for option in effective if kind.owner(option).heading != "Training"]
            raise ElmanError(
                f"{name}: has no effect here, it needs {failed.setting}; options that have one: {', '.join(related)}"
            )


def _failed(kind: type[Options], name: str, setting: Mapping[str, Any]) -> Needs | None:
    """The first condition of an option that does not hold."""
    for condition in kind.conditions(name):
        try:
            if not condition.holds(setting):
                return condition
        except KeyError:  # not known yet
            continue
    return None


def several(value: Any) -> Any:
    """One value, or "a,b", as a list, for options that may differ from layer to layer."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in (several(item) if isinstance(item, str) else [item])]
    return value if value is None else [value]


def parse(model: type[Config], values: dict[str, Any], source: str = "") -> Config:
    """The config with these values; ElmanError names the key, what is wrong and what would be right.

    ``source`` is the file the values come from, for the message.
    """
    where = f"{source}: " if source else ""
    for key in values:
        if key not in model.model_fields:
            raise ElmanError(f"{where}{unknown_name('option', key, model.model_fields)}")
    try:
        return model.model_validate(values, strict=True)
    except pydantic.ValidationError as error:
        raise ElmanError(where + explain(error)) from None


def explain(error: pydantic.ValidationError) -> str:
    """The first thing wrong, on one line."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str)) or "options"
    if first["type"] == "missing":
        return f"{key}: is missing"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = repr(first["input"])
    return f"{key}: {message[:1].lower()}{message[1:]}, not {given if len(given) <= 200 else given[:200] + ' ...'}"
