"""Live changes that a vector index holds, but its product index does not.

A generation that has folded them in names them in a file: what is found among
its vectors must be known, although the catalogue has yet to say it.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

from sicot_tf import files
from sicot_tf.catalogue import product_index

FILE = "folded.jsonl"


def write(
    folder: pathlib.Path,
    products: Mapping[str, product_index.Product | None],
) -> None:
    """A line a product, by its id; None: it was deleted."""
    files.write_lines(
        folder / FILE,
        (
            json.dumps([name, product and dataclasses.asdict(product)])
            for name, product in sorted(products.items())
        ),
    )


def read(folder: pathlib.Path) -> dict[str, product_index.Product | None]:
    """What `write` has written; nothing where it has not.

    Raises:
        ValueError: if the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    found = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                name, product = json.loads(line)
                found[name] = product and product_index.Product(**product)
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected an id and a product, "
                    f"received {line!r:.100}. Build the vector index again."
                ) from error
    return found
