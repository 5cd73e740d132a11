"""Shows what a folder of generations holds: finished, running, interrupted.

One line for each generation, the one that LATEST names marked; then the
builds that are not finished, with what they have done so far.
"""

import json
import time
from typing import Any

from beam_jobs.pipelines import worker
from sicot_tf import command_line
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_EXAMPLES = """\
examples:
  python -m beam_jobs.status dataset
  python -m beam_jobs.status dataset --json
  python -m beam_jobs.status s3://bucket/dataset
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints both lists."""
    parser = command_line.ArgumentParser("beam_jobs.status", __doc__, _EXAMPLES)
    parser.add_argument(
        "directory",
        type=locations.location,
        metavar="DIR",
        help="where generations are built, a path or a URL",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    directory = arguments.directory
    if not locations.is_remote(directory) and not directory.is_dir():
        parser.error(f"{directory} is no folder.")
    worker.import_beam()
    from beam_jobs.dataset import state

    finished, unfinished = state.read(directory)
    if arguments.json:
        print(
            json.dumps(
                {"finished": finished, "unfinished": unfinished}, indent=2
            )
        )
        return
    _print_lines(finished, unfinished)
    if not finished and not unfinished:
        print(f"{directory} holds no generation.")
    if opening.open_folder(directory).exists(generations.LATEST):
        # It may name nothing.
        publishing.resolve_generation(directory)


def _print_lines(
    finished: list[dict[str, Any]], unfinished: list[dict[str, Any]]
) -> None:
    for each in finished:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["finished"]))
        mark = "  <- LATEST" if each["latest"] else ""
        print(
            f"{each['generation']}  {when}  {each['records']:>12,} records  "
            f"{each['rejected']:>10,} rejected  {each['megabytes']:>8,} MB"
            f"{mark}"
        )
    for each in unfinished:
        state = "running" if each["running"] else "interrupted"
        print(
            f"{each['work']}  {state}: {each['records_done']:,} of "
            f"{each['records']:,} records, {each['shards_done']} of "
            f"{each['shards']} shards, {each['rejected']:,} rejected"
        )
        if "seconds_left" in each and each["running"]:
            minutes, seconds = divmod(each["seconds_left"], 60)
            print(
                f"  {each['records_per_second']} records/s, about "
                f"{minutes} min {seconds} s left"
            )
        if not each["running"]:
            print("  The command that built it goes on with it.")


if __name__ == "__main__":
    main()
