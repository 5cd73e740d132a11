"""Builds a generation of the product index from catalogue records.

    catalogue files -> ParseCatalogue (Beam) -> latest record of each product
        (DuckDB) -> products.sqlite [-> EmbedPictures (Beam) -> embeddings.npy]
        -> INDEX/<date>-<id>/, INDEX/LATEST

INDEX is a folder on a disk or in an object store. What workers leave to each
other lies in `INDEX/.work-<date>-<id>`; what DuckDB and SQLite need is copied
to this machine. Equal input and settings give equal bytes, wherever INDEX is
and whatever the number of processes; only `run.json` differs.
`sicot_tf.catalogue.product_index` reads the result.
"""

import datetime
import functools
import logging
import pathlib
import posixpath

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library, and the version stands in the file.
import sqlite3  # noqa: F401
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import catalogue_parts
from beam_jobs.catalogue import collect_embeddings
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
from sicot_tf.data import publishing
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_log = logging.getLogger(__name__)

# In the work folder.
_PARTS, _EMBEDDINGS = "parts", "embeddings"
# In the scratch folder: the pictures to embed.
_PICTURES = "pictures.sqlite"


def build(
    inputs: Sequence[str],
    index: locations.Location,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    *,
    max_shrink_percent: float = 20,
    keep: int = 7,
) -> locations.Location:
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
    with publishing.only_builder(index):
        generation = _build(
            inputs, index, settings, pipeline_options, max_shrink_percent
        )
        retention.remove_old(index, keep)
    return generation


def _build(
    inputs: Sequence[str],
    index: locations.Location,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    max_shrink_percent: float,
) -> locations.Location:
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
            # What is left of a build that was killed after its end.
            publishing.remove_abandoned(index, "*")
            _log.info("%s is already built", base)
            return base
    name = name_of(identity)
    if retention.is_built(index, name):
        publishing.remove_abandoned(index, "*")
        _take_up(index, name, max_shrink_percent)
        return locations.join(index, name)
    with publishing.work_folder(index, name) as work, work.scratch() as scratch:
        # Only this process builds here: the others were killed.
        publishing.remove_abandoned(index, "*")
        finished = scratch / "generation"
        finished.mkdir()
        with progress.stage("check records", seconds):
            counters, counts = runners.sum_each(
                pipeline_options,
                catalogue_parts.inputs(catalogue),
                catalogue_parts.ParseCatalogue(
                    work.child(_PARTS).location, settings.encoding
                ),
                work,
            )
        with progress.stage("bring it together", seconds):
            parts = local_copies.at_hand(work.child(_PARTS), scratch / _PARTS)
            base_here = _base_here(base, settings, scratch)
        check_shrink = functools.partial(
            retention.check_shrink, index, max_shrink_percent=max_shrink_percent
        )
        counts |= _merge(
            *(catalogue, settings, parts, scratch, base_here),
            *(check_shrink, seconds),
        )
        files.join(
            catalogue_parts.rejects_in(parts),
            finished / parse_catalogue.REJECTS,
        )
        if settings.saved_model is not None:
            with progress.stage("embed pictures", seconds):
                place = work.child(_EMBEDDINGS)
                listed = scratch / _PICTURES
                counters += embed_pictures.embed(
                    *(place, listed, settings.saved_model, pipeline_options),
                    image_folders=sorted(
                        set(_image_folders(catalogue, settings))
                    ),
                )
                counts |= collect_embeddings.collect(
                    *(place, listed, finished),
                    identity["embeddings"]["dim"],
                    base_here,
                )
        with progress.stage("report", seconds):
            manifest = _describe(finished, identity, counts, settings)
        _write_run(finished, counts, counters, seconds)
        result = publishing.result_folder(index, work, name)
        for path in sorted(finished.iterdir()):
            result.upload(path, path.name)
        generation = publishing.publish(index, result, name, manifest)
        publishing.point_latest(index, name)
    return generation


def _take_up(
    index: locations.Location, name: str, max_shrink_percent: float
) -> None:
    """Points LATEST to a generation that is built."""
    retention.check_shrink(
        index,
        retention.read_manifest(index, name)["counts"]["products"],
        max_shrink_percent,
    )
    _log.info("%s is already built", locations.join(index, name))
    publishing.point_latest(index, name)


def _base_here(
    base: locations.Location | None, settings: Settings, scratch: pathlib.Path
) -> pathlib.Path | None:
    """The folder of the base, or a copy of what is needed of it."""
    if base is None:
        return None
    needed = [product_index.STORE]
    if settings.saved_model is not None:
        needed.append(product_index.EMBEDDINGS)
    return local_copies.at_hand(
        opening.open_folder(base), scratch / "base", needed
    )


def _image_folders(
    catalogue: Sequence[record_files.RecordFile], settings: Settings
) -> list[str]:
    """Where the relative pictures of each catalogue file are."""
    return [
        settings.image_root or posixpath.dirname(file.path)
        for file in catalogue
    ]


def _merge(
    catalogue: Sequence[record_files.RecordFile],
    settings: Settings,
    parts: pathlib.Path,
    scratch: pathlib.Path,
    base: pathlib.Path | None,
    check_shrink: Callable[[int], None],
    seconds: dict[str, float],
) -> dict[str, int]:
    """Writes store and list of pictures; returns what became of records."""
    with (
        parquet_tables.plain_name(parts) as plain_parts,
        parquet_tables.plain_name(scratch) as plain,
    ):
        with progress.stage("latest records", seconds):
            row_files = catalogue_parts.products_in(plain_parts)
            if base is not None:
                row_files.append(plain / "base.parquet")
                merge_products.export_base(base, row_files[-1])
            rows = merge_products.open_rows(row_files, plain / "spill")
            counts = merge_products.count_rows(rows)
            counts["products"] = (
                counts["products_from_input"] + counts["products_from_base"]
            )
        check_shrink(counts["products"])
        with progress.stage("write the store", seconds):
            merge_products.write_store(
                rows,
                scratch / "generation" / product_index.STORE,
                folders=_image_folders(catalogue, settings),
                pictures=scratch / _PICTURES if settings.saved_model else None,
                base=base,
            )
            rows.close()
    return counts


def _describe(
    finished: pathlib.Path,
    identity: dict[str, Any],
    counts: dict[str, Any],
    settings: Settings,
) -> dict[str, Any]:
    """Adds to the counts; writes the report; returns the manifest."""
    counts |= count_store(finished)
    counts["rejects"] = count_rejects(finished / parse_catalogue.REJECTS)
    labels = settings.labels
    if labels is not None:
        name = locations.name(labels)
        place = opening.open_folder(locations.parent(labels))
        here = local_copies.at_hand(place, finished.parent / "labels", [name])
        labels = here / name
    write(finished, counts, labels)
    return {
        **identity,
        "counts": counts,
        "files": generations.describe_files(finished),
    }


def _write_run(
    finished: pathlib.Path,
    counts: dict[str, Any],
    counters: Mapping[str, int],
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
