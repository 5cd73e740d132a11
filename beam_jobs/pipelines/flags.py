"""The flags of every job, and those that it passes on to Beam.

Beam takes seconds to import: it is loaded once a job's own flags are known.
"""

import argparse
import typing
from collections.abc import Sequence

from beam_jobs.pipelines import worker
from sicot_tf import command_line

if typing.TYPE_CHECKING:
    from apache_beam.options import pipeline_options as beam_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --runner and --num_processes."""
    group = parser.add_argument_group("beam")
    group.add_argument(
        "--runner",
        default="FnApiRunner",
        help="name of a Beam runner; Beam's own flags, for example "
        "--flink_master, may stand beside those of this job "
        "(default: FnApiRunner, on this machine)",
    )
    group.add_argument(
        "--num_processes",
        type=int,
        default=1,
        help="processes of FnApiRunner; each costs about 5 seconds to start "
        "(default: 1, this one)",
    )


def parse(
    parser: command_line.ArgumentParser, argv: Sequence[str] | None
) -> "tuple[argparse.Namespace, beam_options.PipelineOptions]":
    """The flags of a job, and Beam's options; ends for a mistake in either."""
    arguments, beam_flags = parser.parse_known_args(argv)
    worker.import_beam()
    from beam_jobs.pipelines import runners

    try:
        options = runners.make_pipeline_options(
            arguments.runner, arguments.num_processes, beam_flags
        )
    except ValueError as error:
        parser.error(str(error))
    return arguments, options
