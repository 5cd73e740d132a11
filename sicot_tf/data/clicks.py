"""Click logs: what customers photographed, were shown and clicked.

One row a click, or a result page without any, in JSON Lines, CSV (both also
gzipped) or Parquet:

    query_id  one result page; several clicks on it are several rows
    visitor   who asked, any opaque text; may be null
    time      ISO 8601; UTC where it has no offset
    image     the query picture, relative to the log file
    shown     product ids from the first place on (in CSV JSON, or "|" between)
    clicked   the product id, or null
    position  its place from 1, or null

and, as one likes, `split` (train, val or test), `similarities` (of query and
shown products, one each), `generated`. Other fields are passed over. Needs
neither Beam nor TensorFlow.
"""

import csv
import dataclasses
import datetime
import glob
import gzip
import io
import json
import math
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from sicot_tf.data import generations

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
FIELDS = (
    "query_id",
    "visitor",
    "time",
    "image",
    "shown",
    "clicked",
    "position",
    "split",
    "similarities",
    "generated",
)

REASONS = {
    "bad_json": "the line is not a JSON object in UTF-8",
    "missing_field": "a required field is absent or empty",
    "bad_field": "a field has the wrong type, or a CSV row the wrong length",
    "unknown_split": "split is none of train, val, test",
    "shown_twice": "a product stands twice on the page",
    "not_at_position": "clicked is not what was shown at position",
    "another_page": "an earlier row of the query_id showed something else",
}


