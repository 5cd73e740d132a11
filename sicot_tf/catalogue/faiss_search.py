"""Search in this process: one FAISS index over all, one a category beside it.

A change makes new indexes beside those that are searched and swaps them in
one step: searching threads never wait, and see all of a change or nothing.
"""

import pathlib
import tempfile
import threading
from collections.abc import Iterable
from collections.abc import Sequence

import faiss
import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import slot_index
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vectors as contract

SEARCH = "search.json"
ALL = "all.faiss"
_ROTATION = "rotation.faiss"


class FaissSearch:
    """A `vectors.VectorSearch`, for any number of threads.

    Args:
        dim: of the vectors.
        recall: at 60 results, that large indexes are tuned to.
        flat_below: indexes of fewer rows are exact.
    """

    def __init__(
        self,
        dim: int,
        *,
        recall: float = 0.99,
        seed: int = 0,
        flat_below: int = slot_index.FLAT_BELOW,
    ):
        self._recall = recall
        self._seed = seed
        self._flat_below = flat_below
        self._rotation = faiss.RandomRotationMatrix(dim, dim)
        self._rotation.init(seed % 2**31)
        self._rows = vector_rows.VectorRows(np.empty((0, dim), np.float32))
        # By category; None is over all. Replaced as a whole, never changed.
        self._indexes = {None: self._empty()}
        self._writing = threading.Lock()

    @classmethod
    def built(
        cls,
        rows: Sequence[contract.VectorRow],
        vectors: np.ndarray,
        *,
        recall: float = 0.99,
        seed: int = 0,
        flat_below: int = slot_index.FLAT_BELOW,
    ) -> "FaissSearch":
        """Trains all indexes on `[n, dim]` unit vectors, which are not copied.

        Raises:
            ValueError: for another shape, a vector that is no unit vector, or
                the same picture twice.
        """
        vector_rows.check_vectors(vectors, len(rows), vectors.shape[-1])
        last = {(row.product_id, row.picture): row for row in rows}
        if len(last) < len(rows):
            raise ValueError(
                f"Expected every picture once, received {len(rows):,} rows of "
                f"{len(last):,} pictures. Keep one of each."
            )
        search = cls(
            vectors.shape[1], recall=recall, seed=seed, flat_below=flat_below
        )
        search._rows = vector_rows.VectorRows(vectors)
        search._rows.name(rows)
        search.train(None)
        for category in sorted({row.category for row in rows} - {None}):
            search.train(category)
        return search

    @classmethod
    def open(cls, folder: pathlib.Path) -> "FaissSearch":
        """Opens what `snapshot` or `write` has written."""
        saved = files.read_json(folder / SEARCH)
        search = cls(
            saved["dim"],
            recall=saved["recall"],
            seed=saved["seed"],
            flat_below=saved["flat_below"],
        )
        search._rotation = faiss.read_VectorTransform(str(folder / _ROTATION))
        search._rows = vector_rows.VectorRows.open(folder)
        for one in saved["indexes"]:
            category, name = one["category"], one["file"]
            if name is None:
                index = slot_index.SlotIndex(
                    search._rotation, slots=search.slots(category)
                )
            else:
                index = slot_index.SlotIndex.read(
                    folder / name, search._rotation, one["parameters"]
                )
            search._indexes[category] = index
        return search

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self._rows.dim

    @property
    def num_vectors(self) -> int:
        """How many can be found."""
        return self._indexes[None].num_vectors

    @property
    def rows(self) -> vector_rows.VectorRows:
        """What is behind the indexes."""
        return self._rows

    @property
    def indexes(self) -> dict[str | None, slot_index.SlotIndex]:
        """By category, None for all; a copy."""
        return dict(self._indexes)

    def add(
        self, rows: Sequence[contract.VectorRow], vectors: np.ndarray
    ) -> None:
        """Adds pictures; those of the same product and place are replaced.

        Args:
            vectors: `[n, dim]` float32, finite, of length 1.

        Raises:
            ValueError: for another shape, or a vector that is no unit vector.
        """
        self.change((), rows, vectors)

    def delete(self, product_ids: Iterable[str]) -> int:
        """Takes all pictures of products out; says how many there were."""
        none = np.empty((0, self.dim), np.float32)
        return self.change(product_ids, (), none)

    def _empty(self) -> slot_index.SlotIndex:
        return slot_index.SlotIndex(self._rotation, slots=np.empty(0, np.int64))

    def change(
        self,
        removed: Iterable[str],
        rows: Sequence[contract.VectorRow],
        vectors: np.ndarray,
    ) -> int:
        """Deletes products, then adds pictures, in one step for readers.

        Returns:
            How many pictures of `removed` there were.

        Raises:
            ValueError: as `add`, and then nothing has changed.
        """
        vector_rows.check_vectors(vectors, len(rows), self.dim)
        # Of the same picture twice, the last counts.
        last = {(row.product_id, row.picture): n for n, row in enumerate(rows)}
        kept = sorted(last.values())
        rows, vectors = [rows[n] for n in kept], vectors[kept]
        with self._writing:
            gone = {
                slot
                for product_id in removed
                for slot in self._rows.slots(product_id).values()
            }
            num_removed = len(gone)
            for product_id, picture in last:
                slot = self._rows.slots(product_id).get(picture)
                if slot is not None:
                    gone.add(slot)
            if gone or rows:
                self._swap(sorted(gone), rows, vectors)
        return num_removed

    def _swap(
        self,
        gone: Sequence[int],
        rows: Sequence[contract.VectorRow],
        vectors: np.ndarray,
    ) -> None:
        removed: dict[str | None, list[int]] = {None: list(gone)}
        for slot in gone:
            row = self._rows.row(slot)
            self._rows.drop(row)
            removed.setdefault(row.category, [])
            if row.category is not None:
                removed[row.category].append(slot)
        slots = self._rows.append(rows, vectors)
        added: dict[str | None, list[int]] = {None: slots.tolist()}
        for slot, row in zip(slots.tolist(), rows, strict=True):
            if row.category is not None:
                added.setdefault(row.category, []).append(slot)
        indexes = dict(self._indexes)
        for category in [*removed, *(c for c in added if c not in removed)]:
            index = indexes.get(category)
            if index is None:
                index = self._empty()
            changed = index.changed(
                self._rows,
                removed=np.array(removed.get(category, ()), np.int64),
                added=np.array(added.get(category, ()), np.int64),
            )
            indexes[category] = changed
            if not changed.num_vectors and category is not None:
                del indexes[category]
        self._indexes = indexes

    def search(
        self, vectors: np.ndarray, k: int, *, category: str | None = None
    ) -> list[list[contract.Hit]]:
        """The k most similar pictures of each vector, the best first.

        Args:
            vectors: `[n, dim]` float32; one that is zero or not finite finds
                nothing.
            category: only pictures of its products.

        Raises:
            ValueError: for another shape.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(
                f"Expected vectors of shape (n, {self.dim}), received "
                f"{vectors.shape}. Embed queries by the model of this index."
            )
        if k < 0:
            raise ValueError(f"Expected k of 0 or more, received {k}.")
        # One request, one thread: more would get in each other's way. FAISS
        # keeps the number by calling thread, so each call sets it.
        faiss.omp_set_num_threads(1)
        found: list[list[contract.Hit]] = [[] for _ in vectors]
        index = self._indexes.get(category)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            unit = vectors / lengths
        good = np.flatnonzero(np.isfinite(unit).all(axis=1))
        if index is None or not len(good):
            return found
        similarities, slots = index.search(
            self._rows, np.ascontiguousarray(unit[good]), k
        )
        for query, similar, near in zip(
            good.tolist(), similarities.tolist(), slots.tolist(), strict=True
        ):
            found[query] = [
                contract.Hit(
                    self._rows.product_id(slot),
                    self._rows.picture(slot),
                    min(1.0, max(-1.0, similarity)),
                )
                for similarity, slot in zip(similar, near, strict=True)
                if slot >= 0
            ]
        return found

    def train(self, category: str | None) -> None:
        """Builds and tunes the index of a category (None: over all) anew."""
        with self._writing:
            slots = self.slots(category)
            index = slot_index.SlotIndex.built(
                self._rows,
                slots,
                self._rotation,
                recall=self._recall,
                seed=self._seed,
                flat_below=self._flat_below,
            )
            self._indexes = self._indexes | {category: index}

    def slots(self, category: str | None) -> np.ndarray:
        """`[n]` int64 slots of a category; None: of all."""
        return self._rows.live_slots(category)

    def why_to_train(
        self, category: str | None, *, growth: float, lost_recall: float
    ) -> str | None:
        """Why an index is worth training again; None if it is not.

        Args:
            growth: rows now to rows when it was trained.
            lost_recall: since then, or under what was wanted.
        """
        index, slots = self._indexes[category], self.slots(category)
        if not index.nlist:
            is_large = len(slots) >= self._flat_below
            return (
                f"{len(slots):,} rows are too many to scan" * is_large or None
            )
        if len(slots) >= growth * index.trained_on:
            return f"{index.trained_on:,} rows became {len(slots):,}"
        recall = index.measured_recall(self._rows, slots, self._seed)
        if recall < min(self._recall, index.recall_at_60) - lost_recall:
            return f"recall@60 fell from {index.recall_at_60} to {recall:.4f}"
        return None

    def compacted(self) -> "FaissSearch":
        """Another one, built from what can be found; its rows in memory."""
        slots = self.slots(None)
        return FaissSearch.built(
            [self._rows.row(slot) for slot in slots.tolist()],
            self._rows.vectors(slots),
            recall=self._recall,
            seed=self._seed,
            flat_below=self._flat_below,
        )

    def snapshot(self, folder: pathlib.Path) -> None:
        """Writes all that can be found into a new folder, as one state.

        A kill leaves no such folder, but `.<name>-<id>` beside it.

        Raises:
            ValueError: if the folder is there.
        """
        if folder.exists():
            raise ValueError(
                f"Expected a new folder, {folder} is there. Name another one."
            )
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent
        ) as work:
            # Unlike the temporary folder, readable by others.
            finished = pathlib.Path(work) / "snapshot"
            finished.mkdir()
            self.write(finished)
            files.rename_folder(finished, folder)

    def write(self, folder: pathlib.Path) -> None:
        """Writes the files of a snapshot into a folder that is there."""
        with self._writing:
            self._rows.write(folder)
            with files.replacing(folder / _ROTATION) as path:
                faiss.write_VectorTransform(self._rotation, str(path))
            described = []
            named = sorted(c for c in self._indexes if c is not None)
            for number, category in enumerate([None, *named]):
                index = self._indexes[category]
                name = None  # Small ones are a list of slots.
                if index.nlist:
                    name = f"category-{number:04d}.faiss" if number else ALL
                    index.write(folder / name)
                described.append(
                    {
                        "category": category,
                        "file": name,
                        "num_vectors": index.num_vectors,
                        "parameters": index.parameters,
                    }
                )
            # The last: who finds it finds all.
            files.write_json(
                folder / SEARCH,
                {
                    "dim": self.dim,
                    "recall": self._recall,
                    "seed": self._seed,
                    "flat_below": self._flat_below,
                    "indexes": described,
                },
            )
