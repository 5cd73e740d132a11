"""What titles give: baseline, co-training, and co-training on wrong titles.

Trains each with several seeds on one dataset, end to end, and prints top-1
accuracy (mean over classes) on the test records: the mean over seeds with
the lowest and the highest, and the same of the differences within a seed.

    python -m benchmarks.training.cotraining_gain --dataset demo/dataset

With the demo's 400 classes a run takes about 2 minutes on 2 cores. Runs that
are there already are not trained again.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys

_RUNS = {
    "visual": ["--streams", "visual"],
    "cotrain": [],
    # The control: what is left of a gain here is not the titles' doing.
    "shuffled": ["--shuffle_titles"],
}
_GROUPS = ("overall", "head", "tail")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", type=pathlib.Path, required=True)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/gain")
    )
    parser.add_argument("--num_seeds", type=int, default=3)
    parser.add_argument(
        "--train_flags", default="", help="more flags for all trainings"
    )
    arguments = parser.parse_args()
    accuracies = {name: [] for name in _RUNS}
    for seed in range(arguments.num_seeds):
        for name, flags in _RUNS.items():
            run_dir = arguments.output / f"{name}-{seed}"
            _command(
                "sicot_tf.train",
                *("--dataset", arguments.dataset, "--run_dir", run_dir),
                *("--seed", seed, *flags),
                *shlex.split(arguments.train_flags),
            )
            _command("sicot_tf.evaluate", "--run_dir", run_dir)
            metrics = json.loads(
                (run_dir / "evaluation-test" / "metrics.json").read_text()
            )
            groups = metrics["runs"][run_dir.name]["groups"]
            accuracies[name].append(
                [100 * groups[g]["top1"]["macro"]["value"] for g in _GROUPS]
            )
    print(f"{'top-1, %':<22}" + "".join(f"{g:>24}" for g in _GROUPS))
    for name, rows in accuracies.items():
        _print_row(name, rows)
    for name, other in (
        ("cotrain", "visual"),
        ("shuffled", "visual"),
        ("cotrain", "shuffled"),
    ):
        rows = [
            [a - b for a, b in zip(first, second)]
            for first, second in zip(accuracies[name], accuracies[other])
        ]
        _print_row(f"{name} - {other}", rows)


def _command(module: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _print_row(name: str, rows: list[list[float]]) -> None:
    """Mean, and lowest to highest over the seeds."""
    cells = [
        f"{statistics.mean(column):.1f} [{min(column):.1f}, {max(column):.1f}]"
        for column in zip(*rows)
    ]
    print(f"{name:<22}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
