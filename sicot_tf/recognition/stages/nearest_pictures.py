"""The catalogue pictures that look most like a photo, by their embeddings.

Exact search (FAISS `IndexFlatL2`, Douze et al., arXiv:2401.08281) over what
`beam_jobs.build_product_index --saved_model` wrote. Needs no TensorFlow.
"""

import contextlib
import dataclasses
import pathlib

import faiss
import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

# Pictures, or products, that are read at once.
_CHUNK = 4096
_NO_CATEGORY = -1


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A catalogue picture that was found.

    Attributes:
        category: of its product; None if the catalogue gave none.
        picture: its place in the product's list of images.
        distance: squared distance of the unit embeddings, 0 to 4.
    """

    product_id: str
    sku_id: str
    category: str | None
    picture: int
    distance: float


class NearestPictures:
    """Search in one generation, by any number of threads at once.

    In memory a picture takes 4 * dim + 8 bytes (5,128 at dim 1,280), its
    product 36 more, and ids of more than 15 bytes of UTF-8 their length.

    Args:
        generation: the folder of one generation of the product index, or of
            all (`LATEST` is taken).

    Attributes:
        num_pictures: how many can be found; 0 without embeddings.
        num_left_out: pictures whose embedding is zero or not finite.

    Raises:
        ValueError: if there is no index, or array and table do not agree.
    """

    def __init__(self, generation: pathlib.Path):
        folder = generations.resolve_generation(generation)
        self.num_pictures = 0
        self.num_left_out = 0
        self._index = faiss.IndexFlatL2(0)
        self._closed = False
        path = folder / product_index.EMBEDDINGS
        if not path.is_file():
            return
        embeddings = np.load(path, mmap_mode="r")
        self._read_places(folder, len(embeddings))
        self._add(embeddings)

    def search(self, embeddings: np.ndarray, k: int) -> list[list[Neighbour]]:
        """The k nearest pictures of each embedding, or all if there are fewer.

        Args:
            embeddings: `[n, dim]` float32 of any length; one that is zero or
                not finite has no neighbours.
            k: 1 or more.

        Returns:
            A list for each of them, the nearest first.

        Raises:
            ValueError: for another shape, or after `close`.
        """
        index = self._index
        if self._closed:
            raise ValueError("The pictures are closed. Open them again.")
        if k < 1:
            raise ValueError(f"Expected k of 1 or more, received {k}.")
        if not index.ntotal:
            return [[] for _ in embeddings]
        if embeddings.ndim != 2 or embeddings.shape[1] != index.d:
            raise ValueError(
                f"Expected embeddings of shape [n, {index.d}], received "
                f"{list(embeddings.shape)}. Build the index with the "
                "--saved_model that is served."
            )
        units, usable = _normalise(embeddings)
        k = min(k, index.ntotal)
        found = [[] for _ in embeddings]
        # One by one: FAISS then stays on the thread that asks (its number of
        # threads is one for the process), and what is found does not depend
        # on the company, as it does in its matrix products.
        for place in np.flatnonzero(usable):
            distances, rows = index.search(units[place, np.newaxis], k)
            found[place] = [
                self._neighbour(row, distance)
                for row, distance in zip(rows[0], distances[0])
            ]
        return found

    def close(self) -> None:
        """Gives the memory back; searches under way still finish."""
        self._closed = True
        self._index = None

    def __enter__(self) -> "NearestPictures":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_places(self, folder: pathlib.Path, num_rows: int) -> None:
        """Product and picture of each row, and the products' ids."""
        with contextlib.closing(product_index.connect(folder)) as store:
            (num_products,) = store.execute(
                "SELECT count(*) FROM products"
            ).fetchone()
            self._product_ids = np.empty(num_products, np.dtypes.StringDType())
            self._sku_ids = np.empty(num_products, np.dtypes.StringDType())
            self._category_codes = np.empty(num_products, np.int32)
            codes = {None: _NO_CATEGORY}
            rows = store.execute(
                "SELECT product_id, sku_id, category FROM products ORDER BY row"
            )
            start = 0
            while chunk := rows.fetchmany(_CHUNK):
                part = slice(start, start + len(chunk))
                start = part.stop
                product_ids, sku_ids, categories = zip(*chunk)
                self._product_ids[part] = product_ids
                self._sku_ids[part] = sku_ids
                self._category_codes[part] = [
                    codes.setdefault(each, len(codes) - 1)
                    for each in categories
                ]
            del codes[None]
            self._categories = list(codes)
            # Rows of products count from 1.
            places = np.fromiter(
                store.execute(
                    "SELECT product - 1, picture FROM embeddings ORDER BY row"
                ),
                np.dtype((np.int32, 2)),
            )
        if len(places) != num_rows:
            raise ValueError(
                f"Expected {len(places)} rows in {product_index.EMBEDDINGS} of "
                f"{folder}, as its table says, received {num_rows}. Build the "
                "index again."
            )
        self._places = places

    def _add(self, embeddings: np.ndarray) -> None:
        """Fills the search, chunk by chunk."""
        index = faiss.IndexFlatL2(embeddings.shape[1])
        kept = np.zeros(len(embeddings), bool)
        for start in range(0, len(embeddings), _CHUNK):
            part = slice(start, start + _CHUNK)
            units, kept[part] = _normalise(embeddings[part])
            index.add(units[kept[part]])
        self._places = self._places[kept]
        self._index = index
        self.num_pictures = index.ntotal
        self.num_left_out = len(kept) - index.ntotal

    def _neighbour(self, row: int, distance: float) -> Neighbour:
        product, picture = self._places[row]
        code = self._category_codes[product]
        return Neighbour(
            product_id=self._product_ids[product],
            sku_id=self._sku_ids[product],
            category=None if code == _NO_CATEGORY else self._categories[code],
            picture=int(picture),
            # Rounding may leave the range.
            distance=min(max(float(distance), 0.0), 4.0),
        )


def _normalise(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1, and which of them have a length to divide by.

    Args:
        embeddings: `[n, dim]`.

    Returns:
        `[n, dim]` float32 and `[n]` bool.
    """
    # Squares of large numbers leave float32.
    lengths = np.linalg.norm(np.asarray(embeddings, np.float64), axis=1)
    usable = np.isfinite(lengths) & (lengths > 0)
    lengths = np.where(usable, lengths, 1.0)
    return np.float32(embeddings / lengths[:, np.newaxis]), usable
