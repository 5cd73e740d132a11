"""The word vectors that a run starts from."""

import dataclasses

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.training import restoring


class LoadWordVectorsTest(tf.test.TestCase):
    def test_word_vectors_are_scaled(self):
        """Breaks if word2vec's small numbers start the attention at uniform.

        Rows (3, 4, 0...) have mean square 25 / 6; scaled it is 1.
        """
        streams = sicot.build_streams(
            dataclasses.replace(
                config.ModelConfig(),
                backbone="SmallCNN",
                backbone_weights="none",
                image_size=16,
                max_words=4,
            ),
            vocabulary_size=9,
            word_vector_dim=6,
        )
        vectors = np.zeros([10, 6], np.float32)
        vectors[1:, :2] = [3.0, 4.0]
        restoring.load_word_vectors(streams, vectors)
        found = streams.get_layer("word_vectors").embeddings.numpy()
        self.assertAllClose(np.mean(found[1:] ** 2), 1.0)
        self.assertAllClose(found, vectors * np.sqrt(6 / 25))
        zeros = np.zeros([10, 6], np.float32)
        restoring.load_word_vectors(streams, zeros)
        self.assertAllEqual(streams.get_layer("word_vectors").embeddings, zeros)
        with self.assertRaisesRegex(ValueError, r"\(10, 6\), received"):
            restoring.load_word_vectors(streams, vectors[:9])


if __name__ == "__main__":
    tf.test.main()
