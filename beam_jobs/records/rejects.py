"""The rejects of a dataset generation: counted, and written once more."""

import collections
import dataclasses
import json
import pathlib
import posixpath
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from beam_jobs.records import raw_records
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import locations
from sicot_tf.stores import opening
from sicot_tf.stores import uploads

_MAX_EXAMPLES = 2


@dataclasses.dataclass
class Reason:
    """Rejects of one reason: their number, and two of their lines.

    Attributes:
        num_broken: those whose record could not be read, so that there is
            nothing to write again.
    """

    count: int = 0
    num_broken: int = 0
    examples: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def summarize(generation: pathlib.Path) -> dict[str, Reason]:
    """The reasons in a generation's rejects, the most frequent first."""
    reasons = collections.defaultdict(Reason)
    for line in _iterate_rejects(generation):
        reason = reasons[line["reason"]]
        reason.count += 1
        reason.num_broken += not isinstance(line["record"], dict)
        if len(reason.examples) < _MAX_EXAMPLES:
            reason.examples.append(line)
    return dict(
        sorted(reasons.items(), key=lambda item: (-item[1].count, item[0]))
    )


def write_records(
    generation: pathlib.Path,
    reasons: Collection[str],
    output: locations.Location,
) -> int:
    """Writes the records behind the rejects of these reasons, in their order.

    Relative image paths become absolute, since the new record file may lie
    elsewhere. Lines that were no record are passed over.

    Args:
        output: a record file that is not there yet, ending in `.jsonl`, here
            or on a store.

    Returns:
        How many were written.

    Raises:
        ValueError: if the output is there or has another ending, or if nobody
            knows what an image path is relative to.
    """
    name = locations.name(output)
    there = opening.open_folder(locations.parent(output)).exists(name)
    if not name.endswith(".jsonl") or there:
        raise ValueError(
            "Expected the name of a new file that ends in .jsonl, received "
            f"{output}{', which is there' if there else ''}."
        )
    folders = _record_folders(generation)
    num_written = 0
    with (
        uploads.replacing(output) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for line in _iterate_rejects(generation):
            if line["reason"] in reasons and isinstance(line["record"], dict):
                record = _with_absolute_image(line, folders)
                file.write(raw_records.to_json(record) + "\n")
                num_written += 1
    return num_written


def _iterate_rejects(generation: pathlib.Path) -> Iterator[dict[str, Any]]:
    path = generation / "rejects.jsonl"
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if not {"reason", "record", "file", "line"} <= row.keys():
                    raise ValueError("a field is missing")
                yield row
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is damaged ({error}). Copy the "
                    "generation again, or remove it and build it again."
                ) from error


def _record_folders(generation: pathlib.Path) -> dict[str, str]:
    """The folder of each record file, which only `run.json` tells."""
    path = generation / generations.RUN
    if not path.is_file():
        return {}
    return files.read_json(path).get("record_folders", {})


def _with_absolute_image(
    line: Mapping[str, Any], folders: Mapping[str, str]
) -> dict[str, Any]:
    record = line["record"]
    image = record.get("image")
    if (
        not isinstance(image, str)
        or not image
        or "://" in image
        or posixpath.isabs(image)
    ):
        return record
    folder = folders.get(line["file"], line.get("folder"))
    if folder is None:
        raise ValueError(
            f"The image {image!r} of record {line['record_id']!r} is relative "
            f"to the folder of {line['file']}, and the generation does not "
            "tell it (it was built by an older version, or has lost its "
            "run.json). Build it again, then replay."
        )
    return {**record, "image": raw_records.resolve_image(folder, image)}
