"""A generation of the vector index: how it is built, and how it is searched.

`<folder>/<generation>/` holds rows, their names and the FAISS indexes, with
a `manifest.json`; beside the generations lies `updates.sqlite`.
"""

import logging
import pathlib
import threading
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import faiss_search
from sicot_tf.catalogue import folded_products
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue import vectors as contract
from sicot_tf.data import generations

# Raise it when today's readers can't read the new form.
FORMAT_VERSION = 1

# A delta trains an index again once it has so many times the rows it was
# trained on, or has lost so much of its recall.
_GROWTH = 2.0
_LOST_RECALL = 0.005
# Updates that become one change of the indexes.
_BATCH = 2_000

_log = logging.getLogger(__name__)


def build(
    folder: pathlib.Path,
    rows: Sequence[contract.VectorRow],
    vectors: np.ndarray,
    *,
    recall: float = 0.99,
    seed: int = 0,
) -> dict[str, Any]:
    """Trains the indexes and writes their files into a folder that is there.

    Args:
        rows: what the vectors are of; every picture once.
        vectors: `[n, dim]` float32 unit vectors, which may be mapped.
        recall: at 60 results, to which lists and candidates are chosen.

    Returns:
        For the manifest: `dim`, `num_vectors`, `num_products`, `categories`,
        `parameters` of each index, and `trained`: which were, and why.

    Raises:
        ValueError: for another shape, a vector that is no unit vector, or the
            same picture twice.
    """
    search = faiss_search.FaissSearch.built(
        rows, vectors, recall=recall, seed=seed
    )
    trained = {_name(category): "new" for category in search.indexes}
    return _written(search, folder, trained)


def build_from(
    folder: pathlib.Path,
    base_generation: pathlib.Path,
    *,
    removed: Iterable[str],
    rows: Sequence[contract.VectorRow],
    vectors: np.ndarray,
) -> dict[str, Any]:
    """Writes the indexes of another generation with some changes.

    Untouched pictures keep their slots and codes; nothing is trained, unless
    an index has grown to twice what it was trained on or finds less than it
    did, which `trained` tells. Slots of removed pictures stay empty until
    more are empty than used; then all is built anew.

    Args:
        removed: ids of products that go with all their pictures.
        rows: pictures that come, or replace the same one.
        vectors: `[n, dim]` float32 unit vectors.

    Returns:
        As `build`.

    Raises:
        ValueError: as `build`, or if there is no such generation.
    """
    search = faiss_search.FaissSearch.open(base_generation)
    search.change(removed, rows, vectors)
    if search.rows.num_slots > 2 * max(1, search.num_vectors):
        search = search.compacted()
        why = "more slots were empty than used"
        return _written(search, folder, {_name(c): why for c in search.indexes})
    trained = {}
    for category in search.indexes:
        why = search.why_to_train(
            category, growth=_GROWTH, lost_recall=_LOST_RECALL
        )
        if why:
            _log.info("Train %s again: %s.", _name(category), why)
            search.train(category)
            trained[_name(category)] = why
    return _written(search, folder, trained)


def _written(
    search: faiss_search.FaissSearch,
    folder: pathlib.Path,
    trained: dict[str, str],
) -> dict[str, Any]:
    search.write(folder)
    indexes = search.indexes
    return {
        "dim": search.dim,
        "num_vectors": search.num_vectors,
        "num_products": search.rows.num_products(),
        "categories": sorted(c for c in indexes if c is not None),
        "parameters": {
            _name(category): index.parameters
            for category, index in indexes.items()
        },
        "trained": trained,
    }


def _name(category: str | None) -> str:
    return "all" if category is None else f"category {category}"


