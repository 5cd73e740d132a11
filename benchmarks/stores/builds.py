"""Builds of a data set as an engineer would start them, on any store."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping

from benchmarks.jobs import portable_runners
from benchmarks.soak import soak_build_dataset
from sicot_tf.data import generations
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_ROOT = pathlib.Path(__file__).parents[2]
_PART_RECORDS = 25
_FLAGS = ("--word_vector_dim=16", "--word2vec_epochs=2", "--shard_megabytes=1")


@contextlib.contextmanager
def variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process, which asks the stores as well."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclasses.dataclass(frozen=True)
class Launcher:
    """Starts builds in folders of its own: working folder, HOME and TMPDIR.

    Attributes:
        folder: where these are.
    """

    folder: pathlib.Path

    def start(
        self,
        records: locations.Location,
        output: locations.Location,
        *flags: str,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen:
        """Starts a build in a session of its own, so that all of it can die."""
        for name in ("home", "temporary"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "beam_jobs.build_dataset"]
            + [f"--input={records}", f"--output={output}"]
            + [f"--part_records={_PART_RECORDS}", *_FLAGS, *flags],
            cwd=self.folder,
            env={
                **os.environ,
                "HOME": str(self.folder / "home"),
                "TMPDIR": str(self.folder / "temporary"),
                "PYTHONPATH": str(_ROOT),
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def build(
        self,
        records: locations.Location,
        output: locations.Location,
        *flags: str,
    ) -> float:
        """Builds to the end; returns the seconds."""
        started = time.monotonic()
        process = self.start(records, output, *flags)
        printed, errors = process.communicate()
        if process.returncode:
            raise SystemExit(
                f"{printed}\n{errors}\nFailed: {' '.join(process.args)}"
            )
        return time.monotonic() - started


def counters(output: locations.Location) -> Counter[str]:
    """What Beam counted in the run that published the newest generation."""
    place = opening.open_folder(output)
    generation = place.child(place.get(generations.LATEST).decode().strip())
    return Counter(generation.get_json(generations.RUN)["beam_counters"])


def upload(folder: pathlib.Path, place: locations.Location) -> None:
    """Copies records and their pictures."""
    store = opening.open_folder(place)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def print_table(columns: Mapping[str, Mapping[str, str]]) -> int:
    """Prints a row a file and a column a build; returns how many rows differ.

    Args:
        columns: of each build the digests, the first one's being right.
    """
    width = max(12, *map(len, columns)) + 2
    print(" " * 34 + "".join(f"{name:{width}}" for name in columns))
    wrong = 0
    first, *_ = columns.values()
    for key in sorted({key for each in columns.values() for key in each}):
        digests = [each.get(key, "-") for each in columns.values()]
        differs = len(set(digests)) > 1
        wrong += differs
        print(
            f"{key:34}"
            + "".join(f"{digest[:12]:{width}}" for digest in digests)
            + ("DIFFERENT" if differs else "")
        )
    print(
        f"{len(first)} files of {len(columns)} builds: "
        + (f"{wrong} DIFFERENT" if wrong else "all equal")
    )
    return wrong


make_records = portable_runners.make_records
digests = soak_build_dataset.digests
