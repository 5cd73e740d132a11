"""Re-reads a whole dataset generation and says what is wrong with it.

    manifest.json -> CheckShards (Beam, a shard at a time) -> facts of every
    record, on disk -> checks over all shards (DuckDB, out of core) -> table

A worker holds a batch of records, the classes, the vocabulary and a shard's
offsets; of a generation on a store it copies a shard at a time. The facts
(about 75 bytes a record) lie in the folder for temporary files (TMPDIR), which
on a cluster all workers have to see; beside a generation on a store they go
through a hidden folder there. DuckDB holds 1 GB of them at most and spills
what is more to the folder for temporary files.
"""

import collections
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.pipelines import meeting_place
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.records import parquet_tables
from beam_jobs.validation import check_files
from beam_jobs.validation import check_records
from beam_jobs.validation import check_shards
from beam_jobs.validation import table
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_MEMORY_MEGABYTES = 1000
_OF_SHARDS = (".tfrecord", ".offsets.npy")


def validate(
    source: locations.Location,
    pipeline_options: beam_options.PipelineOptions,
    *,
    decode_images: bool = False,
) -> dict[str, Any]:
    """Checks a generation; changes nothing in it.

    Args:
        source: its folder, here or on a store.
        pipeline_options: from `runners.make_pipeline_options`.
        decode_images: decodes every picture whole, not its header only.

    Returns:
        `ok`, `generation`, `records` that were read, and `checks`: by name
        `wrong` (how often), `examples` (at most five) and, where it was not
        made, `skipped` (why).
    """
    findings = check_files.Findings()
    skipped: dict[str, str] = {}
    num_records = 0
    names = [
        entry.key for entry in opening.open_folder(source).list(is_deep=False)
    ]
    shards = [name for name in names if name.endswith(_OF_SHARDS)]
    with local_copies.local_files(
        source, sorted({*names} - {*shards})
    ) as generation:
        manifest = _read_manifest(generation, findings)
        if manifest is None:
            for check in list(table.CHECKS)[1:]:
                skipped[check] = "there is no manifest to go by"
        else:
            if manifest["config"].get("duplicates") == "keep":
                skipped["overlap"] = "it was built with --duplicates keep"
            with (
                tempfile.TemporaryDirectory(
                    prefix="validate_dataset_"
                ) as folder,
                parquet_tables.plain_name(pathlib.Path(folder)) as work,
            ):
                check_files.check_other_files(
                    generation, manifest, _stems(manifest), shards, findings
                )
                _check_shards(
                    *(source, manifest, work, pipeline_options, decode_images)
                )
                num_records = _check(
                    *(generation, manifest, work, findings, skipped)
                )
    return {
        "generation": locations.name(source),
        "ok": not findings.counts,
        "records": num_records,
        "checks": {
            check: {
                "wrong": findings.counts[check],
                "examples": findings.examples.get(check, []),
                **({"skipped": skipped[check]} if check in skipped else {}),
            }
            for check in table.CHECKS
        },
    }


