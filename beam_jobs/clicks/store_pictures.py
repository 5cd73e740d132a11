"""Second pipeline of `mine_clicks`: pictures to checked, small JPEGs.

A picture of many triplets is read once. The table of a part appears last and
marks it as finished.
"""

import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.pictures import stored_images
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.records import record_pictures
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data.decoding import image_decoders
from sicot_tf.stores import local_folder

# A picture in the JPEGs of its part, or what is wrong with it.
PICTURE_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "jpegs": pa.string(),
        "offset": pa.int64(),
        "length": pa.int32(),
        "reason": pa.string(),
        "message": pa.string(),
    }
)
# Pictures of a part.
_PART = 1000
_QUALITY = 90
_MIN_SIDE = 16

# Name of a part, paths of its pictures.
PicturePart = tuple[str, list[str]]


class StorePicturesFn(beam.DoFn):
    """A `PicturePart` to `<name>.jpegs` and `<name>.parquet`."""

    def __init__(self, folder: str, image_size: int):
        self._folder = pathlib.Path(folder)
        self._image_size = image_size
        self._num_stored = Metrics.counter(
            runners.METRICS_NAMESPACE, "pictures_stored"
        )

    def process(self, part: PicturePart) -> Iterator[None]:
        name, paths = part
        table_path = self._folder / f"{name}.parquet"
        if table_path.exists():
            return
        jpegs = f"{name}.jpegs"
        rows, offset = [], 0
        with (
            files.replacing(self._folder / jpegs) as temporary,
            temporary.open("wb") as file,
        ):
            for path in paths:
                row = dict.fromkeys(PICTURE_SCHEMA.names) | {"path": path}
                try:
                    data = self._read(path)
                    row |= {"jpegs": jpegs, "offset": offset}
                    row["length"] = len(data)
                    file.write(data)
                    offset += len(data)
                except records.RecordError as error:
                    row |= {"reason": error.reason, "message": str(error)}
                rows.append(row)
        with files.replacing(table_path) as temporary:
            pq.write_table(
                pa.Table.from_pylist(rows, PICTURE_SCHEMA), temporary
            )
        self._num_stored.inc(len(rows))
        yield from ()

    def _read(self, path: str) -> bytes:
        return stored_images.to_stored_image(
            record_pictures.read(path),
            image_size=self._image_size,
            jpeg_quality=_QUALITY,
            min_image_side=_MIN_SIDE,
            max_image_pixels=image_decoders.MAX_PIXELS,
        ).jpeg


@beam.typehints.with_input_types(PicturePart)
@beam.typehints.with_output_types(None)
class StorePictures(beam.PTransform):
    """Parts of pictures to JPEGs and tables; finished ones stay."""

    def __init__(self, folder: str, image_size: int):
        super().__init__()
        self._store = StorePicturesFn(folder, image_size)

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        return parts | "StorePart" >> beam.ParDo(self._store)


def store(
    paths: Sequence[str],
    folder: pathlib.Path,
    kind: str,
    image_size: int,
    run_each: Callable[..., Any],
) -> list[pathlib.Path]:
    """Stores pictures, in their order; returns the tables of the parts.

    Args:
        kind: begins the names of the parts.
        image_size: the shorter side is reduced to it.
        run_each: as `runners.run_each`, of its inputs and the transform.
    """
    parts = [
        (f"{kind}-{first // _PART:06d}", list(paths[first : first + _PART]))
        for first in range(0, len(paths), _PART)
    ]
    with progress.watch(
        "Pictures",
        local_folder.LocalFolder(folder),
        f"{kind}-*.parquet",
        total=len(paths),
        count=lambda key: {"done": pq.read_metadata(folder / key).num_rows},
        unit="pictures",
    ):
        run_each(parts, StorePictures(str(folder), image_size))
    return [folder / f"{name}.parquet" for name, _ in parts]
