"""The whole road on real pictures, from raw records to a recognised product.

Runs the commands an engineer would run, one after the other, and prints each
before it runs. What is finished is not done again.
"""

import contextlib
import json
import logging
import pathlib
import random
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from sicot_tf import command_line
from sicot_tf import exit_codes

_EXAMPLES = """
examples:
  python -m sicot_tf.demo
  python -m sicot_tf.demo --quick
  python -m sicot_tf.demo --num_classes 0 --directory demo-full
"""
# Over the demo preset, which trains end to end for 10 epochs.
_QUICK = ("--freeze_backbone", "--epochs", "6", "--learning_rate", "0.02")
_NUM_PHOTOS = 12
_log = logging.getLogger(__name__)


class _Road(NamedTuple):
    """Where the artefacts lie, and how much the commands say."""

    records: pathlib.Path
    dataset: pathlib.Path
    statistics: pathlib.Path
    runs: pathlib.Path
    model: pathlib.Path
    # For every command.
    log_flags: tuple[str, ...] = ()

    def run(self, headline: str, module: str, *arguments: object) -> None:
        """Runs one command of the project and stops the road if it fails."""
        _headline(headline)
        started = time.monotonic()
        command = _show(*("-m", module, *map(str, arguments), *self.log_flags))
        _expect_success(module, subprocess.run(command, check=False).returncode)
        print(f"[{time.monotonic() - started:.0f} s]", flush=True)


def _go(road: _Road, *, num_classes: int, quick: bool) -> None:
    """Goes from drawings to products recognised over gRPC.

    Args:
        num_classes: how many things to tell apart; 0: all.
        quick: trains with a frozen backbone.
    """
    road.run(
        "1. Raw records from drawings and annotators' words",
        "beam_jobs.emoji_records",
        *("--output", road.records, "--num_classes", num_classes),
    )
    road.run(
        "2. Raw records to TFRecords",
        "beam_jobs.build_dataset",
        *("--input", road.records / "records.jsonl"),
        *("--output", road.dataset),
    )
    road.run(
        "2b. Look at the data",
        "beam_jobs.dataset_statistics",
        *("--dataset", road.dataset, "--output", road.statistics),
    )
    for number, streams in (("3a", "visual"), ("3b", "cotrain")):
        road.run(
            f"{number}. Train: {streams}"
            + (" (quick: the backbone is frozen)" if quick else ""),
            "sicot_tf.train",
            *("--dataset", road.dataset, "--run_dir", road.runs / streams),
            *("--streams", streams),
            *(_QUICK if quick else ()),
        )
    cotrain = road.runs / "cotrain"
    road.run(
        "4. Evaluate on artists that training never saw",
        "sicot_tf.evaluate",
        *("--run_dir", cotrain, "--compare_to", road.runs / "visual"),
    )
    road.run(
        "5. Explain: which words the attention trusts",
        "sicot_tf.explain",
        *("--run_dir", cotrain),
    )
    road.run(
        "6. Export the visual stream",
        "sicot_tf.export",
        *("--run_dir", cotrain, "--output", road.model),
    )
    photos = _held_out_photos(road.records, road.dataset)
    _headline("7. Serve, and recognise held-out photos over gRPC")
    with _server(road) as address:
        _recognize(photos, address, road)


def _print_outcome(road: _Road) -> None:
    """The accuracies of both runs, and where everything lies."""
    from sicot_tf.evaluation import report

    evaluation = road.runs / "cotrain" / "evaluation-test"
    _headline("What came of it")
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    tables = {name: metrics["runs"][name] for name in ("visual", "cotrain")}
    print(report.format_table(tables))
    sentences = report.headline(tables, metrics["comparison"])
    print("\n" + "\n".join(sentences) + "\n")
    print(f"The data        {road.statistics / 'statistics.html'}")
    print(f"Report          {evaluation / 'report.html'}")
    print(f"Plots           {evaluation}/*.svg")
    print(f"Attention page  {road.runs / 'cotrain' / 'attention.html'}")
    print(f"TensorBoard     tensorboard --logdir {road.runs}")
    print(f"SavedModel      {road.model}")
    print(f"Licences        {road.records / 'LICENSES.md'}")


