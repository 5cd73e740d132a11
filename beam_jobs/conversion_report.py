"""The conversion of the variants of an A/B test, from files of events.

docs/conversion.md tells what is counted, and how.
"""

import pathlib

from beam_jobs.pipelines import flags
from sicot_tf import command_line
from sicot_tf.recognition.visits import variants

_EPILOG = """\
writes into the output folder
  report.html    the page; one file that loads nothing else
  report.json    every number of the page
  report.csv     a row for each day and variant, and for the whole period
  rejects.jsonl  lines that are no event: file, line, reason
  *.svg, *.png   the plots

examples:
  python -m beam_jobs.conversion_report --events 'events/*.jsonl' \\
      --output report
  python -m beam_jobs.conversion_report --events 'events/*.jsonl' \\
      --output report --baseline current --shares current=0.5,new=0.5 \\
      --num_processes 4
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the report, says what it found."""
    parser = _make_parser()
    arguments, pipeline_options = flags.parse(parser, argv)
    for name in ("max_events_per_day", "memory_megabytes"):
        if getattr(arguments, name) < 1:
            parser.error(
                f"--{name}: expected 1 or more, received "
                f"{getattr(arguments, name)}"
            )
    shares = arguments.shares and variants.parse_shares(arguments.shares)
    command_line.import_tensorflow()
    from beam_jobs.conversion import page
    from beam_jobs.conversion import report

    written = report.write_report(
        arguments.events,
        arguments.output,
        pipeline_options,
        baseline=arguments.baseline,
        shares=shares,
        max_events_per_day=arguments.max_events_per_day,
        memory_megabytes=arguments.memory_megabytes,
    )
    for sentence in (*page.findings(written), *page.warnings(written)):
        print(sentence)
    print(f"Page: {arguments.output / 'report.html'}")


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.conversion_report",
        "Writes the UV conversion of the variants of an A/B test, with "
        "intervals and tests, as one HTML page, CSV and JSON.",
        _EPILOG,
    )
    parser.add_argument(
        "--events",
        nargs="+",
        required=True,
        metavar="FILE",
        help="files of events (.jsonl, .jsonl.gz): paths or globs",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="folder to write; an earlier report is replaced",
    )
    parser.add_argument(
        "--baseline",
        metavar="VARIANT",
        help="what the others are compared with (default: the first by name)",
    )
    parser.add_argument(
        "--shares",
        metavar="A=0.5,B=0.5",
        help="shares of the variants as assigned: test that visitors came "
        "by them",
    )
    parser.add_argument(
        "--max_events_per_day",
        type=int,
        default=1000,
        help="who has more in one day is a robot (default: %(default)s)",
    )
    parser.add_argument(
        "--memory_megabytes",
        type=int,
        default=512,
        help="of the database that counts; what is larger is spilled to the "
        "disk of --output (default: %(default)s)",
    )
    flags.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
