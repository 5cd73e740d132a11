"""The rejects of a dataset generation: a table, and the records once more.

`rejects.jsonl` keeps each record that was put aside as it came. Once the
cause is gone (pictures copied, a setting changed), this job writes the chosen
ones as a record file of their own, to be built alone before everything is.
"""

import pathlib
import shlex
import typing
from collections.abc import Mapping

from sicot_tf import command_line
from sicot_tf import files
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.stores import locations

if typing.TYPE_CHECKING:
    from beam_jobs.records import rejects

_EPILOG = """\
examples:
  python -m beam_jobs.replay_rejects dataset
  python -m beam_jobs.replay_rejects dataset --reason missing_image \\
      decode_error --output again.jsonl
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints the table; with --output also writes the records."""
    arguments = _make_parser().parse_args(argv)
    generation = generation_cache.local_generation(
        arguments.dataset, lambda _: ["rejects.jsonl"]
    )
    command_line.import_tensorflow()
    from beam_jobs.records import rejects

    place = generation_cache.origin(generation)
    reasons = rejects.summarize(generation)
    chosen = arguments.reason or list(reasons)
    if unknown := sorted(set(chosen) - set(reasons)):
        raise ValueError(
            f"There is no reject with reason {', '.join(unknown)}; "
            f"{place} has: {', '.join(reasons) or 'none'}."
        )
    _print_table(place, reasons)
    if not reasons:
        return
    if not arguments.output:
        print("Next: the same command with --output again.jsonl")
        return
    num_written = rejects.write_records(generation, chosen, arguments.output)
    num_broken = sum(reasons[reason].num_broken for reason in chosen)
    if num_broken:
        print(
            f"{num_broken:,} can't be replayed: there was no record to read. "
            "Mend them in their file, see file and line."
        )
    print(f"{num_written:,} records: {arguments.output}")
    if num_written:
        print(f"Next: {_next_command(generation, arguments.output)}")


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.replay_rejects",
        "Shows what a data set has put aside and why, and writes the chosen "
        "records as a record file, to build them again.",
        _EPILOG,
    )
    parser.add_argument(
        "dataset",
        type=locations.location,
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
        type=locations.location,
        metavar="FILE",
        help="the record file to write, for example again.jsonl; without it "
        "there is only the table",
    )
    return parser


def _print_table(
    place: locations.Location, reasons: "Mapping[str, rejects.Reason]"
) -> None:
    from beam_jobs.records import text_lines

    total = sum(reason.count for reason in reasons.values())
    print(f"{place}: {total:,} rejects\n")
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


def _next_command(generation: pathlib.Path, output: locations.Location) -> str:
    """The build of the replayed records alone, with the title's column."""
    from sicot_tf.data import dataset

    if "clicks" in files.read_json(generation / generations.MANIFEST):
        # The manifest knows the names of the catalogue's files only.
        log = shlex.quote(str(output))
        return (
            f"python -m beam_jobs.mine_clicks --clicks {log} "
            "--catalogue CATALOGUE --output DIR"
        )
    command = [
        *("python", "-m", "beam_jobs.build_dataset"),
        *("--input", str(output)),
        *("--output", str(output).removesuffix(".jsonl") + ".dataset"),
    ]
    settings = dataset.read_manifest(generation)["config"]
    title_field = settings.get("title_field", "title")
    if title_field != "title":
        command += ["--title_field", title_field]
    return shlex.join(command)


if __name__ == "__main__":
    main()
