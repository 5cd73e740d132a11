"""The work list of a vector index: every picture it shall hold, and whence.

    product index + live changes -> wanted -> where each vector lies

`source` names a picture: its path, or the live change it came with; `path` is
where its bytes are; `content` is a SHA-256 of what the vector is of. Source and
content say whether the vector of another generation still holds.
"""

import contextlib
import itertools
import json
import pathlib
import sqlite3
from collections.abc import Iterator

from beam_jobs.records import raw_records
from beam_jobs.vectors.live_changes import LiveChanges
from sicot_tf import progress
from sicot_tf.catalogue import product_index

FILE = "wanted.sqlite"
# Where vectors lie: rows by `embed_pictures`, of the base, of live changes,
# of the product index.
EMBEDDED, BASE, LIVE, STORED = range(4)

_SCHEMA = """
CREATE TABLE wanted (
    row INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    picture INTEGER NOT NULL,
    category TEXT,
    source TEXT NOT NULL,
    path TEXT,
    stored INTEGER,
    sequence INTEGER,
    content TEXT,
    file INTEGER,
    place INTEGER,
    reason TEXT,
    message TEXT
) STRICT;
"""
_INDEX = "CREATE UNIQUE INDEX by_picture ON wanted (product_id, picture)"
_INSERT = (
    "INSERT INTO wanted (row, product_id, picture, category, source, path, "
    "stored, sequence) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
# Rows that are written or read at once.
CHUNK = 4096


def write(
    path: pathlib.Path,
    index_generation: pathlib.Path,
    image_root: pathlib.Path | None,
    changes: LiveChanges,
) -> int:
    """Lists the pictures of all products; says how many there are.

    Raises:
        ValueError: if pictures have relative paths, and nobody says of what.
    """
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as wanted:
        # Written anew by whoever finds it unfinished.
        wanted.execute("PRAGMA journal_mode = OFF")
        wanted.execute("PRAGMA synchronous = OFF")
        wanted.executescript(_SCHEMA)
        rows = itertools.chain(
            _of_catalogue(index_generation, image_root, changes),
            _of_changes(changes),
        )
        numbered = ((row, *each) for row, each in enumerate(rows))
        with progress.bar(description="Pictures", unit="pictures") as bar:
            while chunk := list(itertools.islice(numbered, CHUNK)):
                wanted.executemany(_INSERT, chunk)
                bar.update(len(chunk))
        wanted.execute(_INDEX)
        wanted.commit()
        (count,) = wanted.execute("SELECT count(*) FROM wanted").fetchone()
    return count


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The list, to read and to note where vectors are."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        yield connection
        connection.commit()


def _of_catalogue(
    generation: pathlib.Path,
    image_root: pathlib.Path | None,
    changes: LiveChanges,
) -> Iterator[tuple]:
    """Rows of the products that no live change has replaced."""
    with contextlib.closing(product_index.connect(generation)) as store:
        products = store.execute(
            "SELECT row, product_id, category, images FROM products "
            "ORDER BY row"
        )
        stored = _Stored(store)
        for product, product_id, category, images in products:
            places = stored.of(product)
            if product_id in changes.folded:
                continue
            for picture, image in enumerate(json.loads(images)):
                source = _resolve(image_root, image, generation)
                yield (
                    *(product_id, picture, category, source, source),
                    *(places.get(picture), None),
                )


class _Stored:
    """Rows of embeddings by product, in one pass beside the products'."""

    def __init__(self, store: sqlite3.Connection):
        rows = store.execute(
            "SELECT product, picture, row FROM embeddings ORDER BY product"
        )
        self._groups = itertools.groupby(rows, key=lambda row: row[0])
        self._next = next(self._groups, None)

    def of(self, product: int) -> dict[int, int]:
        """Row of each picture; products are asked for in their order."""
        if self._next is None or self._next[0] != product:
            return {}
        found = {picture: row for _, picture, row in self._next[1]}
        self._next = next(self._groups, None)
        return found


def _of_changes(changes: LiveChanges) -> Iterator[tuple]:
    for product_id, update in sorted(changes.folded.items()):
        if update.product is None:
            continue
        for picture in range(len(update.vectors)):
            name = f"update:{update.sequence}/{picture}"
            yield (
                *(product_id, picture, update.product.category, name),
                *(None, None, update.sequence),
            )


def _resolve(
    root: pathlib.Path | None, image: str, generation: pathlib.Path
) -> str:
    if root is None and "://" not in image and not image.startswith("/"):
        raise ValueError(
            f"The pictures of {generation} have relative paths, for example "
            f"{image!r}, and its catalogue files are not beside it. Say where "
            "they start: --image_root DIR."
        )
    return raw_records.resolve_image(str(root or ""), image)
