"""Latencies of serving.py while the server changes from version to version."""

import itertools
import pathlib
import shutil
import time
from collections.abc import Sequence

import grpc
import numpy as np
import tqdm
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from benchmarks.server import serving_processes

_SWAP_SECONDS = 120
_NUM_CALLERS = 2


def measure(
    folder: pathlib.Path, repeats: int, num_swaps: int
) -> list[tuple[float, float]]:
    """99th percentiles at rest and during swaps, in milliseconds."""
    results = []
    versions = itertools.count(2)
    with serving_processes.serve(
        folder, batching=False, cores=serving_processes.ALL_CORES
    ) as target:
        for _ in tqdm.trange(repeats, desc="swaps", disable=None):
            clients = serving_processes.Clients(
                target,
                num_processes=1,
                num_callers=_NUM_CALLERS,
                cores=serving_processes.ALL_CORES,
            )
            time.sleep(1)
            begin = time.monotonic()
            for version in itertools.islice(versions, num_swaps):
                _swap(target, folder, version)
            middle = time.monotonic()
            time.sleep(1)
            rest = time.monotonic()
            time.sleep(middle - begin)
            end = time.monotonic()
            [report] = clients.stop()
            results.append(
                (
                    _p99(report["answers"], rest, end),
                    _p99(report["answers"], begin, middle),
                )
            )
    return results


def _versions(channel: grpc.Channel) -> dict[int, int]:
    """State of each version that the server knows."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = serving_processes.MODEL
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    return {
        each.version: each.state
        for each in stub.GetModelStatus(request).model_version_status
    }


def _swap(
    target: serving_processes.Target, folder: pathlib.Path, version: int
) -> None:
    """Adds `version`; returns when the one before it is gone."""
    status = get_model_status_pb2.ModelVersionStatus
    base_path = folder / serving_processes.MODEL
    temporary = base_path / f".{version}"
    shutil.copytree(base_path / "1", temporary)
    temporary.rename(base_path / str(version))
    end = time.monotonic() + _SWAP_SECONDS
    while time.monotonic() < end:
        states = _versions(target.channel)
        if (states.get(version), states.get(version - 1)) == (
            status.AVAILABLE,
            status.END,
        ):
            return
        time.sleep(0.05)
    raise RuntimeError(f"Version {version} did not replace the one before it.")


def _p99(
    answers: Sequence[tuple[float, float]], begin: float, end: float
) -> float:
    """Of the requests that were under way between two times, milliseconds."""
    return float(
        np.percentile(
            [
                taken * 1000
                for start, taken in answers
                if start + taken > begin and start < end
            ],
            99,
        )
    )
