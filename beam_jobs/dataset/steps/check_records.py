"""Rows held to the contract of raw records."""

import json
import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import reject_lines
from beam_jobs.records import raw_records
from sicot_tf import config
from sicot_tf import files


class CheckRecordsFn(beam.DoFn):
    """A table of rows to one with what each says, or why it is rejected.

    `parts.ROWS_SCHEMA` to `parts.CHECKED_SCHEMA`, whose `image` is the whole
    path.
    """

    def __init__(self, dataset_config: config.DatasetConfig):
        self._config = dataset_config

    def process(self, table: pa.Table) -> Iterator[pa.Table]:
        rows = table.to_pylist()
        for row in rows:
            if row["reason"]:
                reject_lines.count(row["reason"])
                continue
            try:
                row.update(self._check(row))
            except Exception as error:  # One record must not end the job.
                row.update(reject_lines.describe(error))
        yield parts.of_part(rows, parts.CHECKED_SCHEMA, table)

    def _check(self, row: dict[str, Any]) -> dict[str, Any]:
        record = raw_records.parse_record(
            json.loads(row["content"]),
            title_field=self._config.title_field,
            strict=self._config.strict,
        )
        folder = os.fsdecode(row["folder"])
        image = raw_records.resolve_image(folder, record["image"])
        seed = self._config.seed
        split_by = record["group"] or record["record_id"]
        return {
            "image": os.fsencode(image),
            "source": record["source"] or "",
            "split_hash": files.stable_hash(seed, "split", split_by),
            "order_hash": files.stable_hash(seed, "order", record["record_id"]),
            **{
                name: record[name]
                for name in (
                    *("record_id", "sku_id", "sku_name", "title"),
                    *("split", "group", "box"),
                )
            },
        }
