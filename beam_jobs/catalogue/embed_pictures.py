"""A pipeline of the indexes: an embedding for every picture of the catalogue.

    range of the work list -> ListBatches -> rows -> ReadPictures -> pictures
        -> Embed (RunInference, the exported SavedModel) -> vectors
        -> StoreVectors -> a file for some hundred pictures

Nothing passes a shuffle. The name of a file says whose vectors it holds, so
that a killed job goes on where it stopped. `collect_embeddings` reads them.
"""

import collections
import concurrent.futures
import functools
import hashlib
import pathlib
import warnings
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.ml.inference import base as inference
from apache_beam.options import pipeline_options as beam_options
from apache_beam.transforms import window

from beam_jobs.catalogue import embedding_model
from beam_jobs.catalogue import picture_list
from beam_jobs.pictures import stored_images
from beam_jobs.pipelines import runners
from beam_jobs.records import record_pictures
from sicot_tf.data import records
from sicot_tf.data.decoding import image_decoders
from sicot_tf.data.decoding import picture_files
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening
from sicot_tf.stores import uploads

# Stores answer in tens of milliseconds.
_NUM_THREADS = 16
# In the work folder.
_MODEL = "model"

# A row has a vector, float32 as bytes, or `reason` and `message` say why not.
# `sha256` is that of the picture's bytes, null if it has none.
VECTOR_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "sha256": pa.binary(32),
        "vector": pa.binary(),
        "reason": pa.string(),
        "message": pa.string(),
    }
)
# The row of a picture, with its bytes or with what is wrong with it.
Picture = tuple[int, bytes | records.RecordError]


