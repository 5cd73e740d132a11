"""The pictures of products, measured a part at a time.

A part's Parquet file appears once all of it is measured, so that a killed job
need not do it again.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.features import picture_quality
from beam_jobs.pipelines import runners
from beam_jobs.records import record_pictures
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.stores import folder as folders

SCHEMA = pa.schema(
    [
        *((name, pa.float32()) for name in picture_quality.NAMES),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)


def part_path(folder: pathlib.Path, part: int) -> pathlib.Path:
    """The file of a part: as many rows, in the same order."""
    return folder / f"pictures-{part:06d}.parquet"


class MeasurePartFn(beam.DoFn):
    """A row group of the products to the file of its part; yields nothing."""

    def __init__(self, products: str, folder: str):
        self._products = products
        self._folder = pathlib.Path(folder)
        self._num_measured = Metrics.counter(
            runners.METRICS_NAMESPACE, "pictures_measured"
        )

    def process(self, part: int) -> Iterator[None]:
        path = part_path(self._folder, part)
        if path.exists():
            return
        with pq.ParquetFile(self._products) as products:
            paths = products.read_row_group(part, ["path"])["path"]
        rows = [_measure(each) for each in paths.to_pylist()]
        with files.replacing(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)
        self._num_measured.inc(sum(row["reason"] is None for row in rows))
        yield from ()


def _measure(path: str | None) -> dict[str, Any]:
    """A row of `SCHEMA`; a product without a picture has nulls alone."""
    nothing = dict.fromkeys(SCHEMA.names)
    if path is None:
        return nothing
    try:
        return nothing | picture_quality.measure(record_pictures.read(path))
    except records.RecordError as error:
        return nothing | {"reason": error.reason, "message": str(error)}
    except folders.StoreError:
        raise
    except Exception as error:  # One picture must not end the job.
        message = f"{type(error).__name__}: {error}"
        return nothing | {"reason": "unexpected_error", "message": message}


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(None)
class MeasurePictures(beam.PTransform):
    """Numbers of row groups to `part_path` files; finished ones stay."""

    def __init__(self, products: str, folder: str):
        super().__init__()
        self._measure_part = MeasurePartFn(products, folder)

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        return parts | "MeasurePart" >> beam.ParDo(self._measure_part)
