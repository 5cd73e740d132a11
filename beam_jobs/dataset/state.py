"""What a folder of generations holds: finished, running, interrupted."""

import collections
import concurrent.futures
from collections.abc import Mapping
from typing import Any

from beam_jobs.dataset.steps import parts
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Files that are read at a time; a store takes its time for each.
_AT_ONCE = 16


def read(
    directory: locations.Location,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What `DIR` holds, by one look at the names of its files.

    Returns:
        The finished generations, the oldest first: name, latest, records,
        rejected. And the work folders: what they have done, and whether a
        process is at it.
    """
    store = opening.open_folder(directory)
    found = collections.defaultdict(dict)
    for entry in store.list():
        top, _, rest = entry.key.partition("/")
        found[top][rest] = entry
    latest = ""
    if generations.LATEST in found:
        text = store.get(generations.LATEST)
        latest = text.decode("utf-8", "replace").strip()
    finished = [
        _describe(store.child(name), entries, name == latest)
        for name, entries in found.items()
        if not name.startswith(".") and generations.MANIFEST in entries
    ]
    unfinished = [
        _progress(directory, name, store.child(name), entries)
        for name, entries in sorted(found.items())
        if name.startswith(generations.WORK) and "plan.json" in entries
    ]
    finished.sort(key=lambda each: (each["finished"], each["generation"]))
    return finished, unfinished


def _describe(
    generation: folder.Folder,
    entries: Mapping[str, folder.Entry],
    is_latest: bool,
) -> dict[str, Any]:
    counts = generation.get_json(generations.MANIFEST).get("counts", {})
    return {
        "generation": locations.name(generation.location),
        "latest": is_latest,
        "finished": entries[generations.MANIFEST].modified,
        "records": sum(counts.get("written", {}).values()),
        "rejected": sum(counts.get("rejected", {}).values()),
        "megabytes": sum(each.num_bytes for each in entries.values()) // 2**20,
    }


def _progress(
    directory: locations.Location,
    name: str,
    work: folder.Folder,
    entries: Mapping[str, folder.Entry],
) -> dict[str, Any]:
    plan = work.get_json("plan.json")
    done_parts = [
        entry
        for key, entry in sorted(entries.items())
        if key.startswith("parts/part-") and key.endswith(".parquet")
    ]
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        keys = [locations.name(entry.key) for entry in done_parts]
        in_parts = work.child("parts")
        counts = list(pool.map(lambda key: parts.progress(in_parts, key), keys))
    times = [entry.modified for entry in done_parts]
    span = max(times) - min(times) if len(times) > 1 else 0
    done = sum(each["done"] for each in counts)
    build = {
        "work": name,
        "running": publishing.is_worked_on(
            directory, name.removeprefix(generations.WORK)
        ),
        "records": plan["records"],
        "records_done": done,
        "rejected": sum(each["rejected"] for each in counts),
        "parts": plan["parts"],
        "parts_done": len(done_parts),
        "shards": _count(entries, "shards/", ".parquet"),
        "shards_done": _count(entries, "summaries/", ".json"),
    }
    if span:
        # The first part's own time is not known.
        rate = (done - counts[times.index(min(times))]["done"]) / span
        build["records_per_second"] = round(rate, 1)
        build["seconds_left"] = round((plan["records"] - done) / rate)
    return build


def _count(entries: Mapping[str, folder.Entry], start: str, ending: str) -> int:
    return sum(
        key.startswith(start) and key.endswith(ending) for key in entries
    )
