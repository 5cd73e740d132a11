"""The records of a shard to its files, in a pipeline."""

import hashlib
import pathlib
import tempfile
import unittest

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.testing import test_pipeline
from apache_beam.testing import util

from beam_jobs.dataset import resolve_records
from beam_jobs.dataset.steps import write_shards
from sicot_tf import files
from sicot_tf.data import records

_STEM = "train-00000-of-00001"


# Of a module: what `assert_that` calls is pickled by its name.
_outputs = []


def _keep(outputs):
    _outputs[:] = outputs


class WriteShardsTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self._folder = pathlib.Path(folder)
        for name in ("plans", "parts", "output", "summaries"):
            (self._folder / name).mkdir()
        (self._folder / "output" / "vocabulary.txt").write_text("bag\nred\n")
        (self._folder / "parts" / "a.jpegs").write_bytes(b"onetwo")
        self._plan([("r0", b"two", 3, ["red", "new"]), ("r1", b"one", 0, [])])

    def _plan(self, planned):
        rows = [
            {
                "record_id": record_id,
                "sku_id": "A",
                "label": 4,
                "title": "a title",
                "words": words,
                "source": "",
                "jpegs": "a.jpegs",
                "offset": offset,
                "length": len(picture),
                "sha256": hashlib.sha256(picture).digest(),
            }
            for record_id, picture, offset, words in planned
        ]
        pq.write_table(
            pa.Table.from_pylist(rows, resolve_records.SHARD_SCHEMA),
            self._folder / "plans" / f"{_STEM}.parquet",
        )

    def _write(self):
        places = [
            self._folder / name for name in ("parts", "output", "summaries")
        ]
        write_shard = write_shards.WriteShardFn(*places, "vocabulary.txt")
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            summaries = (
                pipeline
                | beam.Create([_STEM])
                | write_shards.WriteShards(self._folder / "plans", write_shard)
            )
            util.assert_that(summaries, _keep)
        return list(_outputs)

    def test_shard(self):
        """Breaks if records come with other pictures or words, or the
        manifest tells of other files than there are."""
        (summary,) = self._write()
        names = [f"{_STEM}.tfrecord", f"{_STEM}.offsets.npy"]
        output = self._folder / "output"
        self.assertEqual(
            summary,
            {
                "splits": {"train": {"records": 2, "titles_without_words": 1}},
                "shards": {_STEM: 2},
                "files": {
                    name: files.describe(output / name) for name in names
                },
            },
        )
        self.assertEqual(
            files.read_json(self._folder / "summaries" / f"{_STEM}.json"),
            summary,
        )
        examples = [
            tf.io.parse_single_example(each, records.ALL_FEATURES)
            for each in tf.data.TFRecordDataset(str(output / names[0]))
        ]
        self.assertEqual(
            [each["image"].numpy() for each in examples], [b"two", b"one"]
        )
        # "new" is no word of the vocabulary; ids count from 1.
        self.assertEqual(examples[0]["word_ids"].numpy().tolist(), [2])
        self.assertEqual(len(np.load(output / names[1])), 2)
        # Nothing else is left.
        self.assertEqual(
            sorted(path.name for path in output.iterdir()),
            sorted([*names, "vocabulary.txt"]),
        )

    def test_damaged_pictures(self):
        """Breaks if a data set is built of other bytes than were checked."""
        self._plan([("r0", b"won", 0, [])])
        with self.assertRaisesRegex(OSError, "not what was written"):
            self._write()


if __name__ == "__main__":
    unittest.main()
