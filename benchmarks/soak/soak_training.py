"""Kills and reshards training jobs, and compares with undisturbed ones.

Two checks on a real dataset, with a small network without BatchNorm:

kills    one job of two workers loses a random worker by SIGKILL, again and
         again, and is brought back by `--num_workers`; its loss curve and its
         last checkpoint must equal those of an undisturbed job, bit for bit.
reshard  a job goes on with another number of workers each time; its curve
         must equal that of one worker within 1e-5.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tqdm

from sicot_tf.checkpoints import step_folders
from sicot_tf.training import runs

_EXAMPLES = """
examples:
  python -m benchmarks.soak.soak_training --dataset demo/dataset
  python -m benchmarks.soak.soak_training --dataset demo/dataset --kills 3 \\
      --reshard 2 1
"""

_FLAGS = (
    *("--backbone", "SmallCNN", "--backbone_weights", "none"),
    *("--image_size", "32", "--log_steps", "1", "--checkpoint_steps", "10"),
    *("--learning_rate", "0.02", "--classifier", "sharded"),
)


def _command(dataset: pathlib.Path, run_dir: pathlib.Path, *flags: str) -> list:
    return [
        *(sys.executable, "-m", "sicot_tf.train", "--dataset", str(dataset)),
        *("--run_dir", str(run_dir), *_FLAGS, *flags),
    ]


def _run(command: list, log: pathlib.Path) -> None:
    """Runs a command to its end; its output goes to a file."""
    with open(log, "a") as output:
        subprocess.run(command, stdout=output, stderr=output, check=True)


def _workers(parent: int) -> list[int]:
    """Processes that a process has started."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
    return [int(each) for each in children.read_text().split()]


def _last_step(run_dir: pathlib.Path) -> int:
    rows = runs.read_curve(run_dir / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def _wait_for(process: subprocess.Popen, happened: Callable) -> bool:
    """Whether it happened before the process, with two workers, ended."""
    while process.poll() is None:
        if happened() and len(_workers(process.pid)) != 1:
            return True
        time.sleep(0.01)
    return False


def soak_kills(
    dataset: pathlib.Path,
    work_dir: pathlib.Path,
    *,
    num_kills: int,
    epochs: int,
    seed: int,
) -> dict:
    """SIGKILLs random workers; what came of it as a dictionary."""
    flags = ("--num_workers", "2", "--epochs", str(epochs))
    calm, killed = work_dir / "calm", work_dir / "killed"
    started = time.monotonic()
    _run(_command(dataset, calm, *flags), work_dir / "calm.log")
    calm_seconds = time.monotonic() - started
    rng = random.Random(seed)
    last_step = _last_step(calm)
    num_done, num_commands, code = 0, 0, None
    started = time.monotonic()
    progress = tqdm.tqdm(total=num_kills, desc="kills", unit="kill")
    while code != 0:
        num_commands += 1
        if num_commands > num_kills + 1:
            raise RuntimeError(f"Training fails: see {work_dir}/killed.log")
        with open(work_dir / "killed.log", "a") as output:
            process = subprocess.Popen(
                _command(dataset, killed, *flags), stdout=output, stderr=output
            )
        while num_done < num_kills and process.poll() is None:
            # A tenth of the kills hits the start; the others are spread over
            # the steps that are left.
            goal = 0
            if rng.random() > 0.1:
                step = step_folders.latest_step(killed / "checkpoints") or 0
                stride = (last_step - step) // (num_kills - num_done)
                goal = step + rng.randint(1, max(2, stride))
            if _wait_for(process, lambda: _last_step(killed) >= goal):
                time.sleep(rng.random())
                workers = _workers(process.pid)
                if workers:
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    num_done += 1
                    progress.update()
                    # All of them end, and are started again.
                    _wait_for(
                        process,
                        lambda: not set(workers) & set(_workers(process.pid)),
                    )
        code = process.wait()
    progress.close()
    same_curve = (calm / "metrics.jsonl").read_bytes() == (
        killed / "metrics.jsonl"
    ).read_bytes()
    return {
        "kills": num_done,
        "commands": num_commands,
        "steps": last_step,
        "curve_bytes_equal": same_curve,
        "weights_equal": _weights_equal(calm, killed),
        "calm_seconds": round(calm_seconds),
        "killed_seconds": round(time.monotonic() - started),
    }


def _weights_equal(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Whether the last checkpoints hold the same bits."""
    step = step_folders.latest_step(first / "checkpoints")
    readers = [
        tf.train.load_checkpoint(
            str(run / "checkpoints" / f"step-{step:08d}" / "variables")
        )
        for run in (first, second)
    ]
    return all(
        np.array_equal(*(each.get_tensor(name) for each in readers))
        for name in readers[0].get_variable_to_shape_map()
    )


def soak_reshard(
    dataset: pathlib.Path, work_dir: pathlib.Path, workers: list[int]
) -> dict:
    """Goes on with other numbers of workers; the curve against one worker."""
    calm, resharded = work_dir / "one_worker", work_dir / "resharded"
    epochs = str(len(workers))
    _run(
        _command(dataset, calm, "--epochs", epochs), work_dir / "one_worker.log"
    )
    for epoch, num_workers in enumerate(
        tqdm.tqdm(workers, desc="reshard", unit="epoch"), 1
    ):
        _run(
            _command(
                dataset,
                resharded,
                *("--epochs", str(epoch), "--num_workers", str(num_workers)),
            ),
            work_dir / "resharded.log",
        )
    curves = [
        [
            row["loss"]
            for row in runs.read_curve(run / "metrics.jsonl")
            if "loss" in row
        ]
        for run in (calm, resharded)
    ]
    difference = np.abs(np.subtract(*curves)) / np.abs(curves[0])
    return {
        "workers": workers,
        "steps": len(curves[1]),
        "largest_relative_difference": float(np.max(difference)),
    }


def main(argv: list[str] | None = None) -> None:
    """`python -m benchmarks.soak.soak_training`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=pathlib.Path, required=True)
    parser.add_argument(
        "--work_dir",
        type=pathlib.Path,
        default=pathlib.Path("soak"),
        help="emptied first (default: %(default)s)",
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--epochs", type=int, default=20, help="of the killed job"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--reshard",
        type=int,
        nargs="*",
        default=[4, 1, 3, 7],
        help="workers of each epoch (default: 4 1 3 7)",
    )
    arguments = parser.parse_args(argv)
    shutil.rmtree(arguments.work_dir, ignore_errors=True)
    arguments.work_dir.mkdir(parents=True)
    results = {}
    if arguments.reshard:
        results["reshard"] = soak_reshard(
            arguments.dataset, arguments.work_dir, arguments.reshard
        )
        print(json.dumps(results["reshard"]), flush=True)
    if arguments.kills:
        results["kills"] = soak_kills(
            arguments.dataset,
            arguments.work_dir,
            num_kills=arguments.kills,
            epochs=arguments.epochs,
            seed=arguments.seed,
        )
        print(json.dumps(results["kills"]), flush=True)
    passed = not arguments.kills or (
        results["kills"]["curve_bytes_equal"]
        and results["kills"]["weights_equal"]
    )
    if arguments.reshard:
        difference = results["reshard"]["largest_relative_difference"]
        passed = passed and difference < 1e-5
    print("passed" if passed else "FAILED", f"(logs: {arguments.work_dir})")
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
