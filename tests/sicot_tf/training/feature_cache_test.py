"""Frozen layers: kept features train as the pictures do."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.training import batches
from sicot_tf.training import feature_cache
from sicot_tf.training import runs
from sicot_tf.workers.collectives import Collectives
from tests.helpers import tiny_road

_FLAGS = (
    *(*tiny_road.TRAIN_FLAGS, "--epochs", "2"),
    *("--augmentation", "none", "--frozen_until", "conv2"),
)


def _batches(**train_settings):
    model = dataclasses.replace(
        config.ModelConfig(),
        **{"backbone": "SmallCNN", "backbone_weights": "none"},
        **{"image_size": 16, "frozen_until": "conv2"},
    )
    train = dataclasses.replace(
        config.TrainConfig(), cached_views=2, **train_settings
    )
    return batches.Batches.open(tiny_road.generation(), model, train)


class FeatureCacheTest(tf.test.TestCase):
    def test_the_same_curve_as_from_pictures(self):
        """Breaks if features are of other pictures, or of trained layers."""
        folder = pathlib.Path(self.get_temp_dir())
        curves = []
        for name, flags in (
            ("pictures", ()),
            ("features", ("--cached_views", "1")),
        ):
            tiny_road.run_command(
                "sicot_tf.train",
                *("--dataset", tiny_road.generation()),
                *("--run_dir", folder / name, *_FLAGS, *flags),
            )
            curves.append(runs.read_curve(folder / name / "metrics.jsonl"))
        for one, other in zip(*curves, strict=True):
            self.assertEqual(one.keys(), other.keys())
            for key, value in one.items():
                self.assertNear(value, other[key], 1e-5, msg=key)
        # What is evaluated and exported is the whole backbone.
        first, second = (
            tiny_road.read_checkpoint(folder / name)
            for name in ("pictures", "features")
        )
        self.assertEqual(first.keys(), second.keys())
        self.assertAllEqual(first["conv1/kernel"], second["conv1/kernel"])

    def test_views_are_taken_in_turn(self):
        """Breaks if an epoch sees a record twice, or always one view of it."""
        found = _batches(global_batch_size=32, augmentation="crop")
        run_dir = pathlib.Path(self.get_temp_dir()) / "runs" / "one"
        frozen = sicot.build_frozen_layers(found.model_config)
        kept = feature_cache.with_features(
            found, frozen, run_dir, Collectives()
        )
        self.assertEqual(kept.train_features.shape, (32, 2, 4, 4, 64))
        self.assertNotAllClose(
            kept.train_features[:, 0], kept.train_features[:, 1]
        )
        sums = kept.train_features.sum((2, 3, 4))
        epochs = [
            np.sort(batch["image"].numpy().sum((1, 2, 3)))
            for batch in kept.training(0).take(2)
        ]
        odd = np.arange(32) % 2
        for epoch, seen in enumerate(epochs):
            expected = sums[np.arange(32), (odd + epoch) % 2]
            self.assertAllClose(seen, np.sort(expected), rtol=1e-5)

    def test_other_runs_find_them(self):
        """Breaks if each run of a grid computes them anew, or one finds those
        of other views."""
        parent = pathlib.Path(self.get_temp_dir()) / "grid"
        for settings in ({"seed": 1}, {"seed": 2}, {"min_crop_area": 0.9}):
            found = _batches(**settings)
            frozen = sicot.build_frozen_layers(found.model_config)
            feature_cache.with_features(
                found, frozen, parent / str(settings), Collectives()
            )
        self.assertLen(list(parent.glob("frozen_features/*/train.npy")), 2)

    def test_mistakes(self):
        """Breaks if nothing says why features can't be kept."""
        found = _batches(order="files")
        frozen = sicot.build_frozen_layers(found.model_config)
        with self.assertRaisesRegex(ValueError, "--order exact"):
            feature_cache.with_features(
                found, frozen, pathlib.Path(), Collectives()
            )
        with self.assertRaisesRegex(ValueError, "or --frozen_until"):
            sicot.build_frozen_layers(
                dataclasses.replace(found.model_config, frozen_until="")
            )
        with self.assertRaisesRegex(ValueError, "conv1, conv2, conv3"):
            sicot.build_frozen_layers(
                dataclasses.replace(found.model_config, frozen_until="conv9")
            )
