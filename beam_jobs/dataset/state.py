"""What a folder of generations holds: finished, running, interrupted."""

import contextlib
import pathlib
from typing import Any

from beam_jobs.dataset import parts
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import local_folder


def finished_generations(directory: pathlib.Path) -> list[dict[str, Any]]:
    """Generations, the oldest first: name, latest, records, rejected."""
    latest = None
    if (directory / generations.LATEST).is_file():
        # A LATEST that names nothing is told at the end.
        with contextlib.suppress(ValueError):
            latest = generations.resolve_generation(directory).name
    found = []
    for path in directory.glob(f"[!.]*/{generations.MANIFEST}"):
        counts = files.read_json(path).get("counts", {})
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
        plan = files.read_json(path)
        done_parts = list((work / "parts").glob("part-*.parquet"))
        counts = [
            parts.progress(local_folder.LocalFolder(part.parent), part.name)
            for part in done_parts
        ]
        times = [part.stat().st_mtime for part in done_parts]
        span = max(times) - min(times) if len(times) > 1 else 0
        done = sum(each["done"] for each in counts)
        build = {
            "work": work.name,
            "running": generations.is_worked_on(work),
            "records": plan["records"],
            "records_done": done,
            "rejected": sum(each["rejected"] for each in counts),
            "parts": plan["parts"],
            "parts_done": len(done_parts),
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
