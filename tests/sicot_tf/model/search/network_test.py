import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.search import network
from sicot_tf.search_training import losses

_MODEL = config.ModelConfig(
    backbone="SmallCNN", backbone_weights="none", image_size=32
)
_COLOURS = np.array(
    [[220, 30, 30], [30, 180, 60], [40, 60, 220], [230, 200, 40]], np.float32
)
_SIDE, _OBJECT = network.whole_size(32), 22


def _build(**changes):
    settings = {
        "embedding_dim": 8,
        "view_kind": "mask",
        "steepness": 40.0,
        "with_box": True,
    }
    return network.build(_MODEL, **(settings | changes))


def _pictures(rng, colours):
    """Objects anywhere on noise of all colours, and their boxes in shares."""
    images, boxes = [], []
    for colour in colours:
        small = rng.uniform(60, 200, (13, 13, 3)).astype(np.float32)
        image = np.repeat(np.repeat(small, 5, 0), 5, 1)
        left, top = rng.integers(0, _SIDE - _OBJECT, 2)
        image[top : top + _OBJECT, left : left + _OBJECT] = colour
        images.append(image)
        boxes.append([left, top, left + _OBJECT, top + _OBJECT])
    return np.array(images), np.array(boxes) / _SIDE


def _overlap(first, second):
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in
             (first, second)]  # fmt: skip
    return np.mean(shared / (sum(areas) - shared))


class NetworkTest(tf.test.TestCase):
    def test_box_finds_the_object_without_labels(self):
        """Breaks if clicks do not teach the box: only colours tell products
        apart, and only inside of the object."""
        keras.utils.set_random_seed(0)
        model, rng = _build(), np.random.default_rng(0)
        optimizer = keras.optimizers.Adam(3e-3)
        # What is seen through the box alone has to teach it.
        model = network.served(model)
        variables = model.trainable_variables
        optimizer.build(variables)

        @tf.function
        def step(images, products):
            extents = tf.ones([len(images), 2])
            with tf.GradientTape() as tape:
                rows = model({"image": images, "extents": extents})
                queries, positives = tf.split(rows["embedding"], 2)
                loss, _ = losses.triplet_loss(
                    *(queries, positives, positives),
                    query_ids=tf.range(len(products)),
                    positive_ids=products,
                    negative_ids=products,
                    weights=tf.ones([len(products)]),
                    margin=0.2,
                    temperature=0.1,
                )
            optimizer.apply(tape.gradient(loss, variables), variables)

        tested, boxes = _pictures(rng, _COLOURS[rng.integers(0, 4, 64)])
        whole = {"image": tested, "extents": np.ones([64, 2], np.float32)}
        before = _overlap(model(whole)["box"].numpy(), boxes)
        for _ in range(40):
            products = rng.integers(0, 4, 16)
            images, _ = _pictures(rng, _COLOURS[np.tile(products, 2)])
            step(tf.constant(images), tf.constant(products))
        after = _overlap(model(whole)["box"].numpy(), boxes)
        self.assertGreater(after, before + 0.1)

    def test_without_box(self):
        """Breaks if the comparison looks through a box after all."""
        model = _build(with_box=False)
        image = np.random.default_rng(0).uniform(0, 255, (2, 65, 65, 3))
        rows = model({"image": image, "extents": np.array([[1, 1], [0.5, 1]])})
        self.assertAllEqual(rows["box"], [[0, 0, 1, 1]] * 2)
        self.assertAllClose(tf.norm(rows["embedding"], axis=-1), [1, 1])

    def test_backbone_is_the_recognisers(self):
        """Breaks if weights of a run are left behind: all but the new layers
        have the paths they have in `sicot.build_streams`."""
        paths = [each.path for each in network.backbone_variables(_build())]
        self.assertEqual(
            paths,
            [f"conv{n}/{w}" for n in (1, 2, 3) for w in ("kernel", "bias")],
        )