def _headline(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _show(*words: str) -> list[str]:
    """Prints a command; returns it for `subprocess`."""
    print("$ python " + shlex.join(words), flush=True)
    return [sys.executable, *words]


def _expect_success(module: str, code: int) -> None:
    """Ends the road with a command that failed."""
    if code == exit_codes.BAD_INPUT:
        # It has said what to do.
        raise SystemExit(code)
    if code:
        _log.error("%s failed; see its message above.", module)
        raise SystemExit(1)


def _held_out_photos(
    records: pathlib.Path, dataset: pathlib.Path
) -> list[dict[str, str]]:
    """Some test records at random, the same ones each time."""
    generation = dataset / (dataset / "LATEST").read_text("utf-8").strip()
    known = {each["sku_id"] for each in _rows(generation / "classes.jsonl")}
    rows = [
        row
        for row in _rows(records / "records.jsonl")
        if row["split"] == "test" and row["sku_id"] in known
    ]
    rows = random.Random(0).sample(rows, min(_NUM_PHOTOS, len(rows)))
    return [{**row, "image": str(records / row["image"])} for row in rows]


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def _server(road: _Road) -> Iterator[str]:
    """The embedded server as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = _show(
        *("-m", "sicot_tf.serve", "--model_name", road.model.name),
        *("--model_base_path", str(road.model.resolve())),
        *("--port", str(port), *road.log_flags),
    )
    with subprocess.Popen(command) as process:
        try:
            yield f"localhost:{port}"
        finally:
            process.terminate()


def _recognize(photos: list[dict[str, str]], address: str, road: _Road) -> None:
    """Prints what the server sees in each photo beside what it is."""
    words = ["-m", "sicot_tf.client", *[photo["image"] for photo in photos]]
    words += ["--server", address, "--model_name", road.model.name]
    names = road.runs / "cotrain" / "classes.jsonl"
    words += ["--product_names", str(names)]
    # The server loads the model and warms it up first.
    words += ["--top_k", "1", "--timeout", "120", *road.log_flags]
    finished = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, check=False
    )
    _expect_success("sicot_tf.client", finished.returncode)
    shown = shlex.join(words[:3] + words[2 + len(photos) :])
    print(f"$ python {shown}   # and {len(photos) - 1} more photos\n")
    print(f"{'photo':<30}{'true':<27}{'recognised':<40}score")
    num_right = 0
    # A line with the path, then one with score, SKU id and name.
    answers = finished.stdout.decode().splitlines()[1::2]
    for photo, answer in zip(photos, answers, strict=True):
        score, sku_id, name = answer.split(None, 2)
        right = sku_id == photo["sku_id"]
        num_right += right
        print(
            f"{photo['record_id']:<29.29} {photo['sku_name']:<26.26} "
            f"{f'{sku_id} {name}':<39.39} {score:>6} "
            f"{'right' if right else 'wrong'}"
        )
    print(f"{num_right} of {len(photos)} right", flush=True)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.demo", __doc__, _EXAMPLES)
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        default=pathlib.Path("demo"),
        help="where the road's artefacts lie (default: %(default)s)",
    )
    parser.add_argument(
        "--saved_models",
        type=pathlib.Path,
        default=pathlib.Path("saved_models"),
        help="where the SavedModel goes (default: %(default)s)",
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        default=400,
        help="things to tell apart; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about 3 minutes: frozen backbone, fewer epochs",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.demo`."""
    arguments = _make_parser().parse_args(argv)
    started = time.monotonic()
    directory, end = arguments.directory, "-quick" if arguments.quick else ""
    road = _Road(
        records=directory / "records",
        dataset=directory / "dataset",
        statistics=directory / "statistics",
        runs=directory / f"runs{end}",
        model=arguments.saved_models / f"sicot{end}",
        log_flags=(
            ()
            if arguments.verbosity == "info"
            else ("--verbosity", arguments.verbosity)
        ),
    )
    _go(road, num_classes=arguments.num_classes, quick=arguments.quick)
    _print_outcome(road)
    print(f"The road took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
