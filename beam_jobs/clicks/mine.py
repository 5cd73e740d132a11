"""Mines training triplets from click logs and a catalogue.

    click logs -> ParseClicks (Beam)         catalogue -> ParseCatalogue (Beam)
        -> pages, robots, examination, triplets (DuckDB)
        -> StorePictures (Beam) [-> near products of the vector index]
        -> WriteShards (Beam) -> OUTPUT/<generation>/, OUTPUT/LATEST

Equal input and settings give equal bytes, whatever the number of processes;
only `run.json` differs.
"""

import dataclasses
import datetime
import functools
import logging
import os
import pathlib
import posixpath
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import duckdb
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import catalogue_parts
from beam_jobs.catalogue import parse_catalogue
from beam_jobs.clicks import estimate
from beam_jobs.clicks import hard_negatives
from beam_jobs.clicks import log
from beam_jobs.clicks import outcome
from beam_jobs.clicks import parse_clicks
from beam_jobs.clicks import plan_shards
from beam_jobs.clicks import store_pictures
from beam_jobs.clicks import triplets
from beam_jobs.clicks import write_shards
from beam_jobs.clicks.settings import Settings
from beam_jobs.clicks.settings import identify
from beam_jobs.clicks.settings import name_of
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.data import generations

_log = logging.getLogger(__name__)


def mine(
    clicks: Sequence[str],
    catalogue: Sequence[str],
    output: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
) -> pathlib.Path:
    """Mines a generation into `output` and points `output/LATEST` to it.

    A generation that is there already is not mined again. Nothing of a new
    one is visible before it is complete; a killed job goes on where it was.

    Args:
        clicks: paths or globs of click logs.
        catalogue: paths or globs of catalogue files.
        pipeline_options: from `runners.make_pipeline_options`.

    Returns:
        The folder of the generation.

    Raises:
        ValueError: if a file can't be read or there is no triplet for
            training.
    """
    click_files = record_files.find_record_files(clicks)
    catalogue_files = record_files.find_record_files(catalogue)
    for found, what in (
        (click_files, "click log"),
        (catalogue_files, "catalogue file"),
    ):
        record_files.check_encodings(found, settings.encoding, what=what)
    identity = identify(click_files, catalogue_files, settings)
    generation = output / name_of(identity)
    with generations.only_builder(output):
        if generation.exists():
            generations.check_complete(generation)
            _log.info("%s is already mined", generation)
        else:
            with generations.work_folder(output, generation.name) as work:
                generations.remove_abandoned(output, "*")
                with runners.local_processes(pipeline_options) as processes:
                    job = _Job(
                        work,
                        click_files,
                        catalogue_files,
                        settings,
                        functools.partial(
                            runners.run_each,
                            pipeline_options,
                            processes=processes,
                        ),
                    )
                    job.run(identity)
                generations.publish(work / "generation", generation)
        generations.point_latest(generation)
    return generation


