"""The pipeline from pictures to vectors, on FnApiRunner."""

import contextlib
import io
import pathlib
import sqlite3
import tempfile
import unittest

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference import base as inference
from apache_beam.testing import test_pipeline
from apache_beam.testing import util

from beam_jobs.catalogue import collect_embeddings
from beam_jobs.catalogue import embed_pictures
from beam_jobs.catalogue import picture_list
from beam_jobs.pipelines import runners
from sicot_tf.data import records
from sicot_tf.stores import local_folder
from tests.helpers import tiny_server


def _vectors(*rows):
    """A batch of vectors of one number each; the row with -1 is bad."""
    return pa.Table.from_pylist(
        [
            {"row": row, "reason": "r", "message": "m"}
            if value < 0
            else {
                "row": row,
                "sha256": bytes([row % 256]) * 32,
                "vector": np.float32(value).tobytes(),
            }
            for row, value in rows
        ],
        embed_pictures.VECTOR_SCHEMA,
    )


# Beam pickles it, so it is not of a test case.
def _check_pictures(batches):
    (((first, second),),) = batches
    assert first == (4, tiny_server.make_jpeg(1))
    assert second[0] == 5
    assert isinstance(second[1], records.RecordError)
    assert second[1].reason == "missing_image"


class EmbedPicturesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.work = local_folder.LocalFolder(self.folder / "work")

    def list_pictures(self, paths):
        listed = self.folder / "pictures.sqlite"
        with contextlib.closing(sqlite3.connect(listed)) as pictures:
            pictures.execute(
                "CREATE TABLE pictures (row INTEGER PRIMARY KEY, path TEXT)"
            )
            pictures.executemany(
                "INSERT INTO pictures VALUES (?, ?)", enumerate(paths)
            )
            pictures.commit()
        return listed

    def store(self, *batches):
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            counts = (
                pipeline
                | beam.Create(
                    [inference.PredictionResult(None, each) for each in batches]
                )
                | beam.ParDo(embed_pictures.StoreVectorsFn(self.work.location))
            )
            util.assert_that(
                counts | beam.Map(lambda each: each["images_embedded"]),
                util.equal_to([2, 1]),
            )

    def test_vectors_are_stored_and_gathered(self):
        """Breaks if a vector belongs to another picture, or is done anew."""
        # Batches 0 and 1 (rows 0 to 31, 32 to 63) share a file, batch 32 has
        # one of its own.
        self.store(
            _vectors((0, 0.5), (1, -1)), _vectors((35, 2)), _vectors((1024, 3))
        )
        self.assertEqual(
            [entry.key for entry in self.work.list("embedded/")],
            [
                "embedded/000000/00000000-00000003.parquet",
                "embedded/000000/00000001-00000001.parquet",
            ],
        )
        # Row 40 is not stored, but its batch is; row 64 is of another.
        paths = [None] * 1025
        for row in (0, 1, 35, 40, 64, 1024):
            paths[row] = f"{row}.jpg"
        listed = self.list_pictures(paths)
        self.assertEqual(list(picture_list.put(listed, self.work)), [0])
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            todo = (
                pipeline
                | beam.Create([0])
                | beam.ParDo(picture_list.ListBatchesFn(self.work.location))
                | beam.Map(lambda table: table.to_pylist())
            )
            util.assert_that(
                todo, util.equal_to([[{"row": 64, "path": "64.jpg"}]])
            )

        embedded = collect_embeddings.gather(self.work, listed, self.folder, 1)
        self.assertEqual(np.flatnonzero(embedded).tolist(), [0, 35, 1024])
        vectors = np.fromfile(self.folder / "vectors", "<f4")
        self.assertEqual(vectors[[0, 1, 35, 1024]].tolist(), [0.5, 0, 2, 3])
        hashes = (self.folder / "hashes").read_bytes()
        self.assertEqual(hashes[35 * 32 : 36 * 32], bytes([35]) * 32)
        with contextlib.closing(sqlite3.connect(listed)) as pictures:
            bad = pictures.execute("SELECT * FROM bad").fetchall()
        self.assertEqual(bad, [(1, "r", "m")])

    def test_pictures_are_read(self):
        """Breaks if one picture that is not there ends the job."""
        good = self.folder / "good.jpg"
        good.write_bytes(tiny_server.make_jpeg(1))
        rows = pa.table(
            {"row": [4, 5], "path": [str(good), str(self.folder / "none.jpg")]}
        )
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            batches = (
                pipeline
                | beam.Create([rows])
                | beam.ParDo(embed_pictures.ReadPicturesFn())
            )
            util.assert_that(batches, _check_pictures)

    def test_whole(self):
        """Breaks if a job that goes on loads the model for nothing, or again
        embeds what is embedded."""
        saved_model = self.folder / "1"
        tiny_server.write_saved_model(saved_model)
        path = self.folder / "good.jpg"
        path.write_bytes(tiny_server.make_jpeg(1))
        listed = self.list_pictures([None, str(path)])
        arguments = (self.work, listed, saved_model)
        options = runners.make_pipeline_options()
        counters = embed_pictures.embed(*arguments, options)
        self.assertEqual(counters, {"images_embedded": 1})
        (key,) = picture_list.vector_files(self.work)
        table = pq.read_table(io.BytesIO(self.work.get(key)))
        self.assertEqual(table["row"].to_pylist(), [1])
        self.assertEqual(embed_pictures.embed(*arguments, options), {})


if __name__ == "__main__":
    unittest.main()
