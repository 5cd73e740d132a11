"""Tests that `validate_dataset` finds what a build made of its input."""

import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from beam_jobs.dataset import build
from beam_jobs.pipelines import runners
from beam_jobs.validation import check_generation
from sicot_tf import config
from sicot_tf.data import tfrecords

_CONFIG = config.DatasetConfig(
    word_vector_dim=2, word2vec_epochs=1, val_percent=0, test_percent=0
)


class CheckRecordsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls._input = pathlib.Path(holder.name) / "shop.jsonl"
        rng = np.random.default_rng(0)
        rows = []
        for number, split in enumerate(["train", "train", "test", None, None]):
            pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
            image = tf.io.encode_jpeg(pixels).numpy()
            cls._input.with_name(f"{number}.jpg").write_bytes(image)
            rows.append(
                {"record_id": f"r{number}", "image": f"{number}.jpg",
                 "sku_id": "A", "title": f"bag {number}", "split": split,
                 "source": "shop"}
            )  # fmt: skip
        rows[4]["image"] = "gone.jpg"
        cls._input.write_text("\n".join(map(json.dumps, rows)))
        cls._generation = build.build(
            build.Inputs([str(cls._input)]),
            pathlib.Path(holder.name) / "dataset",
            _CONFIG,
            runners.make_pipeline_options(),
        )

    def _validate(self):
        report = check_generation.validate(
            self._generation, runners.make_pipeline_options()
        )
        return report["checks"]["records"]

    def test_a_sound_data_set(self):
        """If it fails, a rejected record is called lost."""
        self.assertEqual(self._validate(), {"wrong": 0, "examples": []})

    def test_records_that_are_not_those_of_the_input(self):
        """If it fails, a test record among those to train passes, and so does
        another record_id and a lost source."""
        shards = {
            split: self._generation / f"{split}-00000-of-00001.tfrecord"
            for split in ("train", "test")
        }
        contents = {path: path.read_bytes() for path in shards.values()}
        examples = {
            split: [
                tf.train.Example.FromString(each)
                for each in tf.data.TFRecordDataset(
                    str(path)
                ).as_numpy_iterator()
            ]
            for split, path in shards.items()
        }

        def change(example, name, value):
            example.features.feature[name].bytes_list.value[0] = value

        by_id = {
            each.features.feature["record_id"].bytes_list.value[0]: each
            for each in (*examples["train"], *examples["test"])
        }
        # What folders named split=train, record_id=z, source=x once did.
        (test,) = examples["test"]
        examples["train"].append(test)
        examples["test"] = []
        change(by_id[b"r0"], "record_id", b"z")
        change(by_id[b"r1"], "source", b"x")
        change(by_id[b"r3"], "title", b"another")
        for split, path in shards.items():
            tfrecords.write(
                path, [each.SerializeToString() for each in examples[split]]
            )
        try:
            found = self._validate()
        finally:
            for path, content in contents.items():
                path.write_bytes(content)
        self.assertEqual(found["wrong"], 5)
        for expected, example in zip(
            (
                "'r0' of shop.jsonl, line 1 is neither stored nor rejected",
                "'r1' of shop.jsonl, line 2 has another source in train-",
                "'r2' of shop.jsonl, line 3 has another split (test as given)",
                "'r3' of shop.jsonl, line 4 has another title in train-",
                "'z' in train-",
            ),
            found["examples"],
            strict=True,
        ):
            self.assertStartsWith(example, expected)

    def test_without_the_input_it_says_so(self):
        """If it fails, a changed record file is called damage of the data."""
        content = self._input.read_bytes()
        self._input.write_bytes(content + b"\n")
        try:
            self.assertIn("has changed since", self._validate()["skipped"])
        finally:
            self._input.write_bytes(content)


if __name__ == "__main__":
    tf.test.main()
