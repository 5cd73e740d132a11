"""How similar shown products are to query pictures, as the search sees it."""

import collections
import contextlib
import pathlib
import sqlite3
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

from sicot_tf import files
from sicot_tf import progress
from sicot_tf.catalogue import product_index
from sicot_tf.data import clicks
from sicot_tf.data import generations

_ROWS = "rows.npy"
_STORE = "vectors.sqlite"
# Query pictures that the model takes at once.
_BATCH = 32


def of_log(pages: Sequence[clicks.Page]) -> list[np.ndarray] | None:
    """The similarities that the log itself has; None if a page has none."""
    if not all(page.similarities for page in pages):
        return None
    return [np.array(page.similarities, np.float32) for page in pages]


class Similarities:
    """Vectors of products, and the model that embeds queries beside them.

    Args:
        vector_index: a generation, or the folder of all.
        saved_model: the version whose embeddings the index holds.

    Raises:
        ValueError: if the two do not belong together.
    """

    def __init__(self, vector_index: pathlib.Path, saved_model: pathlib.Path):
        self.generation = generations.resolve_generation(vector_index)
        manifest = files.read_json(self.generation / generations.MANIFEST)
        self.saved_model_sha256 = product_index.embedding_model_sha256(
            saved_model
        )
        if manifest.get("saved_model_sha256") != self.saved_model_sha256:
            raise ValueError(
                f"The vectors of {self.generation} were made by another model "
                f"than {saved_model}. Name the version they were built with, "
                "or build them again with python -m "
                "beam_jobs.build_vector_index."
            )
        self._signature = manifest["signature"]
        self._saved_model = saved_model
        self._rows = np.load(self.generation / _ROWS, mmap_mode="r")
        self.unreadable: collections.Counter[str] = collections.Counter()

    def of_pages(self, pages: Sequence[clicks.Page]) -> list[np.ndarray]:
        """`[len(shown)]` float32 of each page: that of the nearest picture.

        NaN for a product without vector, and on all the page for a query
        picture that can't be used; `unreadable` counts those by reason.
        """
        slots = self._slots({each for page in pages for each in page.shown})
        queries = self._embed(sorted({page.image for page in pages}))
        found = []
        for page in pages:
            similar = np.full(len(page.shown), np.nan, np.float32)
            query = queries.get(page.image)
            for place, product_id in enumerate(page.shown):
                if query is not None and product_id in slots:
                    own = self._rows[slots[product_id]]
                    similar[place] = (own @ query).max()
            found.append(similar)
        return found

    def _slots(self, wanted: Iterable[str]) -> dict[str, list[int]]:
        uri = (self.generation / _STORE).resolve().as_uri()
        found = {}
        with contextlib.closing(
            sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
        ) as store:
            for product_id in sorted(wanted):
                rows = store.execute(
                    "SELECT slot FROM vectors WHERE product_id = ?",
                    (product_id,),
                ).fetchall()
                if rows:
                    found[product_id] = [slot for (slot,) in rows]
        return found

    def _embed(self, images: Sequence[str]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        model = tf.saved_model.load(str(self._saved_model))
        signature = model.signatures[self._signature]
        # Kept: a signature dies with its model.
        found = {}
        with progress.bar(
            description="Query pictures", unit="pictures", total=len(images)
        ) as bar:
            for first in range(0, len(images), _BATCH):
                batch = {}
                for image in images[first : first + _BATCH]:
                    try:
                        batch[image] = pathlib.Path(image).read_bytes()
                    except (OSError, ValueError):
                        self.unreadable["missing_image"] += 1
                found |= self._embed_batch(signature, batch)
                bar.update(min(_BATCH, len(images) - first))
        return found

    def _embed_batch(
        self, signature: object, batch: dict[str, bytes]
    ) -> dict[str, np.ndarray]:
        import tensorflow as tf

        if not batch:
            return {}
        try:
            vectors = signature(image_bytes=tf.constant([*batch.values()]))[
                "embedding"
            ].numpy()
        except tf.errors.InvalidArgumentError:
            if len(batch) == 1:
                self.unreadable["decode_error"] += 1
                return {}
            # Find the damaged one.
            vectors = None
        if vectors is None:
            found = {}
            for image, data in batch.items():
                found |= self._embed_batch(signature, {image: data})
            return found
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.maximum(lengths, 1e-12)
        return dict(zip(batch, vectors, strict=True))
