"""Options, checked: unknown keys, wrong types and numbers out of bounds are errors. No torch here."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from elman.errors import ElmanError, unknown_name

Config = TypeVar("Config", bound=BaseModel)

#: The greatest whole number, and the greatest number, of options that have no bound of their own.
_MOST, _GREATEST = 10**9, 1e12


class Options(BaseModel):
    """Options of a command: a key that is unknown is an error, and every number has a bound."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def bounded(cls, value: Any, info: ValidationInfo) -> Any:
        """Numbers without a bound of their own are no greater than any that makes sense."""
        field = cls.model_fields[info.field_name or ""]
        if any(getattr(one, "le", getattr(one, "lt", None)) is not None for one in field.metadata):
            return value
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (int, float)) and abs(one) > (most := _MOST if isinstance(one, int) else _GREATEST):
                raise ValueError(f"should be at most {most:,}")
        return value


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
