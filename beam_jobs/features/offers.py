"""Products with what their records tell: main picture, price, sales, age.

Read from a generation of the product index, or from catalogue records as
`build_product_index` takes them.
"""

import json
import math
import pathlib
import posixpath
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import catalogue_parts
from beam_jobs.catalogue import merge_products
from beam_jobs.catalogue import parse_catalogue
from beam_jobs.pipelines import runners
from beam_jobs.records import field_values
from beam_jobs.records import parquet_tables
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index

# A row group is what a worker measures at a time.
PART_ROWS = 256
SCHEMA = pa.schema(
    {
        "product_id": pa.string(),
        # Of the main picture; null without one.
        "path": pa.string(),
        "category": pa.string(),
        "price": pa.float64(),
        "sales": pa.float64(),
        "listed_at": pa.float64(),
    }
)
_NUMBERS = ("price", "sales")
_ROWS_AT_ONCE = 4096


def from_index(
    generation: pathlib.Path, image_root: str, path: pathlib.Path
) -> dict[str, int]:
    """Writes the products of an index as `SCHEMA`; see `_write`."""
    connection = product_index.connect(generation)
    rows = connection.execute(
        "SELECT product_id, images, category, attributes, updated_at "
        "FROM products ORDER BY product_id"
    )

    def products() -> Iterator[tuple]:
        while chunk := rows.fetchmany(_ROWS_AT_ONCE):
            for row in chunk:
                yield (*row, image_root)

    counts = _write(products(), path)
    connection.close()
    return counts


def from_catalogue(
    catalogue: Sequence[record_files.RecordFile],
    image_root: str | None,
    work: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    encoding: str,
) -> tuple[dict[str, int], list[pathlib.Path]]:
    """Writes the latest records as `work/products.parquet`.

    Returns:
        Counts, and files of rejected records.
    """
    runners.run_each(
        pipeline_options,
        catalogue_parts.inputs(catalogue),
        catalogue_parts.ParseCatalogue(work / "catalogue", encoding),
    )
    folders = [image_root or posixpath.dirname(file.path) for file in catalogue]
    with parquet_tables.plain_name(work) as plain:
        rows = merge_products.open_rows(
            catalogue_parts.products_in(plain / "catalogue"), plain / "spill"
        )
        latest = rows.sql(
            "SELECT product_id, images, category, attributes, updated_at, file "
            "FROM latest WHERE NOT deleted ORDER BY product_id"
        )

        def products() -> Iterator[tuple]:
            for batch in latest.to_arrow_reader(_ROWS_AT_ONCE):
                for row in zip(*(each.to_pylist() for each in batch.columns)):
                    yield (*row[:-1], folders[row[-1]])

        counts = _write(products(), work / "products.parquet")
        rows.close()
    return counts, catalogue_parts.rejects_in(work / "catalogue")


def _write(rows: Iterator[tuple], path: pathlib.Path) -> dict[str, int]:
    """Writes rows as `SCHEMA`, in row groups of `PART_ROWS`.

    Returns:
        Products, and how many have no usable value, by field.
    """
    counts = {"products": 0}
    counts |= {f"without_{name}": 0 for name in SCHEMA.names[1:]}
    with (
        files.replacing(path) as temporary,
        pq.ParquetWriter(temporary, SCHEMA) as writer,
    ):
        held = []
        for row in rows:
            held.append(_offer(*row))
            counts["products"] += 1
            for name in SCHEMA.names[1:]:
                counts[f"without_{name}"] += held[-1][name] is None
            if len(held) == PART_ROWS:
                writer.write_batch(pa.RecordBatch.from_pylist(held, SCHEMA))
                held = []
        if held:
            writer.write_batch(pa.RecordBatch.from_pylist(held, SCHEMA))
    return counts


def _offer(
    product_id: str,
    images: str,
    category: str | None,
    attributes: str,
    updated_at: float | None,
    folder: str,
) -> dict[str, Any]:
    fields = json.loads(attributes)
    pictures = json.loads(images)
    offer = {
        "product_id": product_id,
        "path": raw_records.resolve_image(folder, pictures[0])
        if pictures
        else None,
        "category": category,
        "listed_at": _time(fields),
    }
    return offer | {name: _number(fields, name) for name in _NUMBERS}


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    """A number that may be text; None for what is none, or below 0."""
    value = fields.get(name)
    try:
        if not field_values.is_absent(value) and not isinstance(value, bool):
            number = float(value)
            if 0 <= number < math.inf:
                return number
    except (TypeError, ValueError):
        pass
    return None


def _time(fields: Mapping[str, Any]) -> float | None:
    try:
        return parse_catalogue.seconds(fields.get("listed_at"))
    except ValueError:
        return None


def price_ratios(
    prices: np.ndarray, categories: Sequence[str | None]
) -> np.ndarray:
    """`[n]` float64 price to the median of its category; NaN without either.

    Args:
        prices: `[n]` float64 with NaN.
    """
    found = np.full(len(prices), np.nan)
    rows: dict[str, list[int]] = {}
    for row, category in enumerate(categories):
        if category is not None and prices[row] >= 0:
            rows.setdefault(category, []).append(row)
    for own in rows.values():
        median = np.median(prices[own])
        if median > 0:
            found[own] = prices[own] / median
    return found
