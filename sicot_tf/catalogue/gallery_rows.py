"""Rows of a gallery's files: which product, and what is said of it.

CSV with a header, or JSON Lines (.jsonl). `product_id` is required; `images`
(a list, or text with | between) or `image`, `sku_id`, `title`, `category` and
`tags` are known, all else becomes an attribute. Absent fields say nothing.
"""

import csv
import json
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

_TEXTS = ("sku_id", "title", "category")
_LISTS = ("images", "tags")


class RowError(ValueError):
    """What is wrong with a row.

    Attributes:
        reason: a code; the message explains it.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def read(path: pathlib.Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line and fields of each row, as the file has them.

    Raises:
        ValueError: if it is no such file.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError(
            f"Expected a .csv or .jsonl file, received {path}. Save it as "
            "one of them."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".jsonl":
                for line, text in enumerate(file, start=1):
                    if text.strip():
                        yield line, _parse(text)
                return
            reader = csv.DictReader(file, restkey=_TOO_MANY)
            if "product_id" not in (reader.fieldnames or ()):
                raise ValueError(
                    f"Expected a first line of {path} that names the columns, "
                    f"product_id among them; received {reader.fieldnames}."
                )
            for row in reader:
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in UTF-8: {error}. Save it as UTF-8."
        ) from error


_TOO_MANY = "too many fields"


def _parse(text: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except ValueError:
        row = None
    return row if isinstance(row, dict) else {_TOO_MANY: text}


def check(row: Mapping[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """The fields that a row gives, of their types.

    Args:
        folder: of relative picture paths.

    Returns:
        `product_id`, and what is given of `sku_id`, `title`, `category`,
        `images` (absolute paths), `tags` and `attributes`.

    Raises:
        RowError: if it can't be used.
    """
    if _TOO_MANY in row or None in row.values() and "product_id" not in row:
        raise RowError("bad_row", "No JSON object, or more fields than columns")
    given = {
        name: value
        for name, value in row.items()
        if value is not None and value != "" and value != []
    }
    product_id = given.pop("product_id", None)
    if not isinstance(product_id, str | int) or isinstance(product_id, bool):
        raise RowError(
            "missing_field", f"product_id is absent or no text: {product_id!r}"
        )
    found: dict[str, Any] = {"product_id": str(product_id)}
    if image := given.pop("image", None):
        given.setdefault("images", image)
    for name in _TEXTS:
        if name in given:
            found[name] = _text(name, given.pop(name))
    for name in _LISTS:
        if name in given:
            found[name] = _texts(name, given.pop(name))
    if "images" in found:
        found["images"] = [
            str((folder / each).absolute()) for each in found["images"]
        ]
    if given:
        found["attributes"] = {
            name: _value(value) for name, value in given.items()
        }
    return found


def _text(name: str, value: Any) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise RowError("bad_field", f"{name} is no text: {value!r:.80}")


def _texts(name: str, value: Any) -> list[str]:
    values = value.split("|") if isinstance(value, str) else value
    if not isinstance(values, list):
        raise RowError("bad_field", f"{name} is no list: {value!r:.80}")
    return list(dict.fromkeys(_text(name, each) for each in values if each))


def _value(value: Any) -> Any:
    """A number where a text is one: CSV has nothing else."""
    if isinstance(value, str):
        try:
            number = json.loads(value)
        except ValueError:
            return value
        if isinstance(number, int | float) and number - number == 0:
            return number
    return value
