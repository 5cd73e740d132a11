"""Changes of the catalogue since a vector index was built, in one SQLite file.

`updates.sqlite` lies beside the generations of a vector index. A change that
`put` or `delete` has returned from is on the disk. Any number of processes may
write and read; readers ask for what came after the last number they know.
"""

import contextlib
import dataclasses
import json
import pathlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_rows

UPDATES = "updates.sqlite"
_VERSION = 1

# A product that is NULL was deleted. Numbers are never used twice. Pictures
# are kept for the next build, which may have another model.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS updates (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id TEXT NOT NULL,
    changed_at REAL NOT NULL,
    product TEXT,
    dim INTEGER,
    vectors BLOB,
    saved_model_sha256 TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS updates_by_product
    ON updates (product_id, sequence);
CREATE TABLE IF NOT EXISTS pictures (
    sequence INTEGER NOT NULL,
    picture INTEGER NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (sequence, picture)
) STRICT;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_SELECT = (
    "SELECT sequence, product_id, changed_at, product, dim, vectors, "
    "saved_model_sha256 FROM updates"
)
# Updates that are read at once.
_PAGE = 500
_WAIT_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Update:
    """One change.

    Attributes:
        sequence: its number; later ones are larger.
        changed_at: when, in seconds since 1970 (UTC).
        product: as it is from now on; None if it was deleted.
        vectors: `[n, dim]` float32 of its pictures, in their order.
        saved_model_sha256: of the model they are by.
    """

    sequence: int
    product_id: str
    changed_at: float
    product: product_index.Product | None
    vectors: np.ndarray
    saved_model_sha256: str | None


class VectorUpdates:
    """The changes of a vector index, for any number of threads.

    Args:
        root: the folder of all generations. The file is made if it is absent.

    Raises:
        ValueError: if there is something else, or one of another version.
    """

    def __init__(self, root: pathlib.Path):
        self._path = pathlib.Path(root) / UPDATES
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                self._path,
                timeout=_WAIT_SECONDS,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.OperationalError as error:
            raise ValueError(
                f"Can't open {self._path}: {error}. Expected the folder of a "
                "vector index that this user may write to."
            ) from error
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            (version,) = self._connection.execute(
                "PRAGMA user_version"
            ).fetchone()
            if version not in (0, _VERSION):
                raise ValueError(
                    f"{self._path} is of version {version}, expected "
                    f"{_VERSION}. Use the release of sicot_tf that wrote it."
                )
            if not version:
                self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ValueError(
                f"Can't read {self._path}: {error}. Move it away, then send "
                "its changes again."
            ) from error

    def put(
        self,
        product: product_index.Product,
        vectors: np.ndarray,
        pictures: Sequence[bytes],
        saved_model_sha256: str,
    ) -> int:
        """Adds a product or replaces it with all its pictures.

        Args:
            vectors: `[n, dim]` float32 unit vectors, one a picture.
            pictures: encoded, in the order of the product's images.
            saved_model_sha256: of the model that embedded them.

        Returns:
            The number of the change, which is on the disk now.

        Raises:
            ValueError: for another shape, or a vector that is no unit vector.
        """
        vectors = np.asarray(vectors, np.float32)
        dim = vectors.shape[-1] if vectors.ndim == 2 else 0
        vector_rows.check_vectors(vectors, len(pictures), dim)
        return self._write(
            (
                product.product_id,
                json.dumps(dataclasses.asdict(product)),
                dim,
                vectors.astype("<f4").tobytes(),
                saved_model_sha256,
            ),
            pictures,
        )

    def delete(self, product_id: str) -> int:
        """Takes a product out, known or not; the number of the change."""
        return self._write((product_id, None, None, None, None), ())

    def since(self, sequence: int) -> Iterator[Update]:
        """Changes after a number, in their order."""
        while True:
            page = self._rows(
                f"{_SELECT} WHERE sequence > ? ORDER BY sequence LIMIT {_PAGE}",
                sequence,
            )
            if not page:
                return
            for row in page:
                yield _to_update(row)
            sequence = page[-1][0]

    @property
    def last_sequence(self) -> int:
        """The number of the newest change; 0 if there never was one."""
        rows = self._rows(
            "SELECT seq FROM sqlite_sequence WHERE name = 'updates'"
        )
        return rows[0][0] if rows else 0

    def find(self, product_id: str) -> Update | None:
        """The newest change of a product, or None."""
        rows = self._rows(
            f"{_SELECT} WHERE product_id = ? ORDER BY sequence DESC LIMIT 1",
            product_id,
        )
        return _to_update(rows[0]) if rows else None

    def pictures(self, sequence: int) -> list[bytes]:
        """The encoded pictures of a change."""
        rows = self._rows(
            "SELECT encoded FROM pictures WHERE sequence = ? ORDER BY picture",
            sequence,
        )
        return [encoded for (encoded,) in rows]

    def forget(self, sequence: int) -> int:
        """Removes changes up to a number, which every kept generation has.

        Returns:
            How many there were.
        """
        with self._lock, self._transaction():
            self._connection.execute(
                "DELETE FROM pictures WHERE sequence <= ?", (sequence,)
            )
            return self._connection.execute(
                "DELETE FROM updates WHERE sequence <= ?", (sequence,)
            ).rowcount

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "VectorUpdates":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, values: tuple, pictures: Sequence[bytes]) -> int:
        with self._lock, self._transaction():
            sequence = self._connection.execute(
                "INSERT INTO updates (changed_at, product_id, product, dim, "
                "vectors, saved_model_sha256) VALUES (?, ?, ?, ?, ?, ?)",
                (time.time(), *values),
            ).lastrowid
            self._connection.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?)",
                (
                    (sequence, place, encoded)
                    for place, encoded in enumerate(pictures)
                ),
            )
        return sequence

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # At once the writer: one that reads first may be refused later.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _rows(self, sql: str, *values: int | str) -> list[tuple]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()


def _to_update(row: tuple) -> Update:
    sequence, product_id, changed_at, product, dim, vectors, model = row
    return Update(
        sequence=sequence,
        product_id=product_id,
        changed_at=changed_at,
        product=product_index.Product(**json.loads(product))
        if product
        else None,
        vectors=np.frombuffer(vectors or b"", "<f4").reshape(-1, dim or 1),
        saved_model_sha256=model,
    )
