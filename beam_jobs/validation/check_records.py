"""Compares the records of a data set with the record files it came from.

All other checks trust what the build has made of its input; this one reads
the input again: a test record among the training ones is found here.
"""

import collections
import hashlib
import json
import pathlib
import posixpath
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

from beam_jobs.records import parquet_tables
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from beam_jobs.validation import check_files
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import records

# What a record and its stored form share; texts are compared by their hash.
TEXT_FIELDS = ("sku_id", "title", "source")
_SCHEMA = pa.schema(
    {
        "place": pa.string(),
        "record_id": pa.binary(),
        # The split as given; null where the build had to find one.
        "split": pa.string(),
        **{name: pa.binary(8) for name in TEXT_FIELDS},
    }
)
_AT_ONCE = 1000


def digest(text: bytes) -> bytes:
    """8 bytes that stand for a text."""
    return hashlib.blake2b(text, digest_size=8).digest()


def find_record_files(
    generation: pathlib.Path, manifest: Mapping[str, Any]
) -> list[record_files.RecordFile]:
    """The record files of a generation.

    Raises:
        ValueError: if one is not where it was, or is another one now.
    """
    try:
        run = files.read_json(generation / generations.RUN)
        folders = run["record_folders"]
        found = [
            record_files.RecordFile(
                posixpath.join(
                    folders[each["name"]], posixpath.basename(each["name"])
                ),
                each["name"],
            )
            for each in manifest["inputs"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError("run.json does not tell the record files") from error
    for file, each in zip(found, manifest["inputs"], strict=True):
        try:
            sha256 = record_files.sha256(file.path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file.path} can't be read") from error
        if sha256 != each["sha256"]:
            raise ValueError(f"{file.path} has changed since")
    return found


def check(
    database: duckdb.DuckDBPyConnection,
    generation: pathlib.Path,
    manifest: Mapping[str, Any],
    work: pathlib.Path,
    findings: check_files.Findings,
) -> None:
    """Compares id, split, class, title and source of every record.

    Args:
        database: has the view `facts` of what is stored.
        work: a `parquet_tables.plain_name`.

    Raises:
        ValueError: if the record files are not there to compare with.
    """
    files = find_record_files(generation, manifest)
    rejected = _rejected_places(generation / "rejects.jsonl")
    path = work / "records.parquet"
    with parquet_tables.TableWriter(path, _SCHEMA) as table:
        for row in _read_records(files, manifest["config"], rejected):
            table.add(row)
    # A record of the frozen test may be given to another split.
    may_be = "'test'" if "frozen_test_sha256" in manifest else "null"
    differs = " or ".join(
        [
            "f.record_id is null",
            f"(r.split != f.split and f.split is distinct from {may_be})",
            *(f"r.{name} != f.{name}" for name in TEXT_FIELDS),
        ]
    )
    _tell(
        database,
        f"""select r.record_id, r.place, f.place, r.split,
          {", ".join(f"r.{name} = f.{name}" for name in TEXT_FIELDS)}
        from {parquet_tables.read_parquet(work, path.name)} as r
        left join facts as f on f.record_id = r.record_id
        where {differs} order by r.record_id, r.place""",
        findings,
    )
    for record_id, place in _fetch(
        database,
        f"""select record_id, place from facts where record_id not in (
          select record_id from
          {parquet_tables.read_parquet(work, path.name)})
        order by record_id, place""",
    ):
        findings.add(
            "records",
            f"{_text(record_id)} in {place} is in no record file",
        )


def _tell(
    database: duckdb.DuckDBPyConnection,
    query: str,
    findings: check_files.Findings,
) -> None:
    for record_id, place, stored, split, *same in _fetch(database, query):
        name = f"{_text(record_id)} of {place}"
        if stored is None:
            findings.add("records", f"{name} is neither stored nor rejected")
            continue
        other = [
            field
            for field, is_same in zip(TEXT_FIELDS, same, strict=True)
            if not is_same
        ]
        if split and not stored.startswith(f"{split}-"):
            other.append(f"split ({split} as given)")
        findings.add(
            "records", f"{name} has another {', '.join(other)} in {stored}"
        )


def _fetch(
    database: duckdb.DuckDBPyConnection, query: str
) -> Iterator[tuple[Any, ...]]:
    rows = database.execute(query)
    while chunk := rows.fetchmany(_AT_ONCE):
        yield from chunk


def _text(record_id: bytes) -> str:
    return repr(record_id.decode(errors="replace"))


def _rejected_places(path: pathlib.Path) -> dict[str, set[int]]:
    """Lines of each record file that are in the rejects."""
    places = collections.defaultdict(set)
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
                places[row["file"]].add(row["line"])
            except (ValueError, KeyError, TypeError):
                pass  # Told by the check of the rejects.
    return places


def _read_records(
    files: list[record_files.RecordFile],
    settings: Mapping[str, Any],
    rejected: Mapping[str, set[int]],
) -> Iterator[tuple[Any, ...]]:
    """Rows of `_SCHEMA`, of the records that were not rejected."""
    title_field = settings.get("title_field", "title")
    for file in files:
        for line, row, content in record_files.read_rows(
            file,
            encoding=settings.get("encoding", "utf-8"),
            fields=raw_records.known_fields(title_field),
        ):
            if line in rejected.get(file.name, ()):
                continue
            try:
                if isinstance(row, records.RecordError):
                    raise row
                # Rows as JSON, which is the form that the build parses.
                record = raw_records.parse_record(
                    json.loads(content), title_field=title_field
                )
            except records.RecordError:
                continue  # Told by the counts: neither stored nor rejected.
            yield (
                f"{file.name}, line {line}",
                record["record_id"].encode(),
                record["split"],
                *(
                    digest((record[name] or "").encode())
                    for name in TEXT_FIELDS
                ),
            )
