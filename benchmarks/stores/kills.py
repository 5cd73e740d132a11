"""Builds that are killed and resumed, and two builders at once."""

import os
import signal
import time

from benchmarks.stores import builds
from benchmarks.stores import servers
from sicot_tf.data import generations
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_FLAGS = ("--num_processes=2",)


def kill_and_resume(
    launcher: builds.Launcher, server: servers.Server, num_kills: int
) -> int:
    """Kills builds at moments spread over one; returns how many went wrong.

    Moments are told by requests, which are as many on a machine that is busy.

    Args:
        server: its bucket has the records in `raw`.
    """
    url = server.url
    records, calm = f"{url}/raw/records.jsonl", f"{url}/calm"
    before = server.num_requests()
    launcher.build(records, calm, *_FLAGS)
    num_requests = server.num_requests() - before
    expected, counts = builds.digests(calm), builds.counters(calm)
    num_parts, num_shards = counts["parts_stored"], counts["shards_written"]
    print(
        f"undisturbed: {num_requests} requests, {num_parts} parts, "
        f"{num_shards} shards"
    )
    wrong = 0
    for number in range(num_kills):
        moment = num_requests * (number + 1) // (num_kills + 1)
        output = f"{url}/killed-{number}"
        before = server.num_requests()
        process = launcher.start(records, output, *_FLAGS)
        while (
            process.poll() is None and server.num_requests() < before + moment
        ):
            time.sleep(0.01)
        finished = process.poll() is not None
        # The whole session: its worker processes as well.
        if not finished:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kept = [entry.key for entry in opening.open_folder(output).list()]
        manifests = [key for key in kept if key.endswith(generations.MANIFEST)]
        parts = sum(_is_facts(key) for key in kept)
        launcher.build(records, output, *_FLAGS)
        again = builds.counters(output)
        problems = []
        if builds.digests(output) != expected:
            problems.append("DIFFERENT bytes")
        if generations.LATEST in kept and not manifests:
            problems.append("LATEST before the manifest")
        # What was published, or is just to be cleaned away, has no parts.
        if not manifests and again["parts_stored"] != num_parts - parts:
            problems.append(f"stored {again['parts_stored']} parts")
        wrong += bool(problems)
        print(
            f"{'finished' if finished else 'killed'} after {moment:4} "
            f"requests: {len(kept)} objects, {parts} of {num_parts} parts, "
            + (
                "published; "
                if manifests
                else f"no manifest; resumed: {again['parts_stored']} parts, "
                f"{again['shards_written']} shards, "
            )
            + (", ".join(problems) or "equal bytes"),
            flush=True,
        )
    return wrong


def _is_facts(key: str) -> bool:
    name = locations.name(key)
    return name.startswith("part-") and name.endswith(".parquet")


def build_twice_at_once(launcher: builds.Launcher, url: str) -> int:
    """Two builders of one data set; returns how many things went wrong."""
    records, output = f"{url}/raw/records.jsonl", f"{url}/twice"
    processes = [launcher.start(records, output) for _ in range(2)]
    results = [each.communicate() for each in processes]
    codes = [each.returncode for each in processes]
    refused = [
        errors.strip().splitlines()[-1]
        for (_, errors), code in zip(results, codes, strict=True)
        if code
    ]
    print(f"{url}, two builders at once: exit codes {codes}")
    for sentence in refused:
        print(f"  {sentence}")
    alone = f"{url}/alone"
    launcher.build(records, alone)
    equal = builds.digests(output) == builds.digests(alone)
    print(f"  {'equal' if equal else 'DIFFERENT'} bytes")
    return (len(refused) != 1) + (not equal)
