"""Clients in processes of their own, and what they met."""

import collections
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

_FOLDER = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked, see `photo_clients`."""

    kind: str
    address: str
    where: str

    def job(self, photos: Sequence[pathlib.Path], clients: int) -> str:
        """The argument of a process of clients."""
        return json.dumps(
            {
                "kind": self.kind,
                "address": self.address,
                "path": self.where,
                "model": self.where,
                "clients": clients,
                "photos": list(map(str, photos)),
            }
        )


@dataclasses.dataclass(frozen=True)
class Met:
    """What the clients met.

    Attributes:
        p50: milliseconds; p95 likewise.
        per_second: answers.
        stages: mean milliseconds of each stage, by the answers.
        client_cores: cores that the clients kept busy.
    """

    p50: float
    p95: float
    per_second: float
    stages: dict[str, float]
    client_cores: float


class Clients:
    """Clients that ask until they are stopped."""

    def __init__(
        self,
        target: Target,
        photos: Sequence[pathlib.Path],
        *,
        clients: int,
        processes: int,
    ):
        shares = [
            len(each) for each in np.array_split(range(clients), processes)
        ]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m"),
                    "benchmarks.recognition.photo_clients",
                    target.job(photos, share),
                ],
                cwd=_FOLDER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for share in shares
            if share
        ]
        for process in self._processes:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("A process of clients did not start.")
        self._tell()

    def stop(self) -> Met:
        """Ends them.

        Raises:
            RuntimeError: if a request failed.
        """
        self._tell()
        reports = [
            json.loads(process.communicate()[0]) for process in self._processes
        ]
        failures = [each["failures"] for each in reports if each["failures"]]
        if failures:
            raise RuntimeError(f"Failed requests: {failures}")
        latencies = np.concatenate([each["latencies"] for each in reports])
        stages = sum(
            (collections.Counter(each["stages"]) for each in reports),
            collections.Counter(),
        )
        return Met(
            p50=1000 * float(np.percentile(latencies, 50)),
            p95=1000 * float(np.percentile(latencies, 95)),
            per_second=sum(
                len(each["latencies"]) / each["seconds"] for each in reports
            ),
            stages={
                name: value / len(latencies) for name, value in stages.items()
            },
            client_cores=sum(
                each["cpu_seconds"] / each["seconds"] for each in reports
            ),
        )

    def _tell(self) -> None:
        for process in self._processes:
            process.stdin.write("\n")
            process.stdin.flush()


def run(
    target: Target,
    photos: Sequence[pathlib.Path],
    *,
    clients: int,
    processes: int,
    seconds: float,
) -> Met:
    """Lets clients ask for some seconds."""
    running = Clients(target, photos, clients=clients, processes=processes)
    time.sleep(seconds)
    return running.stop()
