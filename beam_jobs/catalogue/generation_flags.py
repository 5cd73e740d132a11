"""The flags that the dated indexes share: their date, their end, a way back."""

import argparse
import datetime
import pathlib
from collections.abc import Callable

from beam_jobs.catalogue import retention
from sicot_tf import command_line
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import locations


def add_date(parser: argparse.ArgumentParser) -> None:
    """Adds --date."""
    parser.add_argument(
        "--date",
        type=_parse_date,
        default=datetime.date.today().isoformat(),
        help="of the generation, YYYY-MM-DD (default: today)",
    )


def _parse_date(text: str) -> str:
    return datetime.date.fromisoformat(text).isoformat()


def add_output(
    parser: argparse.ArgumentParser,
    metavar: str,
    kind: Callable[[str], locations.Location] = pathlib.Path,
) -> None:
    """Adds --output.

    Args:
        kind: `locations.location` if it may be on a store.
    """
    parser.add_argument(
        "--output",
        type=kind,
        required=True,
        metavar=metavar,
        help=f"folder of the generations; {metavar}/LATEST names the one in "
        "use",
    )


def add_list_and_rollback(action: argparse._MutuallyExclusiveGroup) -> None:
    """Adds --list and --rollback, beside the flag of what is built."""
    action.add_argument(
        "--list", action="store_true", help="show the generations"
    )
    action.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="GENERATION",
        help="point LATEST to a generation (default: the one before)",
    )


def add_retention(parser: argparse.ArgumentParser, counted: str) -> None:
    """Adds what may become of the generations before.

    Args:
        counted: what an index holds, for example "products".
    """
    parser.add_argument(
        "--max_shrink_percent",
        type=float,
        default=20,
        help=f"refuse an index that loses more of its {counted} (default: 20)",
    )
    parser.add_argument(
        "--force", action="store_true", help="however much it shrinks"
    )
    parser.add_argument(
        "--keep",
        type=int,
        default=7,
        help="generations that remain (default: 7)",
    )


def check(
    parser: command_line.ArgumentParser, arguments: argparse.Namespace
) -> None:
    """Ends the command for numbers of `add_retention` out of range."""
    if not arguments.max_shrink_percent >= 0:
        parser.error(
            "--max_shrink_percent: expected 0 or more, received "
            f"{arguments.max_shrink_percent}"
        )
    if arguments.keep < 1:
        parser.error(f"--keep: expected 1 or more, received {arguments.keep}")


def roll_back(arguments: argparse.Namespace) -> None:
    """Does what --rollback asks for and says so."""
    root = arguments.output
    with publishing.only_builder(root):
        name = retention.roll_back(root, arguments.rollback or None)
    print(f"{locations.join(root, generations.LATEST)} names {name} again.")
