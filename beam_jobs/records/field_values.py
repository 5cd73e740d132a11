"""Values of fields as text: the same whatever format they came from."""

import math
import re
from collections.abc import Mapping
from typing import Any

from beam_jobs.records import text_lines
from sicot_tf.data import records

# Floats hold every integer up to this one, and not the next.
_MAX_EXACT = 1 << 53
# How pandas and Python write the float 100.0, and 1234567890123456789.0;
# spreadsheets write 1.23457E+18.
_WHOLE_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.0")
_ROUNDED_FLOAT = re.compile(r"[+-]?[0-9](?:\.[0-9]+)?[eE]\+[0-9]{2,}")


def is_absent(value: Any) -> bool:
    """Whether a field has no value: null, NaN or ""."""
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or value == ""


def bad_field(name: str, expected: str, value: Any) -> records.RecordError:
    """The error of a value that is not what was expected."""
    return records.RecordError(
        "bad_field",
        f"{name}: expected {expected}, received {type(value).__name__} "
        f"{value!r:.100}.",
    )


def text(
    row: Mapping[str, Any], name: str, allow_surrogates: bool = False
) -> str | None:
    """A field as text, None where it is absent.

    Whole numbers are text however they are held: 123 and 123.0 are "123".

    Raises:
        records.RecordError: `bad_field` for what has no exact text.
    """
    value = row.get(name)
    if is_absent(value):
        return None
    if not isinstance(value, str):
        value = str(_whole_number(name, value))
    if not allow_surrogates and not text_lines.is_sound(value):
        raise bad_field(name, "valid UTF-8", value)
    return value


def texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; one text is split at `|`."""
    values = row.get(name)
    if not isinstance(values, list):
        values = (text(row, name) or "").split("|")
    values = [text({name: value}, name) for value in values]
    return [value for value in values if value]


def identifier(row: Mapping[str, Any], name: str) -> str | None:
    """An id, exact or refused; None where it is absent.

    As CSV can't tell 100 from 100.0, which pandas makes of it beside nulls,
    the text "100.0" is "100" in every format. Other texts stay as they are,
    but for those of floats that have lost digits.

    Raises:
        records.RecordError: `bad_field`.
    """
    value = text(row, name)
    if value is None:
        return None
    if _WHOLE_FLOAT.fullmatch(value):
        if len(value) > 19 or abs(int(value[:-2])) > _MAX_EXACT:
            raise _digits_lost(name, value)
        value = str(int(value[:-2]))
    elif _ROUNDED_FLOAT.fullmatch(value):
        raise _digits_lost(name, value)
    # SKU ids are lines of label lists; NUL ends text in SQL functions.
    if re.search(r"[\n\r\0]", value):
        raise bad_field(name, "no line break and no NUL", value)
    return value


def required(row: Mapping[str, Any], name: str, value: str | None) -> str:
    """The value of a field that must not be absent or blank."""
    if value is None or not value.strip():
        state = "empty" if name in row else "absent"
        raise records.RecordError("missing_field", f"{name} is {state}.")
    return value


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        if abs(value) > _MAX_EXACT:
            raise _digits_lost(name, value)
        return int(value)
    raise bad_field(name, "text", value)


def _digits_lost(name: str, value: Any) -> records.RecordError:
    return records.RecordError(
        "bad_field",
        f"{name}: digits are lost, a float holds integers up to "
        f"{_MAX_EXACT:,} exactly; received {value!r:.100}. Write ids as text "
        "or whole numbers.",
    )
