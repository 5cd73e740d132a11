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
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from beam_jobs.records import text_lines
from sicot_tf import files
from sicot_tf.data import generations

_log = logging.getLogger(__name__)

_SUMMARY = "summary.json"
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


def merge_notes(notes: Iterable[Notes]) -> Notes:
    """The notes of all."""
    merged = Notes()
    for each in notes:
        merged.counts.update(each.counts)
        merged.problems.extend(each.problems)
    return merged


def path_from(output: pathlib.Path, folder: pathlib.Path) -> str:
    """The path of `folder` as records in `output` name it.

    It is relative: records and pictures may be moved together, and equal
    data have equal records wherever they lie. Symbolic links are followed
    first, for `..` behind a link leads elsewhere.
    """
    relative = os.path.relpath(
        os.path.realpath(folder), os.path.realpath(output)
    )
    return pathlib.Path(relative).as_posix()


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, in hex."""
    return files.text_sha256(_to_json(value))


def add_arguments(parser: argparse.ArgumentParser, *, root: str) -> None:
    """Flags: the data set (`root` says what it holds), and the new folder."""
    parser.add_argument(
        "--root", type=pathlib.Path, required=True, metavar="DIR", help=root
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="new folder for the records; pictures stay where they are",
    )


def is_written(output: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """Whether the records of these settings are there; says it if they are.

    Raises:
        ValueError: if `output` holds anything else.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    what = "something else"
    if (output / _SUMMARY).is_file():
        found = files.read_json(output / _SUMMARY)["settings"]
        if found == settings:
            _log.info("%s is already written", output)
            return True
        keys = sorted(found.keys() | settings.keys())
        differing = [k for k in keys if found.get(k) != settings.get(k)]
        what = f"records made with another {', '.join(differing)}"
    raise ValueError(
        f"Expected a new or empty folder, but {output} holds {what}. Choose "
        "another --output, or delete it."
    )


@contextlib.contextmanager
def writing(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A hidden folder that becomes `output` when all is written."""
    output = pathlib.Path(os.path.realpath(output))
    with generations.work_folder(output.parent, output.name) as work:
        folder = work / "records"
        # Files that a killed command left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        files.rename_folder(folder, output)


def write_shard(
    folder: pathlib.Path,
    index: int,
    num_shards: int,
    records: Iterable[Mapping[str, Any]],
    notes: Notes,
) -> None:
    """Writes the records of a shard in their order, and counts them."""

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
    files.write_lines(folder / name, map(_to_line, count_all()))


def write_notes(
    notes: Notes,
    folder: pathlib.Path,
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
    files.write_lines(folder / "classes.jsonl", map(_to_line, classes))
    problems = sorted(notes.problems, key=_to_json)
    files.write_lines(folder / "problems.jsonl", map(_to_line, problems))
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
    files.write_json(
        folder / _SUMMARY, {"settings": settings, "counts": counts}
    )


def print_summary(output: pathlib.Path, head_threshold: int) -> None:
    """Prints the counts, where the records are and what to run next."""
    counts = files.read_json(output / _SUMMARY)["counts"]
    for group, each in counts.items():
        for name, count in each.items():
            name = name.replace("_", " ")
            print(f"{group.replace('_', ' '):12}{name:36}{count:>12,}")
    print(f"\nRecords: {output} (left aside: {output / 'problems.jsonl'})")
    print(
        f"Next: python -m beam_jobs.build_dataset --input "
        f"'{output}/records-*.jsonl' --output {output.parent / 'dataset'} "
        f"--preset paper --head_threshold {head_threshold}"
    )


def _to_line(row: Any) -> str:
    # Half a surrogate pair becomes the escape that JSON has for it.
    return text_lines.printable(_to_json(row))


def _to_json(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)