def _read_manifest(
    generation: pathlib.Path, findings: check_files.Findings
) -> dict[str, Any] | None:
    """The manifest, if it has all that the checks go by."""
    try:
        manifest = dataset.read_manifest(generation)
        for name in ("config", "counts", "files", "long_tail"):
            manifest[name].items()
        for name in ("num_classes", "vocabulary_size", "word_vector_dim"):
            int(manifest[name])
        for split in records.SPLITS:
            manifest["splits"][split]["shards"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings.add("manifest", f"{generations.MANIFEST}: {error!r:.200}")
        return None
    return manifest


def _stems(manifest: dict[str, Any]) -> list[str]:
    return [
        stem
        for split in records.SPLITS
        for stem in sorted(manifest["splits"][split]["shards"])
    ]


def _check_shards(
    source: locations.Location,
    manifest: dict[str, Any],
    work: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    decode_images: bool,
) -> None:
    """The facts of all shards, and what is wrong with each, in work/facts."""
    if not locations.is_remote(source):
        source = source.absolute()  # Workers have other working folders.
    stems = _stems(manifest)
    (work / "facts").mkdir()
    with meeting_place.meeting_place(
        work / "facts", locations.parent(source), pipeline_options
    ) as facts:
        with progress.watch(
            "Shards",
            facts,
            "*.json",
            total=len(stems),
            count=lambda _: {"done": 1},
            unit="shards",
        ):
            runners.run_each(
                pipeline_options,
                stems,
                check_shards.CheckShards(source, facts.location, decode_images),
            )
        if locations.is_remote(facts.location):
            for entry in facts.list():
                facts.download(entry.key, work / "facts" / entry.key)


def _check(
    generation: pathlib.Path,
    manifest: dict[str, Any],
    work: pathlib.Path,
    findings: check_files.Findings,
    skipped: dict[str, str],
) -> int:
    """The checks over all shards; returns the records read."""
    facts = work / "facts"
    num_records = _merge_shards(facts, manifest, findings)
    classes = check_files.read_classes(generation / "classes.jsonl", findings)
    with duckdb.connect(
        config={
            "memory_limit": f"{_MEMORY_MEGABYTES}MB",
            "temp_directory": str(work / "spill"),
            "preserve_insertion_order": "false",
        }
    ) as database:
        if _stems(manifest):
            content = parquet_tables.read_parquet(work / "facts", "*.parquet")
            database.execute(f"create view facts as select * from {content}")
            _check_record_ids(database, findings)
            if "overlap" not in skipped:
                _check_overlap(database, findings)
            _check_class_counts(database, classes, findings)
            try:
                check_records.check(
                    database, generation, manifest, work, findings
                )
            except ValueError as error:
                skipped["records"] = str(error)
    check_files.check_classes(classes, manifest, findings)
    check_files.check_words(generation, manifest, findings)
    check_files.check_rejects(generation, manifest, findings)
    return num_records


def _merge_shards(
    facts: pathlib.Path,
    manifest: dict[str, Any],
    findings: check_files.Findings,
) -> int:
    """Adds what was found in the shards; compares the manifest's counts."""
    total = 0
    for split in records.SPLITS:
        described = manifest["splits"][split]
        in_split = collections.Counter()
        for stem, expected in sorted(described["shards"].items()):
            summary = files.read_json(facts / f"{stem}.json")
            findings.merge(
                check_files.Findings(
                    collections.Counter(summary["counts"]), summary["examples"]
                )
            )
            for name in ("records", "titles_without_words"):
                in_split[name] += summary[name]
            if summary["records"] != expected:
                findings.add(
                    "counts",
                    f"{stem} has {summary['records']:,} good records, "
                    f"{expected:,} by the manifest",
                )
        total += in_split["records"]
        for name, expected in (
            ("records", described.get("records")),
            ("titles_without_words", described.get("titles_without_words")),
            ("records", manifest["counts"].get("written", {}).get(split)),
        ):
            if in_split[name] != expected:
                findings.add(
                    "counts",
                    f"{split} has {in_split[name]:,} {name}, {expected} by "
                    "the manifest",
                )
    return total


def _check_record_ids(
    database: duckdb.DuckDBPyConnection, findings: check_files.Findings
) -> None:
    for record_id, count, first, last in _find_groups(
        database, "record_id", "count(*) > 1"
    ):
        findings.add(
            "record_ids",
            f"{record_id.decode(errors='replace')!r} stands {count} times, "
            f"first in {first}, last in {last}",
        )


def _check_overlap(
    database: duckdb.DuckDBPyConnection, findings: check_files.Findings
) -> None:
    for digest, count, first, last in _find_groups(
        database,
        "image_sha256",
        "bool_or(split = 'train') and bool_or(split != 'train')",
    ):
        findings.add(
            "overlap",
            f"SHA-256 {digest.hex()} stands {count} times, among them in "
            f"{first} and {last}",
        )


def _find_groups(
    database: duckdb.DuckDBPyConnection, column: str, condition: str
) -> Iterator[tuple[Any, int, str, str]]:
    """Values whose records fulfil a condition, their number, two places."""
    # Grouped by a hash first: 8 bytes a record where ids may be long.
    rows = database.execute(
        f"""with suspects as (
          select hash({column}) as h from facts group by h having {condition})
        select {column}, count(*), min(place), max(place) from facts
        where hash({column}) in (select h from suspects)
        group by {column} having {condition} order by {column}"""
    )
    while chunk := rows.fetchmany(1000):
        yield from chunk


def _check_class_counts(
    database: duckdb.DuckDBPyConnection,
    classes: check_files.Classes,
    findings: check_files.Findings,
) -> None:
    """Records of each class and split against classes.jsonl."""
    found = np.zeros_like(classes.counts)
    for column, split in enumerate(records.SPLITS):
        counted = database.execute(
            """select label, count(*) as count from facts
            where split = ? and label between 0 and ? group by label""",
            [split, len(found) - 1],
        ).fetchnumpy()
        found[counted["label"], column] = counted["count"]
    for label in np.flatnonzero(np.any(found != classes.counts, axis=1)):
        findings.add(
            "counts",
            f"class {classes.sku_ids[label]!r} has {found[label].tolist()} "
            f"records in {', '.join(records.SPLITS)}, "
            f"{classes.counts[label].tolist()} by classes.jsonl",
        )
