"""The rejects of a dataset generation: a table, and the records once more.

`rejects.jsonl` keeps each record that was put aside as it came. Once the
cause is gone (pictures copied, a setting changed), this job writes the chosen
ones as a record file of their own, to be built alone before everything is.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import posixpath
import shlex
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from beam_jobs.records import raw_records
from beam_jobs.records import text_lines
from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generations

_MAX_EXAMPLES = 2

_EPILOG = """\
examples
  python -m beam_jobs.replay_rejects dataset
  python -m beam_jobs.replay_rejects dataset --reason missing_image \\
      decode_error --output again.jsonl
"""


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
    generation: pathlib.Path, reasons: Collection[str], output: pathlib.Path
) -> int:
    """Writes the records behind the rejects of these reasons, in their order.

    Relative image paths become absolute, since the new record file may lie
    elsewhere. Lines that were no record are passed over.

    Args:
        output: a record file that is not there yet, ending in `.jsonl`.

    Returns:
        How many were written.

    Raises:
        ValueError: if the output is there or has another ending, or if nobody
            knows what an image path is relative to.
    """
    if output.suffix != ".jsonl" or output.exists():
        raise ValueError(
            "Expected the name of a new file that ends in .jsonl, received "
            f"{output}{', which is there' if output.exists() else ''}."
        )
    folders = _record_folders(generation)
    temporary = output.with_name(f".{output.name}.tmp")
    num_written = 0
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for line in _iterate_rejects(generation):
                if line["reason"] in reasons and isinstance(
                    line["record"], dict
                ):
                    record = _with_absolute_image(line, folders)
                    file.write(raw_records.to_json(record) + "\n")
                    num_written += 1
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
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
    path = generation / "run.json"
    if not path.is_file():
        return {}
    return config.read_json(path).get("record_folders", {})


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


def main(argv: list[str] | None = None) -> None:
    """Prints the table; with --output also writes the records."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.replay_rejects",
        description="Shows what a data set has put aside and why, and writes "
        "the chosen records as a record file, to build them again.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "dataset",
        type=pathlib.Path,
        metavar="DIR",
        help="a data set (its newest generation) or a generation",
    )
    parser.add_argument(
        "--reason",
        nargs="+",
        metavar="REASON",
        help="replay these only (default: all)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        metavar="FILE",
        help="the record file to write, for example again.jsonl; without it "
        "there is only the table",
    )
    arguments = parser.parse_args(argv)
    try:
        generation = generations.resolve_generation(arguments.dataset)
        reasons = summarize(generation)
        chosen = arguments.reason or list(reasons)
        if unknown := sorted(set(chosen) - set(reasons)):
            raise ValueError(
                f"There is no reject with reason {', '.join(unknown)}; "
                f"{generation} has: {', '.join(reasons) or 'none'}."
            )
        _print_table(generation, reasons)
        if arguments.output and reasons:
            num_written = write_records(generation, chosen, arguments.output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"replay_rejects: {error}") from error
    if not reasons:
        return
    if not arguments.output:
        print("Next: the same command with --output again.jsonl")
        return
    num_broken = sum(reasons[reason].num_broken for reason in chosen)
    if num_broken:
        print(
            f"{num_broken:,} can't be replayed: there was no record to read. "
            "Mend them in their file, see file and line."
        )
    print(f"{num_written:,} records: {arguments.output}")
    if num_written:
        print(f"Next: {_next_command(generation, arguments.output)}")


def _print_table(
    generation: pathlib.Path, reasons: Mapping[str, Reason]
) -> None:
    total = sum(reason.count for reason in reasons.values())
    print(f"{generation}: {total:,} rejects\n")
    for code, reason in reasons.items():
        print(f"{code:20}{reason.count:>12,}")
        for line in reason.examples:
            name = line["record_id"]
            text = (
                f"    {line['file']}, line {line['line']}"
                f"{'' if name is None else f', {name}'}: "
                f"{line['message']:.160}"
            )
            print(text_lines.printable(text))
    if reasons:
        print()


def _next_command(generation: pathlib.Path, output: pathlib.Path) -> str:
    """The build of the replayed records alone, with the title's column."""
    command = [
        *("python", "-m", "beam_jobs.build_dataset"),
        *("--input", str(output)),
        *("--output", str(output.with_suffix(".dataset"))),
    ]
    settings = dataset.read_manifest(generation)["config"]
    title_field = settings.get("title_field", "title")
    if title_field != "title":
        command += ["--title_field", title_field]
    return shlex.join(command)


if __name__ == "__main__":
    main()
