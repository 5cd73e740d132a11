"""Shows what a folder of generations holds: finished, running, interrupted.

One line for each generation, the one that LATEST names marked; then the
builds that are not finished, with what they have done so far.
"""

import argparse
import contextlib
import json
import pathlib
import time
from typing import Any

from beam_jobs.dataset import store_records
from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.data import generations

_EXAMPLES = """
examples:
  python -m beam_jobs.status dataset
  python -m beam_jobs.status dataset --json
"""


def finished_generations(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Generations, the oldest first: name, latest, records, rejected."""
    latest = None
    if (directory / generations.LATEST).is_file():
        # One that names nothing is told last.
        with contextlib.suppress(ValueError):
            latest = generations.resolve_generation(directory).name
    found = []
    for path in directory.glob(f"[!.]*/{generations.MANIFEST}"):
        counts = config.read_json(path).get("counts", {})
        found.append(
            {
                "generation": path.parent.name,
                "latest": path.parent.name == latest,
                "finished": path.stat().st_mtime,
                "records": sum(counts.get("written", {}).values()),
                "rejected": sum(counts.get("rejected", {}).values()),
                "megabytes": sum(
                    each.stat().st_size for each in path.parent.iterdir()
                )
                // 2**20,
            }
        )
    return sorted(
        found, key=lambda each: (each["finished"], each["generation"])
    )


def unfinished_builds(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Work folders: what they have done, and whether a process is at it."""
    found = []
    for path in sorted(directory.glob(".work-*/plan.json")):
        work = path.parent
        plan = config.read_json(path)
        parts = list((work / "parts").glob("part-*.parquet"))
        counts = [store_records.count_part(part) for part in parts]
        times = [part.stat().st_mtime for part in parts]
        span = max(times) - min(times) if len(times) > 1 else 0
        done = sum(each["done"] for each in counts)
        build = {
            "work": work.name,
            "running": generations.is_worked_on(work),
            "records": plan["records"],
            "records_done": done,
            "rejected": sum(each["rejected"] for each in counts),
            "parts": plan["parts"],
            "parts_done": len(parts),
            "shards": len(list((work / "shards").glob("*.parquet"))),
            "shards_done": len(list((work / "summaries").glob("*.json"))),
        }
        if span:
            # The first part's own time is not known.
            rate = (done - counts[0]["done"]) / span
            build["records_per_second"] = round(rate, 1)
            build["seconds_left"] = round((plan["records"] - done) / rate)
        found.append(build)
    return found


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints both lists."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.status",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    if not arguments.directory.is_dir():
        parser.error(f"{arguments.directory} is no folder.")
    finished = finished_generations(arguments.directory)
    unfinished = unfinished_builds(arguments.directory)
    if arguments.json:
        print(
            json.dumps(
                {"finished": finished, "unfinished": unfinished}, indent=2
            )
        )
        return
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
    if not finished and not unfinished:
        print(f"{arguments.directory} holds no generation.")
    if (arguments.directory / generations.LATEST).is_file():
        generations.resolve_generation(arguments.directory)


if __name__ == "__main__":
    main()
