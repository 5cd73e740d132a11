"""What a product index holds, and how it fits the classes of a model."""

import collections
import contextlib
import json
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from beam_jobs.records import id_lists
from sicot_tf import files
from sicot_tf.catalogue import product_index

REPORT = "report.json"
SKUS_WITHOUT_CLASS = "skus_without_class.txt"
CLASSES_WITHOUT_SKU = "classes_without_sku.txt"
# How many ids the report itself names; the text files name all.
_NUM_NAMED = 100


def count_store(generation: pathlib.Path) -> dict[str, int]:
    """`skus`, `most_products_of_a_sku`, `products_without_image`."""
    with contextlib.closing(product_index.connect(generation)) as store:
        skus, most = store.execute(
            "SELECT count(*), ifnull(max(n), 0) FROM "
            "(SELECT count(*) AS n FROM products GROUP BY sku_id)"
        ).fetchone()
        (without_image,) = store.execute(
            "SELECT count(*) FROM products WHERE images = '[]'"
        ).fetchone()
    return {
        "skus": skus,
        "most_products_of_a_sku": most,
        "products_without_image": without_image,
    }


def count_rejects(path: pathlib.Path) -> dict[str, int]:
    """Lines of a `rejects.jsonl` by reason."""
    with path.open(encoding="utf-8") as file:
        reasons = collections.Counter(
            json.loads(line)["reason"] for line in file
        )
    return dict(sorted(reasons.items()))


def write(
    generation: pathlib.Path,
    counts: dict[str, Any],
    labels: pathlib.Path | None,
) -> dict[str, Any]:
    """Writes `report.json` and returns it; with labels two lists of ids too.

    Args:
        generation: holds the store.
        counts: go into the report as they are.
        labels: a `classes.jsonl`, or a file with a SKU id a line.

    Raises:
        ValueError: if the labels can't be read.
    """
    report: dict[str, Any] = {"counts": counts, "classes": None}
    if labels is not None:
        report["classes"] = _join_classes(generation, labels)
    files.write_json(generation / REPORT, report)
    return report


def _join_classes(
    generation: pathlib.Path, labels: pathlib.Path
) -> dict[str, Any]:
    with contextlib.closing(product_index.connect(generation)) as store:
        # Temporary tables lie outside the store, on disk if they are large.
        store.execute(
            "CREATE TEMP TABLE classes (sku_id TEXT PRIMARY KEY) WITHOUT ROWID"
        )
        store.executemany(
            "INSERT OR IGNORE INTO classes VALUES (?)", _read_labels(labels)
        )
        (num_classes,) = store.execute(
            "SELECT count(*) FROM classes"
        ).fetchone()
        (num_products,) = store.execute(
            "SELECT count(*) FROM products "
            "WHERE sku_id NOT IN (SELECT sku_id FROM classes)"
        ).fetchone()
        skus = store.execute(
            "SELECT DISTINCT sku_id FROM products "
            "WHERE sku_id NOT IN (SELECT sku_id FROM classes) ORDER BY sku_id"
        )
        skus_without_class = _write_ids(generation / SKUS_WITHOUT_CLASS, skus)
        classes = store.execute(
            "SELECT sku_id FROM classes WHERE NOT EXISTS (SELECT 1 FROM "
            "products WHERE products.sku_id = classes.sku_id) ORDER BY sku_id"
        )
        classes_without_sku = _write_ids(
            generation / CLASSES_WITHOUT_SKU, classes
        )
    return {
        "count": num_classes,
        "skus_without_class": skus_without_class,
        "products_without_class": num_products,
        "classes_without_sku": classes_without_sku,
    }


def _read_labels(path: pathlib.Path) -> Iterator[tuple[str]]:
    for number, line in enumerate(id_lists.read_lines(path), start=1):
        if path.suffix != ".jsonl":
            yield (line,)
            continue
        try:
            yield (json.loads(line)["sku_id"],)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with "
                f"sku_id, received {line!r:.100}. Give the classes.jsonl "
                "of a data set or a run."
            ) from error


def _write_ids(path: pathlib.Path, ids: sqlite3.Cursor) -> dict[str, Any]:
    """All ids into a file, a line each; their number and the first of them."""
    count, first = 0, []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for (sku_id,) in ids:
            file.write(f"{sku_id}\n")
            if count < _NUM_NAMED:
                first.append(sku_id)
            count += 1
    return {"count": count, "first": first, "file": path.name}
