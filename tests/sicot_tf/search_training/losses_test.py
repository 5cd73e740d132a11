import numpy as np
import tensorflow as tf

from sicot_tf.search_training import losses


def _unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class TripletLossTest(tf.test.TestCase):
    def test_equals_numpy(self):
        """Breaks if a product that was clicked for a query pushes it away, a
        triplet that pads counts, or weights do not.

        Rows 0 and 1 are one query with clicks on 7 and 8; product 9 is a
        positive of row 2 and a negative of row 0; row 3 pads.
        """
        rng = np.random.default_rng(0)
        queries, positives, negatives = (_unit(rng, 4, 5) for _ in range(3))
        query_ids, positive_ids = [1, 1, 2, 3], [7, 8, 9, 7]
        negative_ids, weights = [9, 7, 8, 5], np.array([2.0, 1.0, 0.5, 0.0])
        margin, temperature = 0.2, 0.1
        expected, first = 0.0, 0.0
        for row in range(4):
            clicked = {
                product
                for query, product in zip(query_ids, positive_ids)
                if query == query_ids[row]
            }
            own = queries[row] @ positives[row]
            total, hardest = 1.0, -1.0
            for ids, products in (
                (positive_ids, positives),
                (negative_ids, negatives),
            ):
                for other in range(3):
                    if ids[other] in clicked:
                        continue
                    similarity = queries[row] @ products[other]
                    total += np.exp((margin + similarity - own) / temperature)
                    hardest = max(hardest, similarity)
            expected += weights[row] * temperature * np.log(total)
            first += weights[row] * (own > hardest)
        loss, found_first = losses.triplet_loss(
            *(queries, positives, negatives),
            query_ids=tf.constant(query_ids),
            positive_ids=tf.constant(positive_ids),
            negative_ids=tf.constant(negative_ids),
            weights=tf.constant(weights, tf.float32),
            margin=margin,
            temperature=temperature,
        )
        self.assertAllClose(loss, expected / 3.5, atol=1e-5)
        self.assertAllClose(found_first, first / 3.5)

    def test_cold_it_is_the_hardest_triplets_hinge(self):
        """Breaks if the temperature changes more than softness:
        max(0, margin + 0.6 - 0.8)."""
        query = tf.constant([[1.0, 0.0]])
        loss, _ = losses.triplet_loss(
            query,
            tf.constant([[0.8, 0.6]]),
            tf.constant([[0.6, 0.8]]),
            query_ids=tf.constant([1]),
            positive_ids=tf.constant([1]),
            negative_ids=tf.constant([2]),
            weights=tf.constant([3.0]),
            margin=0.3,
            temperature=0.001,
        )
        self.assertAllClose(loss, 0.1, atol=1e-3)
