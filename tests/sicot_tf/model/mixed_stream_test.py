"""MixedStream: values, gradients, ties, titles without words."""

import numpy as np
import tensorflow as tf

from sicot_tf.model import mixed_stream


class MixedStreamTest(tf.test.TestCase):
    def test_maximum_and_missing_title(self):
        """Breaks if a picture without title is changed by a bias."""
        mixed = mixed_stream.MixedStream()(
            np.array([[1.0, 5.0], [1.0, 5.0]], np.float32),
            np.array([[2.0, 3.0], [2.0, 3.0]], np.float32),
            np.array([True, False]),
        )
        self.assertAllEqual(mixed, [[2.0, 5.0], [1.0, 5.0]])

    def test_gradient_goes_to_the_winner(self):
        """Breaks if a stream learns from a feature it did not give.

        Features: title wins, picture wins, tie. A tie belongs to the
        picture, so that the gradient arrives once.
        """
        visual = tf.constant([[1.0, 5.0, 2.0]])
        semantic = tf.constant([[2.0, 3.0, 2.0]])
        layer = mixed_stream.MixedStream()
        for has_title, to_visual, to_semantic in (
            (True, [[0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]),
            (False, [[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]]),
        ):
            with tf.GradientTape() as tape:
                tape.watch([visual, semantic])
                mixed = layer(visual, semantic, tf.constant([has_title]))
                loss = tf.reduce_sum(mixed)
            gradients = tape.gradient(loss, [visual, semantic])
            self.assertAllEqual(gradients[0], to_visual)
            self.assertAllEqual(gradients[1], to_semantic)

    def test_sizes_must_agree(self):
        """Breaks if broadcasting hides streams of different size."""
        with self.assertRaisesRegex(ValueError, "received 4 and 1"):
            mixed_stream.MixedStream()(
                np.zeros([2, 4], "f"), np.zeros([2, 1], "f"), np.ones([2], bool)
            )


if __name__ == "__main__":
    tf.test.main()