class _Job:
    """One generation in its work folder."""

    def __init__(
        self,
        work: pathlib.Path,
        clicks: Sequence[record_files.RecordFile],
        catalogue: Sequence[record_files.RecordFile],
        settings: Settings,
        run_each: Callable[..., Any],
    ):
        self._work = work
        self._clicks = clicks
        self._catalogue = catalogue
        self._settings = settings
        self._run_each = run_each
        self._seconds: dict[str, float] = {}
        for folder in ("parts", "spill", "pictures", "shards"):
            (work / folder).mkdir(exist_ok=True)
        self._finished = generations.result_folder(work)

    def run(self, identity: dict[str, Any]) -> None:
        """Writes all files of the generation, the manifest last."""
        with progress.stage("read the logs and the catalogue", self._seconds):
            self._parse()
        with parquet_tables.plain_name(self._work) as plain:
            with progress.stage("pages, robots and triplets", self._seconds):
                database, found = self._choose(plain)
            with progress.stage("pictures", self._seconds):
                tables = self._store(triplets.pictures(database), "shown")
                if self._settings.vector_index is not None:
                    tables += self._add_hard(database, tables)
            with progress.stage("plan", self._seconds):
                pictures = outcome.Pictures(tables)
                dropped = triplets.drop_unreadable(
                    database, pictures.unreadable
                )
                shards = plan_shards.plan(
                    database,
                    tables,
                    plain / "shards",
                    places=found.places,
                    max_weight=self._settings.max_weight,
                    shard_triplets=self._settings.shard_triplets,
                    seed=self._settings.seed,
                )
                self._write_rejects(database, pictures)
                report = outcome.report(
                    database,
                    num_read=self._num_read(),
                    rejects=self._finished / parse_catalogue.REJECTS,
                )
            database.close()
        report |= {"dropped_for_pictures": dropped, "shards": shards}
        report["examination"] = dataclasses.asdict(found)
        with progress.stage("write triplets", self._seconds):
            self._run_each(
                sorted(shards),
                write_shards.WriteShards(
                    *(
                        str(self._work / folder)
                        for folder in ("shards", "pictures", "generation")
                    )
                ),
            )
        self._describe(identity, report)

    def _parse(self) -> None:
        parts = str(self._work / "parts")
        encoding = self._settings.encoding
        for found, transform in (
            (self._clicks, parse_clicks.ParseClicks(parts, encoding)),
            (self._catalogue, catalogue_parts.ParseCatalogue(parts, encoding)),
        ):
            self._run_each(
                [
                    (number, os.fsencode(file.path), file.name)
                    for number, file in enumerate(found)
                ],
                transform,
            )

    def _choose(
        self, plain: pathlib.Path
    ) -> tuple[duckdb.DuckDBPyConnection, estimate.Estimate]:
        """The database, and how often each place is looked at."""
        settings = self._settings
        parts = plain / "parts"
        database = log.open_log(
            catalogue_parts.products_in(parts),
            [
                parse_clicks.part_files(parts, n)["clicks"]
                for n in range(len(self._clicks))
            ],
            _folders(self._clicks),
            plain / "spill",
            seed=settings.seed,
            val_share=settings.val_share,
            max_pages_per_hour=settings.max_pages_per_hour,
            max_clicks_per_hour=settings.max_clicks_per_hour,
        )
        found = estimate.estimate(database, settings.examination)
        triplets.choose(
            database,
            _folders(self._catalogue),
            seed=settings.seed,
            negatives=settings.negatives,
            below=settings.below,
        )
        return database, found

    def _store(self, paths: Sequence[str], kind: str) -> list[pathlib.Path]:
        return store_pictures.store(
            paths,
            self._work / "pictures",
            kind,
            self._settings.image_size,
            self._run_each,
        )

    def _add_hard(
        self,
        database: duckdb.DuckDBPyConnection,
        tables: Sequence[pathlib.Path],
    ) -> list[pathlib.Path]:
        """Adds hard negatives; returns the tables of more pictures."""
        seen = outcome.Pictures(tables)
        queries = triplets.queries(database)
        more = self._store([q for q in queries if q not in seen], "queries")
        seen = outcome.Pictures([*tables, *more])
        hits = hard_negatives.find(
            self._work / "pictures",
            {q: seen.places[q] for q in queries if q in seen.places},
            self._settings.vector_index,
            self._settings.saved_model,
        )
        triplets.add_hard(database, hits, hard=self._settings.hard_negatives)
        new = [p for p in triplets.pictures(database) if p not in seen]
        return [*more, *self._store(new, "hard")]

    def _num_read(self) -> int:
        return sum(
            parse_clicks.num_read(self._work / "parts", n)
            for n in range(len(self._clicks))
        )

    def _write_rejects(
        self,
        database: duckdb.DuckDBPyConnection,
        pictures: "outcome.Pictures",
    ) -> None:
        parts = self._work / "parts"
        late = self._work / "late.rejects.jsonl"
        outcome.write_late_rejects(
            database, pictures, [each.name for each in self._clicks], late
        )
        files.join(
            [
                *(
                    parse_clicks.part_files(parts, n)["rejects"]
                    for n in range(len(self._clicks))
                ),
                late,
            ],
            self._finished / parse_catalogue.REJECTS,
        )
        pictures.write(self._finished / outcome.BAD_PICTURES)

    def _describe(
        self, identity: dict[str, Any], report: dict[str, Any]
    ) -> None:
        files.write_json(self._finished / outcome.REPORT, report)
        files.write_json(
            self._finished / generations.MANIFEST,
            {
                **identity,
                "examination": report["examination"]["places"],
                "counts": report["triplets"],
                "shards": report["shards"],
                "files": generations.describe_files(self._finished),
            },
        )
        now = datetime.datetime.now(datetime.UTC)
        files.write_json(
            self._finished / generations.RUN,
            {
                "built_at": now.isoformat(timespec="microseconds"),
                "seconds": {k: round(v, 2) for k, v in self._seconds.items()},
                "record_folders": {
                    file.name: posixpath.dirname(file.path)
                    for file in self._clicks
                },
                **runners.describe_machine(),
            },
        )


def _folders(found: Sequence[record_files.RecordFile]) -> list[str]:
    return [posixpath.dirname(file.path) for file in found]
