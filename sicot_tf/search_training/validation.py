"""How often a query of the validation clicks finds what was clicked."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.search_training import triplets
from sicot_tf.workers.collectives import Collectives

Limit = Callable[[], AbstractContextManager]


class Validation:
    """Recall@1 of validation queries among the products clicked there.

    Args:
        search: the network.
        files: the validation triplets.
    """

    def __init__(
        self,
        search: keras.Model,
        files: triplets.TripletFiles,
        *,
        batch_size: int,
        max_triplets: int,
        collectives: Collectives,
    ):
        size = search.input["image"].shape[1]
        self._pictures, self._queries, self._products = triplets.plain_pictures(
            files, size, max_triplets
        )
        self._batch_size = batch_size
        self._dim = search.output["embedding"].shape[-1]
        self._collectives = collectives
        self._embed = tf.function(
            lambda pictures: search(pictures, training=False)["embedding"],
            autograph=False,
            reduce_retracing=True,
        )

    def recall(self, limit: Limit) -> float:
        """The share of queries; the same number on all workers.

        Args:
            limit: of the time of a batch, and of a sum over the workers.
        """
        shares = self._collectives.num_workers
        index = self._collectives.worker_index
        own = self._pictures.shard(shares, index).batch(self._batch_size)
        rows = []
        for batch in own:
            with limit():
                rows.append(self._embed(batch).numpy())
        embeddings = np.zeros([2 * len(self._queries), self._dim], np.float32)
        if rows:
            embeddings[index::shares] = np.concatenate(rows)
        with limit():
            embeddings = self._collectives.sum_now(embeddings)
        queries, products = np.split(embeddings, 2)
        return recall_at_1(queries, products, self._queries, self._products)


def recall_at_1(
    queries: np.ndarray,
    products: np.ndarray,
    query_ids: np.ndarray,
    product_ids: np.ndarray,
) -> float:
    """Of distinct queries, whose nearest product is one clicked there.

    Args:
        queries, products: `[triplets, dim]` of length 1.
        query_ids, product_ids: `[triplets]`.
    """
    clicked = set(zip(query_ids, product_ids))
    _, own_queries = np.unique(query_ids, return_index=True)
    _, own_products = np.unique(product_ids, return_index=True)
    best = np.argmax(queries[own_queries] @ products[own_products].T, axis=1)
    return float(
        np.mean(
            [
                (query_ids[query], product_ids[own_products[place]]) in clicked
                for query, place in zip(own_queries, best)
            ]
        )
    )
