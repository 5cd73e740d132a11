"""The vectors of the pictures that are wanted, each embedded once.

wanted -> HashPictures (Beam; of those that the base has) -> to embed
    -> EmbedPictures (Beam) -> where each vector lies
"""

import hashlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import collect_embeddings
from beam_jobs.catalogue import embed_pictures
from beam_jobs.pipelines import runners
from beam_jobs.vectors import wanted
from sicot_tf import files
from sicot_tf.stores import local_folder

# Pictures of one Beam element.
_RANGE = 8192
_UNREAD = bytes(collect_embeddings.HASH_BYTES)
# In the work folder.
_LIST = pathlib.Path("embed", "pictures.sqlite")
_COMPARED = "compared"


class HashPicturesFn(beam.DoFn):
    """Reads a range of pictures that a base has, to tell which have changed.

    `compared` gets a SHA-256 a row; one that can't be read stays zero.
    """

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "images_compared"
        )

    def process(self, rows: tuple[int, int]) -> Iterator[None]:
        uri = (self._folder / wanted.FILE).as_uri()
        listed = sqlite3.connect(f"{uri}?mode=ro", uri=True)
        pictures = listed.execute(
            "SELECT row, path FROM wanted WHERE file = ? AND "
            "sequence IS NULL AND row >= ? AND row < ?",
            (wanted.BASE, *rows),
        ).fetchall()
        listed.close()
        with (self._folder / _COMPARED).open("r+b", buffering=0) as compared:
            for row, path in pictures:
                data = embed_pictures.read_picture(path)
                if isinstance(data, bytes):
                    digest = hashlib.sha256(data).digest()
                    place = row * collect_embeddings.HASH_BYTES
                    os.pwrite(compared.fileno(), digest, place)
                    self._num_read.inc()
        yield from ()


@beam.typehints.with_input_types(tuple[int, int])
@beam.typehints.with_output_types(None)
class HashPictures(beam.PTransform):
    """Ranges of rows of the list of wanted pictures to `compared`."""

    def __init__(self, folder: str):
        super().__init__()
        self._hash = HashPicturesFn(folder)

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        return ranges | "HashPictures" >> beam.ParDo(self._hash)


def embed(
    work: pathlib.Path,
    identity: dict[str, Any],
    saved_model: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
) -> dict[str, int]:
    """Embeds what no other vector stands for; returns Beam's counters.

    A killed job goes on with the pictures it had not done.

    Args:
        work: holds the list of wanted pictures, where rows of the base and of
            live changes are noted; takes `embed`.
    """
    counters = {}
    if not has_begun(work):
        counters |= _compare(work, pipeline_options)
        _list_pictures(work)
    counters |= embed_pictures.embed(
        local_folder.LocalFolder(work / _LIST.parent),
        work / _LIST,
        saved_model,
        pipeline_options,
        identity["signature"],
    )
    _note(work, identity["dim"])
    return counters


def has_begun(work: pathlib.Path) -> bool:
    """Whether it is settled what is to be embedded, as far as it is done."""
    return (work / _LIST).exists()


def read_vectors(work: pathlib.Path, dim: int) -> np.ndarray:
    """`[n, dim]` float32, mapped: what `embed` has written."""
    path = work / _LIST.parent / "vectors"
    if not path.exists() or not path.stat().st_size:
        return np.empty((0, dim), np.float32)
    return np.memmap(path, "<f4", "r").reshape(-1, dim)


def _compare(
    work: pathlib.Path, pipeline_options: beam_options.PipelineOptions
) -> dict[str, int]:
    """Notes which pictures of the base are still the same.

    One that can't be read keeps the vector it has: pictures are not lost
    because a disk is away for a day.
    """
    with wanted.opened(work / wanted.FILE) as listed:
        count, of_base = listed.execute(
            "SELECT ifnull(max(row) + 1, 0), count(*) FILTER "
            "(WHERE file = ? AND sequence IS NULL) FROM wanted",
            (wanted.BASE,),
        ).fetchone()
    if not of_base:
        return {}
    with (work / _COMPARED).open("wb") as file:
        file.truncate(count * collect_embeddings.HASH_BYTES)
    ranges = [(n, min(n + _RANGE, count)) for n in range(0, count, _RANGE)]
    counters = runners.run_each(
        pipeline_options, ranges, HashPictures(str(work))
    )
    with wanted.opened(work / wanted.FILE) as listed:
        changed = []
        digests = _Digests(work / _COMPARED)
        for row, content in listed.execute(
            "SELECT row, content FROM wanted WHERE file = ? AND "
            "sequence IS NULL",
            (wanted.BASE,),
        ):
            if digests[row] != content and digests[row] != _UNREAD.hex():
                changed.append((row,))
        listed.executemany(
            "UPDATE wanted SET file = NULL, place = NULL, content = NULL "
            "WHERE row = ?",
            changed,
        )
    return dict(counters) | {"images_changed": len(changed)}


def _list_pictures(work: pathlib.Path) -> None:
    """What has no vector yet, as the work list of `embed_pictures`."""
    (work / _LIST).parent.mkdir(exist_ok=True)
    with files.replacing(work / _LIST) as path:
        todo = sqlite3.connect(path)
        todo.execute("PRAGMA journal_mode = OFF")
        todo.execute(
            "CREATE TABLE pictures (row INTEGER PRIMARY KEY, wanted INTEGER, "
            "path TEXT)"
        )
        todo.execute("ATTACH ? AS listed", (str(work / wanted.FILE),))
        todo.execute(
            "INSERT INTO pictures SELECT row_number() OVER (ORDER BY row) - 1, "
            "row, path FROM listed.wanted WHERE file IS NULL AND "
            "reason IS NULL"
        )
        todo.commit()
        todo.close()


def _note(work: pathlib.Path, dim: int) -> None:
    """Where the embedded vectors lie, of what they are, what has none."""
    folder = work / _LIST.parent
    embedded = collect_embeddings.gather(
        local_folder.LocalFolder(folder), work / _LIST, folder, dim
    )
    digests = _Digests(folder / "hashes")
    todo = sqlite3.connect(work / _LIST)
    with wanted.opened(work / wanted.FILE) as listed:
        listed.executemany(
            "UPDATE wanted SET content = ?, file = ?, place = ?, "
            "reason = NULL, message = NULL WHERE row = ?",
            (
                (digests[row], wanted.EMBEDDED, row, place)
                for row, place in todo.execute(
                    "SELECT row, wanted FROM pictures ORDER BY row"
                )
                if embedded[row]
            ),
        )
        listed.executemany(
            "UPDATE wanted SET reason = ?, message = ? WHERE row = ?",
            todo.execute(
                "SELECT reason, message, wanted FROM bad JOIN pictures "
                "USING (row) ORDER BY row"
            ),
        )
    todo.close()


class _Digests:
    """SHA-256 in hex by row, of a file that is mapped."""

    def __init__(self, path: pathlib.Path):
        size = path.stat().st_size
        self._bytes = np.memmap(path, np.uint8, "r") if size else b""

    def __getitem__(self, row: int) -> str:
        start = row * collect_embeddings.HASH_BYTES
        stop = start + collect_embeddings.HASH_BYTES
        return bytes(self._bytes[start:stop]).hex()
