"""What a vector index holds and finds, whichever engine is behind it."""

import dataclasses
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class VectorRow:
    """The picture of a product that a vector is of.

    Attributes:
        picture: its place in the product's list of images.
        category: of the product; None if it has none.
    """

    product_id: str
    picture: int
    category: str | None


@dataclasses.dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        similarity: inner product of the unit vectors, -1 to 1.
    """

    product_id: str
    picture: int
    similarity: float


class VectorSearch(Protocol):
    """Search among unit vectors: FAISS in this process, or a Milvus server.

    Attributes:
        dim: of the vectors.
        num_vectors: how many can be found.
    """

    dim: int
    num_vectors: int

    def add(self, rows: Sequence[VectorRow], vectors: np.ndarray) -> None:
        """Adds pictures; those of the same product and place are replaced.

        Args:
            vectors: `[n, dim]` float32, finite, of length 1.

        Raises:
            ValueError: for another shape, or a vector that is no unit vector.
        """

    def delete(self, product_ids: Iterable[str]) -> int:
        """Takes all pictures of products out; says how many there were."""

    def search(
        self, vectors: np.ndarray, k: int, *, category: str | None = None
    ) -> list[list[Hit]]:
        """The k most similar pictures of each vector, the best first.

        Args:
            vectors: `[n, dim]` float32; one that is zero or not finite finds
                nothing.
            category: only pictures of its products.

        Raises:
            ValueError: for another shape.
        """

    def snapshot(self, folder: pathlib.Path) -> None:
        """Writes all that can be found into a new folder, as one state."""
