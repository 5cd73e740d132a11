"""What folders of runs say."""

import json
import pathlib
import tempfile

import tensorflow as tf

from sicot_tf import config
from sicot_tf.evaluation import folders
from sicot_tf.experiments import finished

_SETTINGS = {"epochs": 2, "streams": "visual"}


class FinishedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.run_dir = pathlib.Path(folder.name)

    def test_is_trained(self):
        """Breaks if a killed run counts as finished, or a finished one is
        trained again."""

        def leave(*rows, step):
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (self.run_dir / "metrics.jsonl").write_text(text)
            folder = self.run_dir / "checkpoints" / f"step-{step:08d}"
            folder.mkdir(parents=True, exist_ok=True)

        first = {"step": 5, "epoch": 1.0}
        last = {"step": 10, "epoch": 2.0}
        self.assertFalse(finished.is_trained(self.run_dir, _SETTINGS))
        leave(first, step=5)
        self.assertFalse(finished.is_trained(self.run_dir, _SETTINGS))
        # Killed before its last checkpoint was there.
        leave(first, last, step=5)
        self.assertFalse(finished.is_trained(self.run_dir, _SETTINGS))
        leave(first, last, {"step": 10, "val_top1": 0.5}, step=10)
        self.assertTrue(finished.is_trained(self.run_dir, _SETTINGS))
        self.assertFalse(
            finished.is_trained(self.run_dir, _SETTINGS | {"epochs": 3})
        )

    def test_conflict(self):
        """Breaks if a run with other settings is taken for the arm's."""

        def conflict(settings=_SETTINGS, seed=1, shuffled=False, data="abc"):
            return finished.conflict(
                self.run_dir, settings, seed, shuffled, data
            )

        # As a run of an older version leaves it: a setting is missing.
        model = {"streams": "visual"} | config.PRESETS["demo"]["ModelConfig"]
        train = config.PRESETS["demo"]["TrainConfig"] | {"epochs": 2, "seed": 1}
        text = json.dumps(
            {"model": model, "train": train, "dataset": {"generation": "abc"}}
        )
        (self.run_dir / "config.json").write_text(text)
        self.assertEqual(conflict(shuffled=True), "")  # Never begun.
        (self.run_dir / "checkpoints" / "step-00000005").mkdir(parents=True)
        self.assertEqual(conflict(), "")
        self.assertEqual(conflict(_SETTINGS | {"epochs": 3}), "")
        self.assertEqual(
            conflict(_SETTINGS | {"epochs": 1}), "it has 2 epochs, now 1"
        )
        self.assertEqual(
            conflict(_SETTINGS | {"momentum": 0.5}), "momentum: 0.9, now 0.5"
        )
        self.assertEqual(conflict(seed=2), "seed: 1, now 2")
        self.assertEqual(
            conflict(shuffled=True), "shuffle_titles: False, now True"
        )
        self.assertEqual(conflict(data="def"), "generation: 'abc', now 'def'")

    def test_evaluation_folder(self):
        """Breaks if evaluations with other post hoc settings share a folder,
        or lie elsewhere than `sicot_tf.evaluate` writes them."""
        for changes, name in (
            ({}, "evaluation-val"),
            ({"logit_adjustment": 0.0}, "evaluation-val"),
            (
                {"weight_normalization": 0.5},
                "evaluation-val-weight_normalization-0.5",
            ),
        ):
            folder = folders.evaluation_folder(
                self.run_dir, "val", config.PostHocConfig(**changes)
            )
            self.assertEqual(folder.name, name)


if __name__ == "__main__":
    tf.test.main()
