"""Click logs, a catalogue and their pictures, written by hand."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

QUERY = "pictures/query.png"


def write_pictures(folder: pathlib.Path, names: Sequence[str]) -> None:
    """`pictures/<name>.png`, each of another noise."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3))
        image = PIL.Image.fromarray(pixels.astype(np.uint8))
        image.save(folder / "pictures" / f"{name}.png")


def write_catalogue(folder: pathlib.Path, skus: dict[str, str]) -> pathlib.Path:
    """Products with their SKUs, each with the picture of its name."""
    return write_rows(
        folder / "catalogue.jsonl",
        [
            {
                "product_id": product_id,
                "sku_id": sku_id,
                "title": f"a {product_id}",
                "image": f"pictures/{product_id}.png",
            }
            for product_id, sku_id in skus.items()
        ],
    )


def write_rows(path: pathlib.Path, rows: Sequence[Any]) -> pathlib.Path:
    """JSON Lines; a text is a line as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(
            (row if isinstance(row, str) else json.dumps(row)) + "\n"
            for row in rows
        )
    )
    return path


def row(
    query_id: str, shown: str, position: int | None = None, **fields: Any
) -> dict[str, Any]:
    """A row of a log, by default of a visitor of its own, for training.

    Args:
        shown: product ids of one letter each.
    """
    return {
        "query_id": query_id,
        "visitor": f"visitor of {query_id}",
        "time": "2026-11-27T10:00:00Z",
        "image": QUERY,
        "shown": list(shown),
        "clicked": None if position is None else shown[position - 1],
        "position": position,
        "split": "train",
        **fields,
    }
