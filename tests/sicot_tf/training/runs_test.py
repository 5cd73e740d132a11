"""The folder of a run: what it is compared by."""

import pathlib
import tempfile

import tensorflow as tf

from sicot_tf import config
from sicot_tf import files
from sicot_tf.training import runs

_MANIFEST = {
    "num_classes": 3,
    "vocabulary_size": 5,
    "word_vector_dim": 4,
    "long_tail": {"head_threshold": 2},
}


class RunsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.generation = folder / "c0ffee"
        self.generation.mkdir()
        for name in ("classes.jsonl", "vocabulary.txt"):
            (self.generation / name).touch()
        self.run = folder / "run"
        self._create()
        # Without a checkpoint any settings may still be changed.
        (self.run / "checkpoints" / "step-00000001").mkdir(parents=True)

    def _create(self, **settings):
        runs.create(
            self.run,
            self.generation,
            _MANIFEST,
            config.ModelConfig(),
            config.TrainConfig(**settings),
        )

    def _forget(self, *names):
        """Makes of config.json what a version before the settings wrote."""
        path = self.run / "config.json"
        values = files.read_json(path)
        for name in names:
            del values["train"][name]
        files.write_json(path, values)

    def test_a_new_setting_strands_no_run(self):
        """Breaks if an update keeps a training of weeks from going on."""
        self._forget("label_aware_smoothing", "logit_adjustment")
        self._create(epochs=99)
        # And it has the new settings from now on.
        stored = files.read_json(self.run / "config.json")
        self.assertEqual(stored["train"]["label_aware_smoothing"], 0.0)

    def test_a_run_made_before_a_setting_has_its_default(self):
        """Breaks if a run goes on with a loss it was not begun with."""
        self._forget("label_aware_smoothing")
        with self.assertRaisesRegex(
            ValueError, "label_aware_smoothing: 0.0, now 0.2"
        ):
            self._create(label_aware_smoothing=0.2)


if __name__ == "__main__":
    tf.test.main()