class ReadPicturesFn(beam.DoFn):
    """Tables of `row` and `path` to lists of pictures.

    Each in a list: of itself a batch, as `RunInference` takes it.
    """

    def __init__(self, image_folders: Collection[str] = ()):
        self._image_folders = image_folders

    def setup(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(_NUM_THREADS)

    def process(self, rows: pa.Table) -> Iterator[list[list[Picture]]]:
        read = functools.partial(_read, image_folders=self._image_folders)
        read_ahead = self._threads.map(read, rows["path"].to_pylist())
        data = map(_check, read_ahead)
        yield [list(zip(rows["row"].to_pylist(), data, strict=True))]

    def teardown(self) -> None:
        self._threads.shutdown()


def read_picture(path: str) -> bytes | records.RecordError:
    """The bytes of a picture, or what is wrong with it."""
    return _check(_read(path))


def _read(
    path: str, image_folders: Collection[str] = ()
) -> bytes | records.RecordError:
    folder = next(filter(path.startswith, image_folders), "")
    try:
        return record_pictures.read(path, folder)
    except records.RecordError as error:
        return error


def _check(data: bytes | records.RecordError) -> bytes | records.RecordError:
    if isinstance(data, records.RecordError):
        return data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The model decodes the picture; only its header is checked here.
            image = stored_images.open_header(
                picture_files.without_metadata(data)
            )
    except records.RecordError as error:
        return error
    if image.width * image.height > image_decoders.MAX_PIXELS:
        return records.RecordError(
            "too_many_pixels",
            f"The picture is {image.width} x {image.height}; at most "
            f"{image_decoders.MAX_PIXELS} pixels are decoded.",
        )
    return data


class SavedModelHandler(
    inference.ModelHandler[list[Picture], inference.PredictionResult, Any]
):
    """Lists of pictures to tables of `VECTOR_SCHEMA`.

    Beam's own handler takes no Keras 3 SavedModel.
    """

    def __init__(
        self,
        location: locations.Location,
        signature: str = embedding_model.EMBEDDING,
    ):
        super().__init__()
        self._location = location
        self._signature = signature

    def load_model(self) -> Any:
        return embedding_model.load(self._location)

    def run_inference(
        self,
        batch: Sequence[list[Picture]],
        model: Any,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[inference.PredictionResult]:
        for some in batch:
            good = [data for _, data in some if isinstance(data, bytes)]
            vectors = iter(embedding_model.embed(model, self._signature, good))
            rows = [
                _to_row(
                    row,
                    data,
                    next(vectors) if isinstance(data, bytes) else data,
                )
                for row, data in some
            ]
            table = pa.Table.from_pylist(rows, VECTOR_SCHEMA)
            yield inference.PredictionResult(None, table)

    def get_num_bytes(self, batch: Sequence[list[Picture]]) -> int:
        return sum(
            len(data)
            for some in batch
            for _, data in some
            if isinstance(data, bytes)
        )


def _to_row(
    row: int,
    data: bytes | records.RecordError,
    vector: np.ndarray | records.RecordError,
) -> dict[str, Any]:
    found: dict[str, Any] = {"row": row}
    if isinstance(data, bytes):
        found["sha256"] = hashlib.sha256(data).digest()
    if isinstance(vector, records.RecordError):
        return found | {"reason": vector.reason, "message": str(vector)}
    return found | {"vector": vector.astype("<f4").tobytes()}


class StoreVectorsFn(beam.DoFn):
    """Puts the vectors of batches into files; yields how many there are."""

    def __init__(self, location: locations.Location):
        self._folder = opening.open_folder(location)
        self._num_embedded = Metrics.counter(
            runners.METRICS_NAMESPACE, "images_embedded"
        )

    def start_bundle(self) -> None:
        self._held: dict[int, pa.Table] = {}

    def process(
        self, result: inference.PredictionResult
    ) -> Iterator[dict[str, int]]:
        table = result.inference
        batch = table["row"][0].as_py() // picture_list.BATCH
        held = next(iter(self._held), batch)
        if (
            held // picture_list.FILE_BATCHES
            != batch // picture_list.FILE_BATCHES
        ):
            yield self._store()
        self._held[batch] = table

    def finish_bundle(self) -> Iterator[Any]:
        if self._held:
            yield window.GlobalWindows.windowed_value(self._store())

    def _store(self) -> dict[str, int]:
        """Writes what is held: batches of one file."""
        table = pa.concat_tables(self._held.values())
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none")
        key = picture_list.vectors_key(self._held)
        self._folder.put(key, sink.getvalue().to_pybytes())
        self._held = {}
        num_bad = table["vector"].null_count
        self._num_embedded.inc(table.num_rows - num_bad)
        return {
            "images_embedded": table.num_rows - num_bad,
            "images_rejected": num_bad,
        }


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(dict[str, int])
class EmbedPictures(beam.PTransform):
    """Numbers of ranges to counts: `images_embedded`, `images_rejected`.

    Args:
        location: a folder with what `picture_list` puts there; takes the
            vectors.
        saved_model: the folder of the model.
        signature: of the model.
        image_folders: where pictures should be; if the store refuses one of
            them, that is an error of the job.
    """

    def __init__(
        self,
        location: locations.Location,
        saved_model: locations.Location,
        signature: str = embedding_model.EMBEDDING,
        image_folders: Collection[str] = (),
    ):
        super().__init__()
        self._location = location
        self._saved_model = saved_model
        self._signature = signature
        self._image_folders = image_folders

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        handler = SavedModelHandler(self._saved_model, self._signature)
        return (
            ranges
            | "ListBatches"
            >> beam.ParDo(picture_list.ListBatchesFn(self._location))
            | "ReadPictures" >> beam.ParDo(ReadPicturesFn(self._image_folders))
            | "Embed" >> inference.RunInference(handler.with_no_batching())
            | "StoreVectors" >> beam.ParDo(StoreVectorsFn(self._location))
        )


def embed(
    work: folder.Folder,
    listed: pathlib.Path,
    saved_model: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    signature: str = embedding_model.EMBEDDING,
    image_folders: Collection[str] = (),
) -> collections.Counter[str]:
    """Runs the model over all pictures of a list; returns Beam's counters.

    Args:
        work: a folder that all workers see; what is done there stays.
        listed: of `picture_list.put`.
        image_folders: of `EmbedPictures`.
    """
    model = uploads.for_workers(saved_model, work.child(_MODEL))
    counters, _ = runners.sum_each(
        pipeline_options,
        list(picture_list.put(listed, work)),
        EmbedPictures(work.location, model, signature, image_folders),
        work,
    )
    return counters
