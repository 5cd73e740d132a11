"""Which ways to make up for rare classes are refused together, and why."""

import dataclasses

import tensorflow as tf
from absl.testing import parameterized

from sicot_tf import class_balance
from sicot_tf import config

_TRAIN = config.TrainConfig()
_ADJUSTED = {"logit_adjustment": 1.0}
_NORMALIZED = {"weight_normalization": 0.5}


class TrainingTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ({"sampling": "balanced"}, "--sampling balanced both make up"),
        ({"sampling": "square_root"}, "--sampling square_root"),
        ({"second_stage": "crt"}, "the default of --second_stage crt"),
        ({"second_stage": "lws", "sampling": "square_root"}, "square_root"),
    )
    def test_twice(self, settings, named):
        """Breaks if rare classes are lifted twice in one training."""
        with self.assertRaisesRegex(ValueError, named) as raised:
            config.TrainConfig(**_ADJUSTED, **settings)
        message = str(raised.exception)
        self.assertIn("--logit_adjustment 1.0 in training", message)
        self.assertIn("drop --logit_adjustment, or take --samp", message)

    @parameterized.parameters(
        {"sampling": "balanced", "label_aware_smoothing": 0.2},
        {"sampling": "square_root", "sampling_from_epoch": 3},
        {"second_stage": "lws", "label_aware_smoothing": 0.2},
        {"second_stage": "crt", "sampling_from_epoch": 1},
        {"logit_adjustment": 1.0, "label_aware_smoothing": 0.2},
        # No class is drawn more often than it has records.
        {"second_stage": "crt", "sampling": "records", "logit_adjustment": 1.0},
        {"sampling": "balanced", "shuffle_titles": True, "sample_rate": 0.5},
    )
    def test_allowed(self, **settings):
        """Breaks if methods that combine are refused."""
        config.TrainConfig(**settings)

    def test_what_sampling_needs(self):
        """Breaks if a setting has no effect, or one by chance, in silence."""
        for settings, message in (
            ({"sampling": "balanced", "order": "files"}, "its own files only"),
            ({"second_stage": "lws", "order": "files"}, "--sampling balanced"),
            ({"sampling_from_epoch": 2}, "nothing to begin"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                config.TrainConfig(**settings)

    def test_auto(self):
        """Breaks if a plain run samples, or a second stage does not."""
        self.assertEqual(_TRAIN.record_sampling, "records")
        self.assertEqual(
            config.TrainConfig(second_stage="crt").record_sampling, "balanced"
        )


class PostHocTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        changes=(_ADJUSTED, _NORMALIZED),
        trained=(
            ({"logit_adjustment": 2.0}, "--logit_adjustment 2.0 in training"),
            ({"sampling": "balanced"}, "--sampling balanced"),
            ({"sampling": "square_root"}, "--sampling square_root"),
            ({"second_stage": "crt"}, "--second_stage crt"),
            ({"second_stage": "lws"}, "--second_stage lws"),
            (
                {"second_stage": "lws", "sampling": "records"},
                "--second_stage lws",
            ),
        ),
    )
    def test_twice(self, changes, trained):
        """Breaks if a run that made up for rare classes does it again."""
        settings, named = trained
        train = config.TrainConfig(**settings)
        (change,) = changes
        with self.assertRaisesRegex(ValueError, named) as raised:
            class_balance.check_post_hoc(config.PostHocConfig(**changes), train)
        message = str(raised.exception)
        self.assertIn(f"--{change} {changes[change]} after training", message)
        self.assertIn(f"trained without it, or drop --{change}.", message)
        # Unchanged it may be evaluated.
        class_balance.check_post_hoc(config.PostHocConfig(), train)

    def test_both_changes(self):
        """Breaks if two changes after training lift rare classes twice."""
        with self.assertRaisesRegex(
            ValueError,
            "drop --logit_adjustment, or drop --weight_normalization",
        ):
            config.PostHocConfig(**_ADJUSTED, **_NORMALIZED)

    def test_allowed(self):
        """Breaks if smoothing keeps a run from being adjusted."""
        smoothed = dataclasses.replace(_TRAIN, label_aware_smoothing=0.2)
        for changes in (_ADJUSTED, _NORMALIZED):
            class_balance.check_post_hoc(
                config.PostHocConfig(**changes), smoothed
            )


if __name__ == "__main__":
    tf.test.main()