class ClickError(ValueError):
    """A row that can't be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Click:
    """A row of a log: a click, or a page without any.

    Attributes:
        time: seconds since 1970.
        image: path of the query picture; relative ones are resolved.
        shown: product ids in order.
        position: of `clicked`, from 1; both None without a click.
        similarities: one for each of `shown`; None where the log has none.
    """

    query_id: str
    visitor: str | None
    time: float
    image: str
    shown: tuple[str, ...]
    clicked: str | None
    position: int | None
    split: str | None = None
    similarities: tuple[float, ...] | None = None
    generated: bool = False


@dataclasses.dataclass(frozen=True)
class Page:
    """A result page with all its clicks.

    Attributes:
        time: of its first row, in seconds since 1970.
        positions: that were clicked, from 1, each once, in order.
    """

    query_id: str
    visitor: str | None
    time: float
    image: str
    shown: tuple[str, ...]
    positions: tuple[int, ...]
    split: str | None
    similarities: tuple[float, ...] | None


def find_files(patterns: Sequence[str]) -> list[pathlib.Path]:
    """The logs that paths or globs mean, sorted.

    Raises:
        ValueError: if a pattern means nothing, or a file of another format.
    """
    paths = set()
    for pattern in patterns:
        # A name may look like a glob.
        is_file = pathlib.Path(pattern).is_file()
        found = [pattern] if is_file else glob.glob(pattern)
        if not found:
            raise ValueError(f"No click log matches {str(pattern)!r}.")
        paths.update(map(pathlib.Path, found))
    for path in paths:
        if not path.name.endswith(FORMATS):
            raise ValueError(
                f"Expected a click log ending in one of {', '.join(FORMATS)}, "
                f"received {str(path)!r}."
            )
    return sorted(paths)


def read(path: pathlib.Path) -> Iterator[tuple[int, Click | ClickError, str]]:
    """The rows of one log.

    Yields:
        The line (in Parquet and CSV the row) from 1, the click or what is
        wrong with it, and the row as JSON text.

    Raises:
        ValueError: if the file can't be read to its end.
    """
    folder = path.parent
    try:
        for number, (row, content) in enumerate(_rows(path), 1):
            if row is None:
                continue
            try:
                if isinstance(row, ClickError):
                    raise row
                yield number, parse(row, folder), content
            except ClickError as error:
                yield number, error, content
    except ClickError:
        raise
    # Arrow's own errors are ValueErrors; damaged gzip is an OSError.
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"The log {path} can't be read: {error}") from error


def parse(row: Mapping[str, Any], folder: pathlib.Path | str) -> Click:
    """Holds a row to the contract.

    Args:
        folder: of the log; a relative `image` lies there.

    Raises:
        ClickError: with the reason.
    """
    shown = tuple(_list(row, "shown", _identifier))
    if not shown:
        raise ClickError("missing_field", "shown is absent or empty.")
    if len(set(shown)) < len(shown):
        raise ClickError("shown_twice", "A product stands twice in shown.")
    clicked = _optional(row, "clicked", _identifier)
    position = _optional(row, "position", _whole_number)
    if (clicked is None) != (position is None) or (
        position is not None
        and not (1 <= position <= len(shown) and shown[position - 1] == clicked)
    ):
        raise ClickError(
            "not_at_position",
            f"Expected clicked at its position, from 1, in shown, received "
            f"{clicked!r:.100} at {position} of {len(shown)}.",
        )
    split = _optional(row, "split", _identifier)
    split = "val" if split == "validation" else split
    if split not in (None, *generations.SPLITS):
        raise ClickError(
            "unknown_split", f"Expected train, val or test, received {split!r}."
        )
    similarities = tuple(_list(row, "similarities", _number))
    if similarities and len(similarities) != len(shown):
        raise ClickError(
            "bad_field",
            f"similarities: expected one for each of {len(shown)} shown, "
            f"received {len(similarities)}.",
        )
    image = _required(row, "image", _identifier)
    return Click(
        query_id=_required(row, "query_id", _identifier),
        visitor=_optional(row, "visitor", _identifier),
        time=_required(row, "time", _seconds),
        image=image if "://" in image else str(pathlib.Path(folder, image)),
        shown=shown,
        clicked=clicked,
        position=position,
        split=split,
        similarities=similarities or None,
        generated=row.get("generated") in (True, 1, "true", "True", "1"),
    )


def gather(
    rows: Iterable[Click],
) -> tuple[list[Page], list[tuple[Click, ClickError]]]:
    """Rows to pages, in the order of their first rows.

    A second click on the same place counts once.

    Returns:
        The pages, and the rows that show another page than the first of
        their query_id.
    """
    first: dict[str, Click] = {}
    positions: dict[str, set[int]] = {}
    refused = []
    for row in rows:
        page = first.setdefault(row.query_id, row)
        if (page.shown, page.image) != (row.shown, row.image):
            message = f"{row.query_id} has shown another page before."
            refused.append((row, ClickError("another_page", message)))
            continue
        clicked = positions.setdefault(row.query_id, set())
        if row.position is not None:
            clicked.add(row.position)
    pages = [
        Page(
            query_id=query_id,
            visitor=row.visitor,
            time=row.time,
            image=row.image,
            shown=row.shown,
            positions=tuple(sorted(positions[query_id])),
            split=row.split,
            similarities=row.similarities,
        )
        for query_id, row in first.items()
    ]
    return pages, refused


def _rows(
    path: pathlib.Path,
) -> Iterator[tuple[Mapping[str, Any] | ClickError | None, str]]:
    """Rows as mappings, or what is wrong; None for a blank line."""
    if path.name.endswith(".parquet"):
        with pq.ParquetFile(path) as parquet:
            names = [n for n in parquet.schema_arrow.names if n in FIELDS]
            for batch in parquet.iter_batches(batch_size=1024, columns=names):
                for row in batch.to_pylist():
                    yield row, _to_json(row)
        return
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as file:
        if path.name.removesuffix(".gz").endswith(".csv"):
            yield from _csv_rows(file)
            return
        for line in file:
            text = line.decode("utf-8", "backslashreplace").strip()
            if not text:
                yield None, ""
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"expected an object, received {text:.40}")
                yield row, _to_json(row)
            # Text nested thousands deep raises RecursionError.
            except (ValueError, RecursionError) as error:
                yield ClickError("bad_json", str(error)), _to_json(text[:1000])


def _csv_rows(file: Any) -> Iterator[tuple[Any, str]]:
    csv.field_size_limit(1 << 24)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            content = _to_json({str(key): each for key, each in row.items()})
            if None in row or None in row.values():
                row = ClickError("bad_field", "The row has another length.")
            yield row, content


def _to_json(value: Any) -> str:
    return json.dumps(value, default=str)


def _is_absent(value: Any) -> bool:
    return (
        value is None
        or value == ""
        or (isinstance(value, float) and math.isnan(value))
    )


def _optional(row: Mapping[str, Any], name: str, convert: Any) -> Any:
    value = row.get(name)
    return None if _is_absent(value) else convert(name, value)


def _required(row: Mapping[str, Any], name: str, convert: Any) -> Any:
    value = _optional(row, name, convert)
    if value is None:
        raise ClickError("missing_field", f"{name} is absent or empty.")
    return value


def _list(row: Mapping[str, Any], name: str, convert: Any) -> list[Any]:
    value = row.get(name)
    if _is_absent(value):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value) if value[0] == "[" else value.split("|")
        except ValueError as error:
            raise _bad(name, "a list", value) from error
    if not isinstance(value, list):
        raise _bad(name, "a list", value)
    return [convert(name, each) for each in value]


def _identifier(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _bad(name, "text", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _bad(name, "valid UTF-8", value) from error
    return value


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
        if math.isfinite(number) and not isinstance(value, bool):
            return number
    except (TypeError, ValueError):
        pass
    raise _bad(name, "a finite number", value)


def _whole_number(name: str, value: Any) -> int:
    number = _number(name, value)  # pandas makes 3 a 3.0 beside nulls.
    if number != int(number):
        raise _bad(name, "a whole number", value)
    return int(number)


def _seconds(name: str, value: Any) -> float:
    try:
        time = value
        if isinstance(value, str):
            time = datetime.datetime.fromisoformat(value)
        if time.tzinfo is None:
            time = time.replace(tzinfo=datetime.UTC)
        return time.timestamp()
    except (AttributeError, ValueError, OverflowError) as error:
        raise _bad(name, "ISO 8601", value) from error


def _bad(name: str, expected: str, value: Any) -> ClickError:
    return ClickError(
        "bad_field",
        f"{name}: expected {expected}, received {type(value).__name__} "
        f"{value!r:.100}.",
    )
