"""Folders of raw records: JSON Lines shards, there as a whole or not at all.

DIR/records-SSSSS-of-NNNNN.jsonl  what `build_dataset` reads
    classes.jsonl                 the classes, with their records counted
    problems.jsonl                what was left aside, and why
    summary.json                  settings and counts
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import posixpath
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from beam_jobs.records import text_lines
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_log = logging.getLogger(__name__)

_SUMMARY = "summary.json"
# In the work folder: what is being written.
_BEGUN = "settings.json"
# Groups of counts by class; other groups are parts of the data set.
_TRAIN, _TITLED, _TEST = "train", "train with title", "test"


@dataclasses.dataclass
class Notes:
    """What was met on the way.

    Attributes:
        counts: by group, for example a list of the data set, and name.
        problems: what was left aside, each with its reason.
    """

    counts: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    problems: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add_problem(self, reason: str, **facts: Any) -> None:
        """Notes what was left aside."""
        self.problems.append({"reason": reason, **facts})

    def to_json(self) -> dict[str, Any]:
        """What a JSON file can hold."""
        counts = [[*key, count] for key, count in self.counts.items()]
        return {"counts": counts, "problems": self.problems}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Notes":
        """What `to_json` gave."""
        counts = {(group, name): n for group, name, n in value["counts"]}
        return cls(collections.Counter(counts), value["problems"])


def merge_notes(notes: Iterable[Notes]) -> Notes:
    """The notes of all."""
    merged = Notes()
    for each in notes:
        merged.counts.update(each.counts)
        merged.problems.extend(each.problems)
    return merged


def path_from(output: locations.Location, root: locations.Location) -> str:
    """The path of `root` as records in `output` name it.

    It is relative where both are on this machine, or in one bucket: records
    and pictures may be moved together, and equal data have equal records
    wherever they lie. Symbolic links are followed first, for `..` behind a
    link leads elsewhere.
    """
    if not locations.is_remote(output) and not locations.is_remote(root):
        relative = os.path.relpath(
            os.path.realpath(root), os.path.realpath(output)
        )
        return pathlib.Path(relative).as_posix()
    if str(output).split("/")[:3] == str(root).split("/")[:3]:
        return posixpath.relpath(
            *(str(each).partition("://")[2] for each in (root, output))
        )
    if locations.is_remote(root):
        return root
    return pathlib.Path(os.path.realpath(root)).as_posix()


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, in hex."""
    return files.text_sha256(_to_json(value))


def sha256(place: folder.Folder, key: str) -> str:
    """SHA-256 of a file, in hex."""
    with place.open(key) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def add_arguments(parser: argparse.ArgumentParser, *, root: str) -> None:
    """Flags: the data set (`root` says what it holds), and the new folder."""
    parser.add_argument(
        "--root",
        type=locations.location,
        required=True,
        metavar="DIR",
        help=root,
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        required=True,
        metavar="DIR",
        help="new folder for the records; pictures stay where they are",
    )


def is_written(output: locations.Location, settings: Mapping[str, Any]) -> bool:
    """Whether the records of these settings are there; says it if they are.

    Raises:
        ValueError: if `output` holds anything else.
    """
    place = opening.open_folder(output)
    what = "something else"
    if place.exists(_SUMMARY):
        found = place.get_json(_SUMMARY)["settings"]
        if found == settings:
            _log.info("%s is already written", output)
            return True
        keys = sorted(found.keys() | settings.keys())
        differing = [k for k in keys if found.get(k) != settings.get(k)]
        what = f"records made with another {', '.join(differing)}"
    elif _has_begun(output) or _is_empty(output):
        return False
    raise ValueError(
        f"Expected a new or empty folder, but {output} holds {what}. Choose "
        "another --output, or delete it."
    )


def _is_empty(output: locations.Location) -> bool:
    if locations.is_remote(output):
        return next(opening.open_folder(output).list(), None) is None
    return not output.exists() or (
        output.is_dir() and not any(output.iterdir())
    )


def _has_begun(output: locations.Location) -> bool:
    """Whether what is in a bucket is what a killed command left."""
    work = generations.WORK + locations.name(output)
    parent = opening.open_folder(locations.parent(output))
    return locations.is_remote(output) and parent.exists(f"{work}/{_BEGUN}")


