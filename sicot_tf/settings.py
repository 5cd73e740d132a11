"""Fields of a configuration that know their flag, help and range."""

import dataclasses
import math
import typing
from typing import Any


def setting(
    default: Any,
    description: str,
    flag: str = "",
    choices: tuple = (),
    least: float = 0,
    most: float = math.inf,
    old_flag: str = "",
) -> Any:
    """A dataclass field that also knows its flag, help and range."""
    return dataclasses.field(
        default=default,
        metadata={
            "help": description,
            "flag": flag,
            "choices": choices,
            "range": (least, most),
            # Taken for one version more, and not in the help.
            "old_flag": old_flag,
        },
    )


def check(config: Any) -> None:
    """Raises ValueError for a value of another type or out of its range."""
    types = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), types[field.name]
        least, most = field.metadata["range"]
        choices = field.metadata["choices"]
        expected = f"one of {', '.join(choices)}" if choices else "a text"
        if kind is bool:
            expected = "true or false"
        elif kind in (int, float):
            expected = "a whole number" if kind is int else "a number"
            expected += f" of {least} or more"
            expected += f" and at most {most}" if most < math.inf else ""
        # A whole number is a number, too; True and False are none.
        fits = type(value) is kind or (kind is float and type(value) is int)
        if fits and kind in (int, float):
            # Not "not (value < least)": NaN is neither.
            fits = least <= value <= most and math.isfinite(value)
        elif fits and choices:
            fits = value in choices
        if not fits:
            name = field.metadata["flag"] or field.name
            raise ValueError(
                f"Expected --{name} to be {expected}, received {value!r}."
            )
