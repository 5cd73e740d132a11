"""Builds a generation of the product index from catalogue records.

    catalogue files -> ParseCatalogue (Beam) -> latest record of each product
        (DuckDB) -> products.sqlite [-> EmbedPictures (Beam) -> embeddings.npy]
        -> INDEX/<date>-<id>/, INDEX/LATEST

Equal input and settings give equal bytes, whatever the number of processes;
only `run.json` differs. `sicot_tf.catalogue.product_index` reads the result.
"""

import collections
import datetime
import logging
import os
import pathlib
import posixpath

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library, and the version stands in the file.
import sqlite3  # noqa: F401
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow.parquet as pq
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import embed_pictures
from beam_jobs.catalogue import merge_products
from beam_jobs.catalogue import parse_catalogue
from beam_jobs.catalogue import retention
from beam_jobs.catalogue.identity import Settings
from beam_jobs.catalogue.identity import find_base
from beam_jobs.catalogue.identity import identify
from beam_jobs.catalogue.identity import is_same_delta
from beam_jobs.catalogue.identity import name_of
from beam_jobs.catalogue.report import count_rejects
from beam_jobs.catalogue.report import count_store
from beam_jobs.catalogue.report import write
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

_log = logging.getLogger(__name__)

# In the work folder: the pictures to embed.
_PICTURES = pathlib.Path("embeddings", "pictures.sqlite")


def build(
    inputs: Sequence[str],
    index: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    *,
    max_shrink_percent: float = 20,
    keep: int = 7,
) -> pathlib.Path:
    """Builds a generation in `index` and points `index/LATEST` to it.

    A generation that is there already is not built again. Nothing of a new
    one is visible before it is complete; a killed build goes on where it was.

    Args:
        inputs: paths or globs of catalogue files.
        index: folder of the generations.
        pipeline_options: for both pipelines, from
            `runners.make_pipeline_options`.
        max_shrink_percent: of the products of `LATEST`; 100 allows all.
        keep: how many generations remain.

    Returns:
        The folder of the generation.

    Raises:
        retention.ShrinkError: if too many products would be gone.
        ValueError: if a setting does not fit or a file can't be read.
    """
    datetime.date.fromisoformat(settings.date)
    with generations.only_builder(index):
        generation = _build(
            inputs, index, settings, pipeline_options, max_shrink_percent
        )
        retention.remove_old(index, keep)
    return generation


def _build(
    inputs: Sequence[str],
    index: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    max_shrink_percent: float,
) -> pathlib.Path:
    seconds: dict[str, float] = {}
    with progress.stage("fingerprints", seconds):
        catalogue = record_files.find_record_files(inputs)
        record_files.check_encodings(
            catalogue, settings.encoding, what="catalogue file"
        )
        base = find_base(index, settings)
        identity = identify(catalogue, settings, base)
    # After a delta LATEST is what this very command has built.
    if settings.mode == "delta" and settings.base is None:
        if is_same_delta(base, identity):
            _log.info("%s is already built", base)
            return base
    generation = index / name_of(identity)
    if generation.exists():
        _take_up(generation, max_shrink_percent)
        return generation
    with generations.work_folder(index, generation.name) as work:
        # Only this process builds here: the others were killed.
        generations.remove_abandoned(index, "*")
        for folder in ("parts", "spill", "embeddings"):
            (work / folder).mkdir(exist_ok=True)
        finished = generations.result_folder(work)
        with progress.stage("check records", seconds):
            parts, counters = _parse(
                catalogue, work, settings, pipeline_options
            )
        counts = _merge(
            catalogue, parts, work, settings, base, max_shrink_percent, seconds
        )
        files.join(
            (part["rejects"] for part in parts),
            finished / parse_catalogue.REJECTS,
        )
        if settings.saved_model is not None:
            with progress.stage("embed pictures", seconds):
                dim = identity["embeddings"]["dim"]
                folder = work / _PICTURES.parent
                counters += embed_pictures.embed(
                    folder, settings.saved_model, dim, pipeline_options
                )
                counts |= embed_pictures.collect(folder, finished, dim, base)
        with progress.stage("report", seconds):
            _describe(finished, identity, counts, settings)
        _write_run(finished, counts, counters, seconds)
        generations.publish(finished, generation)
        generations.point_latest(generation)
    return generation


