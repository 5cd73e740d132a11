"""Re-reads a whole dataset generation and says what is wrong with it.

How, and what it takes, stands in `beam_jobs.validation.check_generation`.
"""

from beam_jobs.pipelines import flags
from beam_jobs.validation import table
from sicot_tf import command_line
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_EPILOG = """\
checks
{checks}

exit code: 0 all is well, 1 something is wrong, 2 there is nothing to check

examples:
  python -m beam_jobs.validate_dataset dataset --num_processes 2
  python -m beam_jobs.validate_dataset dataset --images --output report.json
  python -m beam_jobs.validate_dataset s3://bucket/dataset
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints a table of the checks; exit code 1 if something is wrong."""
    arguments, pipeline_options = flags.parse(_make_parser(), argv)
    generation = publishing.resolve_generation(arguments.dataset)
    command_line.import_tensorflow()
    from beam_jobs.validation import check_generation

    report = check_generation.validate(
        generation, pipeline_options, decode_images=arguments.images
    )
    if arguments.output:
        place = opening.open_folder(locations.parent(arguments.output))
        place.put_json(locations.name(arguments.output), report)
    table.print_report(report)
    if arguments.output:
        print(f"Report: {arguments.output}")
    if not report["ok"]:
        print(
            f"{generation} is damaged. Copy it again, or remove the folder "
            "and build it again."
        )
        raise SystemExit(1)
    if not report["records"]:
        raise ValueError(
            f"{generation} is as its manifest says, and holds no records; see "
            f"python -m beam_jobs.replay_rejects {generation}"
        )
    print(f"{generation} is as its manifest says.")


def _make_parser() -> command_line.ArgumentParser:
    checks = "\n".join(
        f"  {name:13} {text}" for name, text in table.CHECKS.items()
    )
    parser = command_line.ArgumentParser(
        "beam_jobs.validate_dataset",
        "Re-reads a dataset generation and says what is wrong.",
        _EPILOG.format(checks=checks),
    )
    parser.add_argument(
        "dataset",
        type=locations.location,
        metavar="DIR",
        help="a data set (its newest generation) or a generation",
    )
    parser.add_argument(
        "--images", action="store_true", help="decode every picture whole"
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        metavar="FILE",
        help="also write what was found as JSON",
    )
    flags.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