class VectorIndex:
    """A generation with the live changes, open for any number of threads.

    Args:
        generation: its folder, or the folder of all (`LATEST` is taken).

    Raises:
        ValueError: if there is none, or one of another version.
    """

    def __init__(self, generation: pathlib.Path):
        folder = generations.resolve_generation(generation).resolve()
        manifest = files.read_json(folder / generations.MANIFEST)
        version = manifest.get("format_version")
        if version != FORMAT_VERSION or "folded_updates" not in manifest:
            raise ValueError(
                f"Expected a vector index of version {FORMAT_VERSION} in "
                f"{folder}, found version {version}. Build it again by "
                "beam_jobs.build_vector_index."
            )
        for name, described in manifest.get("files", {}).items():
            generations.check_size(folder / name, described["bytes"])
        self.generation: str = folder.name
        self.signature: str = manifest["signature"]
        self.saved_model_sha256: str = manifest["saved_model_sha256"]
        self._search = faiss_search.FaissSearch.open(folder)
        self._root = folder.parent
        self._applied: int = manifest["folded_updates"]
        self._updates: vector_updates.VectorUpdates | None = None
        # What its vectors show and the product index may not know.
        self._changed = folded_products.read(folder)
        self._applying = threading.Lock()
        self.num_of_other_models = 0

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self._search.dim

    @property
    def num_vectors(self) -> int:
        """How many can be found, with the changes taken so far."""
        return self._search.num_vectors

    def search(
        self, vectors: np.ndarray, k: int, *, category: str | None = None
    ) -> list[list[contract.Hit]]:
        """The k most similar pictures of each vector, the best first.

        As `vectors.VectorSearch.search`.
        """
        return self._search.search(vectors, k, category=category)

    def apply_updates(self) -> int:
        """Takes the changes that came since; says how many.

        Searches go on meanwhile and see each change as a whole. Pictures that
        another model has embedded can't be compared: the product as it is now
        is taken, its vectors stay, and `num_of_other_models` counts it.
        """
        with self._applying:
            if self._updates is None:
                if not (self._root / vector_updates.UPDATES).exists():
                    return 0
                self._updates = vector_updates.VectorUpdates(self._root)
            num_applied = 0
            batch: list[vector_updates.Update] = []
            for update in self._updates.since(self._applied):
                batch.append(update)
                if len(batch) == _BATCH:
                    num_applied += self._apply(batch)
                    batch = []
            return num_applied + (self._apply(batch) if batch else 0)

    def _apply(self, batch: list[vector_updates.Update]) -> int:
        newest: dict[str, vector_updates.Update] = {}
        for update in batch:
            if update.product is None or self._is_ours(update):
                newest[update.product_id] = update
        rows, vectors = [], [np.empty((0, self.dim), np.float32)]
        for product_id, update in newest.items():
            if update.product is not None:
                rows += [
                    contract.VectorRow(
                        product_id, picture, update.product.category
                    )
                    for picture in range(len(update.vectors))
                ]
                vectors.append(update.vectors)
        # Products first: what is found must be known.
        self._changed |= {update.product_id: update.product for update in batch}
        self._search.change(newest, rows, np.concatenate(vectors))
        self._applied = batch[-1].sequence
        return len(batch)

    def _is_ours(self, update: vector_updates.Update) -> bool:
        if update.saved_model_sha256 == self.saved_model_sha256 and (
            update.vectors.shape[1] == self.dim or not len(update.vectors)
        ):
            return True
        self.num_of_other_models += 1
        _log.warning(
            "Update %d of %s is by another model than the index: its vectors "
            "wait for the next build.",
            update.sequence,
            update.product_id,
        )
        return False

    def product(
        self, product_id: str
    ) -> tuple[bool, product_index.Product | None]:
        """Whether an update has changed a product, and what it is now.

        Returns:
            (False, None): ask the product index. (True, None): it is deleted.
        """
        changed = self._changed
        if product_id in changed:
            return True, changed[product_id]
        return False, None

    def picture(self, product_id: str, place: int) -> bytes | None:
        """A picture that came with the newest update of a product, encoded.

        Args:
            place: in the product's list of images.
        """
        if self._updates is None:
            return None
        update = self._updates.find(product_id)
        if update is None or update.product is None:
            return None
        pictures = self._updates.pictures(update.sequence)
        return pictures[place] if 0 <= place < len(pictures) else None

    def close(self) -> None:
        """Closes the file of updates; searches under way still finish."""
        with self._applying:
            if self._updates is not None:
                self._updates.close()
                self._updates = None

    def __enter__(self) -> "VectorIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
