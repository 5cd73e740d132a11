"""Mistakes with stores: each shall be a sentence within seconds."""

import time
from collections.abc import Mapping

from benchmarks.stores import builds
from benchmarks.stores import servers
from sicot_tf import exit_codes

# A user waits that long for an answer; what imports take is more than half.
_PATIENCE = 60


def make_all(
    launcher: builds.Launcher, s3: servers.Server, gcs: servers.Server
) -> int:
    """Makes all mistakes; returns how many were not told as they should be."""
    output = f"{s3.url}/mistakes"
    records = f"{s3.url}/raw/records.jsonl"
    nowhere = f"http://{servers.NOWHERE}"
    made = {
        "s3: missing file": (f"{s3.url}/raw/none.jsonl", output, {}),
        "s3: missing bucket, input": ("s3://none/r.jsonl", output, {}),
        "s3: missing bucket, output": (records, "s3://none/out", {}),
        "s3: wrong secret": (records, output, {"AWS_SECRET_ACCESS_KEY": "no"}),
        "s3: unknown key": (records, output, {"AWS_ACCESS_KEY_ID": "no"}),
        "s3: no server": (records, output, {"AWS_ENDPOINT_URL": nowhere}),
        "gs: missing file": (f"{gcs.url}/raw/none.jsonl", output, {}),
        "gs: missing bucket, output": (records, "gs://none/out", {}),
        "gs: no server": (
            f"{gcs.url}/raw/records.jsonl",
            output,
            {"STORAGE_EMULATOR_HOST": nowhere},
        ),
    }
    wrong = 0
    for name, (source, target, environment) in made.items():
        code, seconds, lines = _make(launcher, source, target, environment)
        # What the machine lacks is worth another try, as of local builds.
        expected = 1 if name.endswith("no server") else exit_codes.BAD_INPUT
        is_told = code == expected and seconds < _PATIENCE and len(lines) == 1
        wrong += not is_told
        print(
            f"{name}: exit code {code}, {seconds:.1f} s"
            f"{'' if is_told else ', NOT as it should be'}"
        )
        print("\n".join(f"  {line}" for line in lines[-3:]), flush=True)
    return wrong


def _make(
    launcher: builds.Launcher,
    records: str,
    output: str,
    environment: Mapping[str, str],
) -> tuple[int, float, list[str]]:
    """Exit code, seconds, and what was said but the usual lines of the log."""
    started = time.monotonic()
    process = launcher.start(records, output, environment=environment)
    _, errors = process.communicate()
    said = [line for line in errors.splitlines() if " INFO " not in line[:20]]
    return process.returncode, time.monotonic() - started, said
