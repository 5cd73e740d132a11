"""The rows behind the indexes of vectors: which picture, and which numbers.

A slot is a row's number. Rows of a generation lie in a file that is mapped,
not read; rows that came later lie beside them in memory.
"""

import array
import contextlib
import pathlib
import sqlite3
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import faiss
import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import vectors as contract

ROWS = "rows.npy"
STORE = "vectors.sqlite"

# Slots that deletes have left are not in it.
_SCHEMA = """
CREATE TABLE vectors (
    slot INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    picture INTEGER NOT NULL,
    category TEXT
) STRICT;
"""
_INDEX = "CREATE UNIQUE INDEX by_product ON vectors (product_id, picture)"

# Of a unit vector that went through float16.
_TOLERANCE = 1e-3
# Rows that are read or written at once.
BLOCK = 65_536


def are_unit(vectors: np.ndarray) -> np.ndarray:
    """`[n]` bool: which of `[n, dim]` are finite and of length 1."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return np.abs(lengths - 1.0) <= _TOLERANCE  # False for NaN.


def check_vectors(vectors: np.ndarray, num_rows: int, dim: int) -> None:
    """Raises ValueError for what is not `[num_rows, dim]` unit vectors."""
    if vectors.shape != (num_rows, dim) or vectors.dtype != np.float32:
        raise ValueError(
            f"Expected float32 vectors of shape ({num_rows}, {dim}), received "
            f"{vectors.dtype} of shape {vectors.shape}. Embed all pictures by "
            "the model of this index."
        )
    for start in range(0, num_rows, BLOCK):
        good = are_unit(vectors[start : start + BLOCK])
        if not good.all():
            raise ValueError(
                f"Expected finite vectors of length 1, vector "
                f"{start + int(good.argmin())} is none. Keep such pictures "
                "aside (`vector_rows.are_unit`)."
            )


class VectorRows:
    """Rows by slot; any thread may read while one adds.

    Args:
        base: `[n, dim]` float32, often mapped.
    """

    def __init__(self, base: np.ndarray):
        # FAISS takes addresses: plain arrays, rows one after another.
        self._base = np.ascontiguousarray(base).view(np.ndarray)
        self._beside = np.empty((0, self.dim), np.float32)
        self._text = bytearray()
        self._ends = array.array("q")
        self._pictures = array.array("i")
        self._categories = array.array("i")
        self._names: list[str | None] = []
        self._codes: dict[str | None, int] = {}
        # Where every picture is: a slot, or -1 once it is dropped.
        self._slots: dict[str, dict[int, int]] = {}
        self._stored: sqlite3.Connection | None = None
        # 1 for a slot that holds a picture.
        self._live = array.array("b")

    @classmethod
    def open(cls, folder: pathlib.Path) -> "VectorRows":
        """Maps what `write` has written."""
        store = cls(np.load(folder / ROWS, mmap_mode="r"))
        uri = (folder / STORE).resolve().as_uri()
        store._stored = sqlite3.connect(
            f"{uri}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        found = store._stored.execute(
            "SELECT slot, product_id, picture, category FROM vectors "
            "ORDER BY slot"
        )
        for slot, *row in found:
            store._pad(slot)
            store._append_names(contract.VectorRow(*row))
        store._pad(len(store._base))
        return store

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self._base.shape[1]

    @property
    def num_slots(self) -> int:
        """How many slots there are, used or not."""
        return len(self._ends)

    def name(self, rows: Sequence[contract.VectorRow]) -> None:
        """Says what the rows of the base are, all in order."""
        for row in rows:
            self._slots.setdefault(row.product_id, {})[row.picture] = (
                self.num_slots
            )
            self._append_names(row)

    def append(
        self, rows: Sequence[contract.VectorRow], vectors: np.ndarray
    ) -> np.ndarray:
        """Adds rows whose pictures are not there; their slots, `[n]` int64."""
        first = self.num_slots
        used = first - len(self._base)
        if used + len(rows) > len(self._beside):
            larger = np.empty(
                (max(1024, 2 * (used + len(rows))), self.dim), np.float32
            )
            larger[:used] = self._beside[:used]
            self._beside = larger  # Readers may still hold the former.
        self._beside[used : used + len(rows)] = vectors
        for row in rows:
            self._slots_of(row.product_id)[row.picture] = self.num_slots
            self._append_names(row)
        return np.arange(first, self.num_slots, dtype=np.int64)

    def drop(self, row: contract.VectorRow) -> None:
        """Forgets where a picture is; its slot stays empty."""
        pictures = self._slots_of(row.product_id)
        self._live[pictures[row.picture]] = 0
        pictures[row.picture] = -1

    def slots(self, product_id: str) -> dict[int, int]:
        """Slots of a product's pictures, by their places."""
        return {
            picture: slot
            for picture, slot in self._slots_of(product_id).items()
            if slot >= 0
        }

    def row(self, slot: int) -> contract.VectorRow:
        """The picture in a slot."""
        return contract.VectorRow(
            self.product_id(slot),
            self._pictures[slot],
            self._names[self._categories[slot]],
        )

    def product_id(self, slot: int) -> str:
        """The product of the picture in a slot."""
        start = self._ends[slot - 1] if slot else 0
        return self._text[start : self._ends[slot]].decode("utf-8")

    def picture(self, slot: int) -> int:
        """The place of the picture in a slot among those of its product."""
        return self._pictures[slot]

    def vectors(self, slots: np.ndarray) -> np.ndarray:
        """`[n, dim]` float32 of `[n]` slots."""
        num_base = len(self._base)
        found = np.empty((len(slots), self.dim), np.float32)
        in_base = slots < num_base
        found[in_base] = self._base[slots[in_base]]
        found[~in_base] = self._beside[slots[~in_base] - num_base]
        return found

    def similarities(
        self, queries: np.ndarray, slots: np.ndarray
    ) -> np.ndarray:
        """Inner products of `[q, dim]` with `[q, n]` slots; -inf for slot -1.

        FAISS computes them without the interpreter's lock and copies no row.
        """
        num_base = len(self._base)
        found = np.empty(slots.shape, np.float32)
        _inner_products(queries, self._base, slots, num_base, found)
        if num_base < self.num_slots and (slots >= num_base).any():
            beside, later = self._beside, np.empty_like(found)
            _inner_products(
                queries,
                beside,
                np.where(slots >= num_base, slots - num_base, -1),
                len(beside),
                later,
            )
            np.maximum(found, later, out=found)
        return found

    def write(self, folder: pathlib.Path) -> None:
        """Writes vectors and names; slots keep their numbers."""
        with files.replacing(folder / ROWS) as path:
            written = np.lib.format.open_memmap(
                path, "w+", np.float32, (self.num_slots, self.dim)
            )
            num_base = len(self._base)
            for start in range(0, num_base, BLOCK):
                stop = min(start + BLOCK, num_base)
                written[start:stop] = self._base[start:stop]
            written[num_base:] = self._beside[: self.num_slots - num_base]
            written.flush()
        with (
            files.replacing(folder / STORE) as path,
            contextlib.closing(sqlite3.connect(path)) as connection,
        ):
            # The file gets its name when it is complete: no journal.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_SCHEMA)
            connection.executemany(
                "INSERT INTO vectors VALUES (?, ?, ?, ?)",
                (
                    (slot, row.product_id, row.picture, row.category)
                    for slot, row in self._live_rows()
                ),
            )
            connection.execute(_INDEX)
            connection.commit()

    def num_products(self) -> int:
        """How many products have a picture."""
        return len({row.product_id for _, row in self._live_rows()})

    def live_slots(self, category: str | None) -> np.ndarray:
        """`[n]` int64 slots of a category, ascending; None: of all."""
        live = np.array(self._live, bool)
        if category is not None:
            code = self._codes.get(category, -1)
            live &= np.array(self._categories) == code
        return np.flatnonzero(live)

    def _live_rows(self) -> Iterator[tuple[int, contract.VectorRow]]:
        for slot in np.flatnonzero(np.array(self._live)).tolist():
            yield slot, self.row(slot)

    def _slots_of(self, product_id: str) -> dict[int, int]:
        if product_id not in self._slots:
            found: Iterable[tuple[int, int]] = ()
            if self._stored is not None:
                found = self._stored.execute(
                    "SELECT picture, slot FROM vectors WHERE product_id = ?",
                    (product_id,),
                )
            self._slots[product_id] = dict(found)
        return self._slots[product_id]

    def _append_names(self, row: contract.VectorRow) -> None:
        code = self._codes.get(row.category)
        if code is None:
            code = self._codes[row.category] = len(self._names)
            self._names.append(row.category)
        self._text += row.product_id.encode("utf-8")
        self._categories.append(code)
        self._pictures.append(row.picture)
        self._live.append(1)
        self._ends.append(len(self._text))

    def _pad(self, slot: int) -> None:
        """Empty slots up to this one."""
        while self.num_slots < slot:
            self._categories.append(-1)
            self._pictures.append(-1)
            self._live.append(0)
            self._ends.append(len(self._text))


def _inner_products(
    queries: np.ndarray,
    rows: np.ndarray,
    slots: np.ndarray,
    num_rows: int,
    found: np.ndarray,
) -> None:
    slots = np.ascontiguousarray(np.where(slots < num_rows, slots, -1))
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(found),
        faiss.swig_ptr(queries),
        faiss.swig_ptr(rows),
        faiss.swig_ptr(slots),
        rows.shape[1],
        *slots.shape,
    )
