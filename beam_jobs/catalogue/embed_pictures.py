"""A pipeline of the indexes: an embedding for every picture of the catalogue.

The exported SavedModel runs inside Beam's `RunInference`. Vectors go straight
to their place in one file, so nothing passes a shuffle; a byte for each
picture says that it is done, so that a killed job goes on where it stopped.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import sqlite3
import uuid
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TextIO

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.ml.inference import base as inference
from apache_beam.options import pipeline_options as beam_options
from tensorflow.core.protobuf import saved_model_pb2

from beam_jobs.catalogue import parse_catalogue
from beam_jobs.pictures import stored_images
from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import records
from sicot_tf.data.decoding import image_decoders
from sicot_tf.data.decoding import picture_files

# A signature, and the output of every signature that embeds.
EMBEDDING = "embedding"
# Batches are ranges of rows, whatever the workers: equal input, equal bits.
_BATCH = 32
# Pictures of one Beam element; a process loads the model anew for each.
_RANGE = 8192
HASH_BYTES = 32
_TODO, _EMBEDDED, _BAD = b"\0", b"\1", b"\2"
# Rejects held before they are written.
_MAX_HELD = 1000

# The row of a picture, with its bytes or with what is wrong with it.
Picture = tuple[int, bytes | records.RecordError]


def read_signature(
    saved_model: pathlib.Path, signature: str = EMBEDDING
) -> tuple[int, str]:
    """Size of the embeddings, and a SHA-256 of graph and weights.

    Raises:
        ValueError: if it is no SavedModel with this signature.
    """
    signatures = _signatures(saved_model)
    if signature not in signatures:
        raise ValueError(
            f"{saved_model} has no signature {signature!r}, only "
            f"{sorted(signatures)}. Export it with python -m sicot_tf.export."
        )
    shape = signatures[signature].outputs[EMBEDDING].tensor_shape
    sha256 = product_index.embedding_model_sha256(saved_model)
    return shape.dim[-1].size, sha256


def signature_names(saved_model: pathlib.Path) -> set[str]:
    """What a model can be asked for.

    Raises:
        ValueError: if it is no SavedModel.
    """
    return set(_signatures(saved_model))


def _signatures(saved_model: pathlib.Path) -> Any:
    graph = saved_model / "saved_model.pb"
    if not graph.is_file():
        raise ValueError(
            f"Expected a SavedModel in {saved_model}, for example "
            "saved_models/sicot/1; found no saved_model.pb."
        )
    message = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    return message.meta_graphs[0].signature_def


class ReadPicturesFn(beam.DoFn):
    """A range of rows to batches of pictures that are still to be done.

    Says in `hashes` of which bytes a vector is.
    """

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)

    def process(self, rows: tuple[int, int]) -> Iterator[list[Picture]]:
        work = sqlite3.connect(
            f"{(self._folder / 'pictures.sqlite').as_uri()}?mode=ro", uri=True
        )
        with (
            (self._folder / "states").open("rb") as states,
            (self._folder / "hashes").open("r+b", buffering=0) as hashes,
        ):
            for first in range(*rows, _BATCH):
                batch = work.execute(
                    "SELECT row, path FROM pictures WHERE path IS NOT NULL "
                    "AND row >= ? AND row < ? ORDER BY row",
                    (first, min(first + _BATCH, rows[1])),
                ).fetchall()
                states.seek(first)
                done = states.read(_BATCH)
                if any(done[row - first] == _TODO[0] for row, _ in batch):
                    pictures = [
                        (row, read_picture(path)) for row, path in batch
                    ]
                    for row, data in pictures:
                        if isinstance(data, bytes):
                            digest = hashlib.sha256(data).digest()
                            os.pwrite(hashes.fileno(), digest, row * HASH_BYTES)
                    yield pictures
        work.close()


def read_picture(path: str) -> bytes | records.RecordError:
    """The bytes of a picture, or what is wrong with it."""
    try:
        with record_files.open_file(path) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        return records.RecordError("missing_image", str(error))
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
    inference.ModelHandler[
        bytes | records.RecordError, inference.PredictionResult, Any
    ]
):
    """Pictures to embeddings; Beam's own handler takes no Keras 3 SavedModel.

    The inference of a picture is a `[dim]` float32 array, or a `RecordError`.
    """

    def __init__(self, saved_model: str, signature: str = EMBEDDING):
        super().__init__()
        self._saved_model = saved_model
        self._signature = signature

    def load_model(self) -> Any:
        return tf.saved_model.load(self._saved_model)

    def run_inference(
        self,
        batch: Sequence[bytes | records.RecordError],
        model: Any,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[inference.PredictionResult]:
        good = [each for each in batch if isinstance(each, bytes)]
        vectors = iter(_embed(model, self._signature, good))
        for each in batch:
            is_good = isinstance(each, bytes)
            yield inference.PredictionResult(
                None, next(vectors) if is_good else each
            )

    def get_num_bytes(
        self, batch: Sequence[bytes | records.RecordError]
    ) -> int:
        return sum(len(each) for each in batch if isinstance(each, bytes))


def _embed(
    model: Any, signature: str, images: Sequence[bytes]
) -> Sequence[np.ndarray | records.RecordError]:
    if not images:
        return []
    try:
        outputs = model.signatures[signature](image_bytes=tf.constant(images))
        return outputs[EMBEDDING].numpy()
    except tf.errors.InvalidArgumentError as error:
        if len(images) == 1:
            return [records.RecordError("decode_error", error.message[:500])]
    # Find the damaged picture; the others get the embeddings they have alone.
    return [
        vector
        for image in images
        for vector in _embed(model, signature, [image])
    ]


class WriteEmbeddingFn(beam.DoFn):
    """Puts each vector at its place and marks the picture as done."""

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)
        self._num_embedded = Metrics.counter(
            runners.METRICS_NAMESPACE, "images_embedded"
        )

    def setup(self) -> None:
        self._vectors = (self._folder / "vectors").open("r+b", buffering=0)
        self._states = (self._folder / "states").open("r+b", buffering=0)

    def start_bundle(self) -> None:
        self._bad: list[tuple[int, records.RecordError]] = []

    def process(
        self, result: tuple[int, inference.PredictionResult]
    ) -> Iterator[None]:
        row, prediction = result
        vector = prediction.inference
        if isinstance(vector, records.RecordError):
            self._bad.append((row, vector))
            if len(self._bad) == _MAX_HELD:
                self._write_bad()
        else:
            data = vector.astype("<f4").tobytes()
            os.pwrite(self._vectors.fileno(), data, row * len(data))
            os.pwrite(self._states.fileno(), _EMBEDDED, row)
            self._num_embedded.inc()
        yield from ()

    def finish_bundle(self) -> None:
        self._write_bad()

    def teardown(self) -> None:
        self._vectors.close()
        self._states.close()

    def _write_bad(self) -> None:
        if not self._bad:
            return
        files.write_lines(
            self._folder / "bad" / f"{uuid.uuid4().hex}.jsonl",
            (
                raw_records.to_json([row, error.reason, str(error)])
                for row, error in self._bad
            ),
        )
        for row, _ in self._bad:
            os.pwrite(self._states.fileno(), _BAD, row)
        self._bad = []


@beam.typehints.with_input_types(tuple[int, int])
@beam.typehints.with_output_types(None)
class EmbedPictures(beam.PTransform):
    """Ranges of rows of the work list to `vectors`, `states` and `bad`."""

    def __init__(
        self, folder: str, saved_model: str, signature: str = EMBEDDING
    ):
        super().__init__()
        self._folder = folder
        self._saved_model = saved_model
        self._signature = signature

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        handler = inference.KeyedModelHandler(
            SavedModelHandler(self._saved_model, self._signature)
        )
        return (
            ranges
            | "ReadPictures" >> beam.ParDo(ReadPicturesFn(self._folder))
            | "Embed" >> inference.RunInference(handler.with_no_batching())
            | "WriteEmbedding" >> beam.ParDo(WriteEmbeddingFn(self._folder))
        )


def embed(
    folder: pathlib.Path,
    saved_model: pathlib.Path,
    dim: int,
    pipeline_options: beam_options.PipelineOptions,
    signature: str = EMBEDDING,
) -> dict[str, int]:
    """Runs the model over `folder/pictures.sqlite`; returns Beam's counters.

    Args:
        folder: absolute; also takes `vectors` (float32, a row each picture),
            `hashes` (SHA-256 of its bytes), `states` (a byte each) and `bad`
            (JSON Lines).
    """
    work = sqlite3.connect(folder / "pictures.sqlite")
    (count,) = work.execute(
        "SELECT ifnull(max(row) + 1, 0) FROM pictures"
    ).fetchone()
    work.close()
    (folder / "bad").mkdir(exist_ok=True)
    for name, size in (
        ("vectors", 4 * dim * count),
        ("hashes", HASH_BYTES * count),
        ("states", count),
    ):
        with (folder / name).open("ab") as file:
            file.truncate(size)  # What a killed job has done stays.
    ranges = [
        (first, min(first + _RANGE, count)) for first in range(0, count, _RANGE)
    ]
    return runners.run_each(
        pipeline_options,
        ranges,
        EmbedPictures(str(folder), str(saved_model.absolute()), signature),
    )


def collect(
    folder: pathlib.Path,
    generation: pathlib.Path,
    dim: int,
    base: pathlib.Path | None,
) -> dict[str, int]:
    """Writes `embeddings.npy`, its rows in the store, and rejected pictures.

    Args:
        folder: of `embed`.
        generation: holds the store, and `rejects.jsonl` to append to.
        base: the generation that has embeddings with a `base_row`.

    Returns:
        Counts: `images_embedded`, `images_without_embedding`.
    """
    work = sqlite3.connect(folder / "pictures.sqlite")
    store = sqlite3.connect(generation / product_index.STORE)
    store.execute("PRAGMA journal_mode = OFF")
    embedded = are_embedded(folder)
    (from_base,) = work.execute(
        "SELECT count(base_row) FROM pictures"
    ).fetchone()
    output = np.lib.format.open_memmap(
        generation / product_index.EMBEDDINGS,
        mode="w+",
        dtype="<f4",
        shape=(int(embedded.sum()) + from_base, dim),
    )
    base_vectors = None
    if from_base:
        base_vectors = np.load(base / product_index.EMBEDDINGS, mmap_mode="r")
    num_rows = _copy_vectors(
        folder, work, embedded, base_vectors, output, store
    )
    output.flush()
    store.commit()
    store.close()
    rejects = generation / parse_catalogue.REJECTS
    with rejects.open("a", encoding="utf-8") as file:
        _write_bad_pictures(folder, work, generation, file)
    (num_pictures,) = work.execute("SELECT count(*) FROM pictures").fetchone()
    work.close()
    return {
        "images_embedded": num_rows,
        "images_without_embedding": num_pictures - num_rows,
    }


def are_embedded(folder: pathlib.Path) -> np.ndarray:
    """`[num_pictures]` bool: whose vector `embed` has written."""
    return np.fromfile(folder / "states", np.uint8) == _EMBEDDED[0]


def load_bad(folder: pathlib.Path, work: sqlite3.Connection) -> None:
    """A temporary table `bad` (row, reason, message) of what `embed` put aside.

    Its rows are those of the work list.
    """
    work.execute("CREATE TEMP TABLE bad (row PRIMARY KEY, reason, message)")
    for path in folder.glob("bad/*.jsonl"):
        with path.open(encoding="utf-8") as lines:
            # A picture may have been tried twice.
            work.executemany(
                "INSERT OR REPLACE INTO bad VALUES (?, ?, ?)",
                map(json.loads, lines),
            )


def _copy_vectors(
    folder: pathlib.Path,
    work: sqlite3.Connection,
    embedded: np.ndarray,
    base_vectors: np.ndarray | None,
    output: np.ndarray,
    store: sqlite3.Connection,
) -> int:
    """Fills `output` with the pictures that have a vector; counts them.

    Args:
        embedded: `[num_pictures]` bool: whose vector is in `folder`.
    """
    dim = output.shape[1]
    pictures = work.execute(
        "SELECT row, product, picture, base_row FROM pictures ORDER BY row"
    )
    num_rows = 0
    while chunk := pictures.fetchmany(_RANGE):
        vectors = np.fromfile(
            folder / "vectors",
            dtype="<f4",
            count=len(chunk) * dim,
            offset=4 * dim * chunk[0][0],
        ).reshape(len(chunk), dim)
        places = []
        for vector, (row, product, picture, base_row) in zip(vectors, chunk):
            if base_row is not None:
                vector = base_vectors[base_row]
            elif not embedded[row]:
                continue
            output[num_rows] = vector
            places.append((num_rows, product, picture))
            num_rows += 1
        store.executemany("INSERT INTO embeddings VALUES (?, ?, ?)", places)
    return num_rows


def _write_bad_pictures(
    folder: pathlib.Path,
    work: sqlite3.Connection,
    generation: pathlib.Path,
    rejects: TextIO,
) -> None:
    """A line for each bad picture, in their order, with its product."""
    load_bad(folder, work)
    bad = work.execute(
        "SELECT product, picture, reason, message FROM bad JOIN pictures "
        "USING (row) ORDER BY row"
    )
    with contextlib.closing(product_index.connect(generation)) as store:
        for product, picture, reason, message in bad:
            record = _read_record(store, product)
            rejects.write(
                raw_records.to_json(
                    {
                        "reason": reason,
                        "message": message,
                        "image": record["images"][picture],
                        "record": record,
                    }
                )
                + "\n"
            )


def _read_record(store: sqlite3.Connection, product: int) -> dict[str, Any]:
    """A product as a catalogue record."""
    names = ("product_id", "sku_id", "title", "category", "updated_at")
    lists = ("images", "tags", "attributes")
    values = store.execute(
        f"SELECT {', '.join(names + lists)} FROM products WHERE row = ?",
        (product,),
    ).fetchone()
    record = dict(zip(names + lists, values, strict=True))
    record |= {name: json.loads(record[name]) for name in lists}
    attributes = record.pop("attributes")
    known = {name: each for name, each in record.items() if each is not None}
    return attributes | known
