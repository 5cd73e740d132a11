"""Clients in processes of their own, and what they met."""

import collections
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
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
        cpu: milliseconds of CPU an answer took, of clients and servers. Hardly
            depends on what else the machine does.
    """

    p50: float
    p95: float
    per_second: float
    stages: dict[str, float]
    cpu: dict[str, float]


class Clients:
    """Clients that ask until they are stopped."""

    def __init__(
        self,
        target: Target,
        photos: Sequence[pathlib.Path],
        *,
        clients: int,
        processes: int,
        servers: Mapping[str, int],
    ):
        """Starts them.

        Args:
            servers: process ids, whose CPU time is measured.
        """
        self._servers = servers
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
        self._cpu = {name: cpu_seconds(pid) for name, pid in servers.items()}
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
        cpu = {
            name: cpu_seconds(pid) - self._cpu[name]
            for name, pid in self._servers.items()
        }
        cpu["clients"] = sum(each["cpu_seconds"] for each in reports)
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
            cpu={
                name: 1000 * value / len(latencies)
                for name, value in cpu.items()
            },
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
    servers: Mapping[str, int],
) -> Met:
    """Lets clients ask for some seconds."""
    running = Clients(
        target, photos, clients=clients, processes=processes, servers=servers
    )
    time.sleep(seconds)
    return running.stop()


def cpu_seconds(pid: int) -> float:
    """What a process has taken so far, of user and of system."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    ticks = sum(map(int, stat.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
