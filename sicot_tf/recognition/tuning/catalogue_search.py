"""The nearest catalogue pictures as the service finds them, for tuning."""

import contextlib
import pathlib
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.recognition import model_server
from sicot_tf.recognition import nearest_products
from sicot_tf.recognition import wishes
from sicot_tf.recognition.releases import search_check
from sicot_tf.recognition.search import query_token
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.tuning import asked_model
from sicot_tf.recognition.tuning import search_choice


class CatalogueSearch:
    """Search in a vector index or, without one, in a product index.

    Args:
        vectors: a vector index or one generation of it.

    Attributes:
        num_pictures: how many can be found.

    Raises:
        ValueError: if it is no index, or one of another model.
    """

    def __init__(
        self,
        model: asked_model.AskedModel,
        index_generation: pathlib.Path,
        vectors: pathlib.Path | None,
    ):
        self._model = model
        with contextlib.ExitStack() as opened:
            self._vectors = self._pictures = None
            if vectors is None:
                self._pictures = opened.enter_context(
                    nearest_pictures.NearestPictures(index_generation)
                )
                self.num_pictures = self._pictures.num_pictures
            else:
                self._vectors = opened.enter_context(
                    vector_index.VectorIndex(vectors)
                )
                self.num_pictures = self._vectors.num_vectors
                mismatch = search_check.find_mismatch(
                    vectors, model.folder, index_generation
                )
                if mismatch:
                    raise ValueError(mismatch)
            index = opened.enter_context(
                product_index.ProductIndex(index_generation)
            )
            self._products = nearest_products.Products(index, self._vectors)
            self._opened = opened.pop_all()

    def queries(
        self,
        images: Sequence[pathlib.Path],
        recognised: Sequence[asked_model.Recognised | None],
    ) -> list[np.ndarray | None]:
        """`[dim]` of each picture, as the service looks for it.

        None where there is nothing to look for.
        """
        if self._vectors and self._vectors.signature == model_server.SEARCH:
            found = self._model.embed(images)
        else:
            found = [each and each.embedding for each in recognised]
        return [query_token.direction(each) for each in found]

    def neighbours(
        self, query: np.ndarray | None, k: int
    ) -> list[nearest_pictures.Neighbour]:
        """Pictures that vote, the nearest first."""
        if query is None:
            return []
        if self._pictures is not None:
            return self._pictures.search(query[np.newaxis], k)[0]
        hits = nearest_products.search(self._vectors, query, k)
        return nearest_products.neighbours_of(hits, self._products)

    def ranks(
        self, query: np.ndarray | None, category: str | None, sku_id: str
    ) -> search_choice.Ranks:
        """Where the true SKU stands among the results; needs a vector index."""
        if query is None:
            return search_choice.Ranks(None, None)
        k = nearest_products.num_pictures(wishes.Results())
        everywhere = nearest_products.search(self._vectors, query, k)
        narrowed = everywhere
        if category is not None:
            narrowed = nearest_products.in_category(
                everywhere,
                nearest_products.search(self._vectors, query, k, category),
            )
        return search_choice.Ranks(
            *(
                next(
                    (
                        rank
                        for rank, each in enumerate(
                            nearest_products.products_of(hits, self._products)
                        )
                        if each.product.sku_id == sku_id
                    ),
                    None,
                )
                for hits in (everywhere, narrowed)
            )
        )

    def __enter__(self) -> "CatalogueSearch":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
