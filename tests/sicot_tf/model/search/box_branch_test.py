import numpy as np
import tensorflow as tf

from sicot_tf.model.search.box_branch import BoxBranch


def _box(features, extents=(1.0, 1.0)):
    features = np.array(features, np.float32)[None]
    box, _ = BoxBranch()(features, np.array([extents], np.float32))
    return box[0].numpy()


class BoxBranchTest(tf.test.TestCase):
    def test_equal_positions_give_the_whole_picture(self):
        """Breaks if a branch that knows nothing hides a part of the picture.

        Cells at 0, 1/8, ..., 1 have variance 10 / 96, with that of a cell 10 /
        96 + 1 / 768: a side of 1.13, which the picture's borders cut.
        """
        self.assertAllClose(_box(np.ones([9, 9, 4])), [0, 0, 1, 1])

    def test_picture_that_fills_half_of_the_square(self):
        """Breaks if the padding draws the box, or axes are exchanged."""
        features = np.ones([9, 9, 4])
        features[6:, :, 0] = 1000.0
        box = _box(features, (0.5, 1.0))
        self.assertAllClose(box, [0, 0, 1, 0.5])

    def test_heat_draws_the_first_box(self):
        """Breaks if a new branch does not start from what stands out."""
        features = np.zeros([9, 9, 4])
        features[1:4, 4:8, 1] = 10.0
        x_min, y_min, x_max, y_max = _box(features)
        self.assertGreater((x_min + x_max) / 2, 0.55)
        self.assertLess((y_min + y_max) / 2, 0.45)

    def test_one_hot_cell(self):
        """Breaks if a box is smaller than a cell: weights of 1 in one cell
        have no variance of their own."""
        layer = BoxBranch()
        features = np.zeros([1, 9, 9, 4], np.float32)
        features[0, 2, 6, 0] = 1.0
        layer.build(features.shape, (1, 2))
        layer.heat_gain.assign(1000.0)
        box, glimpse = layer(features, np.ones([1, 2], np.float32))
        self.assertAllClose(glimpse, [[1, 0, 0, 0]], atol=1e-4)
        box = box[0].numpy()
        # 6/8 -+ 1/16 and 2/8 -+ 1/16.
        self.assertAllClose(box, [11 / 16, 3 / 16, 13 / 16, 5 / 16], atol=1e-4)

    def test_no_gradient_into_the_features(self):
        """Breaks if boxes change the recogniser's frozen or shared layers."""
        features = tf.random.stateless_normal([2, 5, 5, 3], [1, 2])
        with tf.GradientTape() as tape:
            tape.watch(features)
            box, _ = BoxBranch()(features, tf.ones([2, 2]))
        self.assertIsNone(tape.gradient(box, features))
