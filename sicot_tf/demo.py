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
from sicot_tf.workers import exit_codes

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


class _Places(NamedTuple):
    """Where the road's artefacts lie."""

    records: pathlib.Path
    dataset: pathlib.Path
    statistics: pathlib.Path
    runs: pathlib.Path
    model: pathlib.Path


def run_road(places: _Places, *, num_classes: int, quick: bool) -> None:
    """Goes from drawings to products recognised over gRPC.

    Args:
        num_classes: how many things to tell apart; 0: all.
        quick: trains with a frozen backbone.
    """
    _run(
        "1. Raw records from drawings and annotators' words",
        "beam_jobs.emoji_records",
        *("--output", places.records, "--num_classes", num_classes),
    )
    _run(
        "2. Raw records to TFRecords",
        "beam_jobs.build_dataset",
        *("--input", places.records / "records.jsonl"),
        *("--output", places.dataset),
    )
    _run(
        "2b. Look at the data",
        "beam_jobs.dataset_statistics",
        *("--dataset", places.dataset, "--output", places.statistics),
    )
    for number, streams in (("3a", "visual"), ("3b", "cotrain")):
        _run(
            f"{number}. Train: {streams}"
            + (" (quick: the backbone is frozen)" if quick else ""),
            "sicot_tf.train",
            *("--dataset", places.dataset, "--run_dir", places.runs / streams),
            *("--streams", streams),
            *(_QUICK if quick else ()),
        )
    cotrain = places.runs / "cotrain"
    _run(
        "4. Evaluate on artists that training never saw",
        "sicot_tf.evaluate",
        *("--run_dir", cotrain, "--compare_to", places.runs / "visual"),
    )
    _run(
        "5. Explain: which words the attention trusts",
        "sicot_tf.explain",
        *("--run_dir", cotrain),
    )
    _run(
        "6. Export the visual stream",
        "sicot_tf.export",
        *("--run_dir", cotrain, "--output", places.model),
    )
    photos = _held_out_photos(places.records, places.dataset)
    _headline("7. Serve, and recognise held-out photos over gRPC")
    with _server(places.model) as address:
        _recognize(photos, address, places.model.name, cotrain)


def _print_outcome(places: _Places) -> None:
    """The accuracies of both runs, and where everything lies."""
    from sicot_tf.evaluation import report

    evaluation = places.runs / "cotrain" / "evaluation-test"
    _headline("What came of it")
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    tables = {name: metrics["runs"][name] for name in ("visual", "cotrain")}
    print(report.format_table(tables))
    sentences = report.headline(tables, metrics["comparison"])
    print("\n" + "\n".join(sentences) + "\n")
    print(f"The data        {places.statistics / 'statistics.html'}")
    print(f"Report          {evaluation / 'report.html'}")
    print(f"Plots           {evaluation}/*.svg")
    print(f"Attention page  {places.runs / 'cotrain' / 'attention.html'}")
    print(f"TensorBoard     tensorboard --logdir {places.runs}")
    print(f"SavedModel      {places.model}")
    print(f"Licences        {places.records / 'LICENSES.md'}")


def _headline(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _run(headline: str, module: str, *arguments: object) -> None:
    """Runs one command of the project and stops the road if it fails."""
    _headline(headline)
    started = time.monotonic()
    command = _show("-m", module, *map(str, arguments))
    _expect_success(module, subprocess.run(command, check=False).returncode)
    print(f"[{time.monotonic() - started:.0f} s]", flush=True)


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
def _server(model: pathlib.Path) -> Iterator[str]:
    """The embedded server as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = _show(
        *("-m", "sicot_tf.serve", "--model_name", model.name),
        *("--model_base_path", str(model.resolve()), "--port", str(port)),
    )
    with subprocess.Popen(command) as process:
        try:
            yield f"localhost:{port}"
        finally:
            process.terminate()


def _recognize(
    photos: list[dict[str, str]],
    address: str,
    model_name: str,
    run_dir: pathlib.Path,
) -> None:
    """Prints what the server sees in each photo beside what it is."""
    words = ["-m", "sicot_tf.client", *[photo["image"] for photo in photos]]
    words += ["--server", address, "--model_name", model_name]
    words += ["--product_names", str(run_dir / "classes.jsonl")]
    # The server loads the model and warms it up first.
    words += ["--top_k", "1", "--timeout", "120"]
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
    places = _Places(
        records=directory / "records",
        dataset=directory / "dataset",
        statistics=directory / "statistics",
        runs=directory / f"runs{end}",
        model=arguments.saved_models / f"sicot{end}",
    )
    run_road(places, num_classes=arguments.num_classes, quick=arguments.quick)
    _print_outcome(places)
    print(f"The road took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