def _take_up(generation: pathlib.Path, max_shrink_percent: float) -> None:
    """Points LATEST to a generation that is built."""
    generations.check_complete(generation)
    manifest = files.read_json(generation / generations.MANIFEST)
    retention.check_shrink(
        generation.parent, manifest["counts"]["products"], max_shrink_percent
    )
    _log.info("%s is already built", generation)
    generations.point_latest(generation)


def _parse(
    catalogue: Sequence[record_files.RecordFile],
    work: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
) -> tuple[list[dict[str, pathlib.Path]], collections.Counter[str]]:
    """Checks all records; returns the files of each part, and counters."""
    counters = runners.run_each(
        pipeline_options,
        [
            (n, os.fsencode(file.path), file.name)
            for n, file in enumerate(catalogue)
        ],
        parse_catalogue.ParseCatalogue(str(work / "parts"), settings.encoding),
    )
    parts = [
        parse_catalogue.part_files(work / "parts", n)
        for n in range(len(catalogue))
    ]
    return parts, counters


def _merge(
    catalogue: Sequence[record_files.RecordFile],
    parts: Sequence[dict[str, pathlib.Path]],
    work: pathlib.Path,
    settings: Settings,
    base: pathlib.Path | None,
    max_shrink_percent: float,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Writes the store of the latest records; returns what they count."""
    with parquet_tables.plain_name(work) as plain:
        with progress.stage("latest records", seconds):
            row_files = [
                plain / "parts" / part["products"].name for part in parts
            ]
            if base is not None:
                row_files.append(plain / "base.parquet")
                merge_products.export_base(base, row_files[-1])
            rows = merge_products.open_rows(row_files, plain / "spill")
            counts = _count(rows, parts)
        retention.check_shrink(
            work.parent, counts["products"], max_shrink_percent
        )
        with progress.stage("write the store", seconds):
            merge_products.write_store(
                rows,
                work / "generation" / product_index.STORE,
                folders=[
                    settings.image_root or posixpath.dirname(file.path)
                    for file in catalogue
                ],
                pictures=work / _PICTURES if settings.saved_model else None,
                base=base,
            )
            rows.close()
    return counts


def _describe(
    finished: pathlib.Path,
    identity: dict[str, Any],
    counts: dict[str, Any],
    settings: Settings,
) -> None:
    """Adds to the counts; writes the report and the manifest."""
    counts |= count_store(finished)
    counts["rejects"] = count_rejects(finished / parse_catalogue.REJECTS)
    write(finished, counts, settings.labels)
    files.write_json(
        finished / generations.MANIFEST,
        {
            **identity,
            "counts": counts,
            "files": generations.describe_files(finished),
        },
    )


def _write_run(
    finished: pathlib.Path,
    counts: dict[str, Any],
    counters: collections.Counter[str],
    seconds: dict[str, float],
) -> None:
    """What no two runs have in common."""
    files.write_json(
        finished / generations.RUN,
        {
            "built_at": retention.now(),
            "seconds": {k: round(v, 2) for k, v in seconds.items()},
            "records_per_second": round(
                counts["records_read"] / sum(seconds.values()), 1
            ),
            "beam_counters": counters,
            **runners.describe_machine(),
        },
    )


def _count(
    rows: duckdb.DuckDBPyConnection, parts: Sequence[dict[str, pathlib.Path]]
) -> dict[str, Any]:
    """What became of each record.

    `records_read` is the sum of `records_rejected`, `records_superseded` (a
    later record of the product counts), `tombstones` and
    `products_from_input`.
    """
    counts = collections.Counter(merge_products.count_rows(rows))
    for part in parts:
        metadata = pq.read_metadata(part["products"]).metadata
        counts["records_read"] += int(metadata[b"read"])
        counts["records_rejected"] += int(metadata[b"rejected"])
    counts["products"] = (
        counts["products_from_input"] + counts["products_from_base"]
    )
    return dict(counts)