@contextlib.contextmanager
def writing(
    output: locations.Location, settings: Mapping[str, Any]
) -> Iterator[tuple[folder.Folder, folder.Folder]]:
    """A folder that becomes `output` when all is written, and one for work.

    What a killed command with the same settings wrote is still in both. On an
    object store the first is `output` itself, whose summary is written last.

    Raises:
        ValueError: if another process is at it.
    """
    if not locations.is_remote(output):
        output = pathlib.Path(os.path.realpath(output))
    parent, name = locations.parent(output), locations.name(output)
    with publishing.work_folder(parent, name) as work:
        result = publishing.result_folder(parent, work, name)
        if not work.exists(_BEGUN) or work.get_json(_BEGUN) != settings:
            result.delete_all()
            work.delete_all()
            work.put_json(_BEGUN, settings)
        yield result, work
        if not locations.is_remote(output):
            finished = pathlib.Path(result.location)
            # What a kill has cut short.
            for path in finished.rglob(".*.tmp"):
                path.unlink()
            files.rename_folder(finished, output)


def write_shard(
    result: folder.Folder,
    work: folder.Folder,
    index: int,
    num_shards: int,
    records: Iterable[Mapping[str, Any]],
    notes: Notes,
) -> None:
    """Writes the records of a shard in their order, and counts them.

    Args:
        result: of `writing`, as is `work`.
    """

    def count_all() -> Iterator[Mapping[str, Any]]:
        for record in records:
            sku_id = record["sku_id"]
            if record["split"] == "test":
                notes.counts[_TEST, sku_id] += 1
            else:
                notes.counts[_TRAIN, sku_id] += 1
                notes.counts[_TITLED, sku_id] += bool(record["title"].strip())
            yield record

    name = f"records-{index:05d}-of-{num_shards:05d}.jsonl"
    write_lines(result, work, name, map(_to_line, count_all()))


def write_lines(
    result: folder.Folder,
    work: folder.Folder,
    name: str,
    lines: Iterable[str],
) -> None:
    """Writes a file of lines, which come without their ends, as UTF-8."""
    with work.scratch() as scratch:
        files.write_lines(scratch / name, lines)
        result.upload(scratch / name, name)


def write_notes(
    notes: Notes,
    result: folder.Folder,
    settings: Mapping[str, Any],
    class_names: Mapping[str, str],
) -> None:
    """Writes `classes.jsonl`, `problems.jsonl` and `summary.json`.

    Args:
        class_names: by `sku_id`, also those of classes without records.
    """
    classes = [
        {
            "sku_id": sku_id,
            "sku_name": class_names[sku_id],
            "train": notes.counts[_TRAIN, sku_id],
            "train_with_title": notes.counts[_TITLED, sku_id],
            "test": notes.counts[_TEST, sku_id],
        }
        for sku_id in sorted(class_names)
    ]
    _put_lines(result, "classes.jsonl", classes)
    problems = sorted(notes.problems, key=_to_json)
    _put_lines(result, "problems.jsonl", problems)
    counts: dict[str, dict[str, int]] = {}
    for (group, name), count in notes.counts.items():
        if group not in (_TRAIN, _TITLED, _TEST):
            counts.setdefault(group, {})[name] = count
    counts["records"] = {
        name: sum(row[name] for row in classes)
        for name in ("train", "train_with_title", "test")
    }
    counts["classes"] = {
        "all": len(classes),
        "with_train_and_test": sum(
            row["train"] > 0 and row["test"] > 0 for row in classes
        ),
    }
    counts["left_aside"] = dict(
        collections.Counter(each["reason"] for each in problems)
    )
    # It says that all is there.
    result.put_json(_SUMMARY, {"settings": settings, "counts": counts})


def _put_lines(result: folder.Folder, name: str, rows: Iterable[Any]) -> None:
    text = "".join(f"{_to_line(row)}\n" for row in rows)
    result.put(name, text.encode())


def print_summary(output: locations.Location, head_threshold: int) -> None:
    """Prints the counts, where the records are and what to run next."""
    counts = opening.open_folder(output).get_json(_SUMMARY)["counts"]
    for group, each in counts.items():
        for name, count in each.items():
            name = name.replace("_", " ")
            print(f"{group.replace('_', ' '):12}{name:36}{count:>12,}")
    print(
        f"\nRecords: {output} "
        f"(left aside: {locations.join(output, 'problems.jsonl')})"
    )
    print(
        f"Next: python -m beam_jobs.build_dataset --input "
        f"'{output}/records-*.jsonl' --output "
        f"{locations.join(locations.parent(output), 'dataset')} "
        f"--preset paper --head_threshold {head_threshold}"
    )


def _to_line(row: Any) -> str:
    # Half a surrogate pair becomes the escape that JSON has for it.
    return text_lines.printable(_to_json(row))


def _to_json(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)
