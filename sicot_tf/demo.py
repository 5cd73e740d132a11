"""The whole road on real pictures, from raw records to a recognised product.

Runs the commands an engineer would run, one after the other, and prints each
before it runs. What is finished is not done again.
"""

import argparse
import contextlib
import io
import json
import pathlib
import random
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from sicot_tf import command_line
from sicot_tf.evaluation import report

_EXAMPLES = """
examples:
  python -m sicot_tf.demo
  python -m sicot_tf.demo --quick
  python -m sicot_tf.demo --num_classes 0 --directory demo-full
"""
# Over the demo preset, which trains end to end for 10 epochs.
_QUICK = ("--freeze_backbone", "--epochs", "6", "--learning_rate", "0.02")
_NUM_PHOTOS = 12
_START_UP_NOISE = re.compile(
    rb"WARNING: All log messages before absl|To enable the following"
    rb"|[IE]0000 .*(port|cudart_stub|cuda_platform|cpu_feature_guard"
    rb"|mlir_graph_optimization_pass|tf_record_dataset_op)\.cc"
    rb"|WARNING:root:apitools not found"
    rb"|WARNING:tensorflow:From .* load \(from .*loader_impl\)"
    rb"|Instructions for updating:|Use `tf.saved_model.load` instead"
)


def run_road(
    directory: pathlib.Path,
    saved_models: pathlib.Path,
    *,
    num_classes: int,
    quick: bool,
) -> None:
    """Goes from drawings to products recognised over gRPC.

    Args:
        directory: where everything but the SavedModel is written.
        saved_models: the folder of served models.
        num_classes: how many things to tell apart; 0: all.
        quick: trains with a frozen backbone.
    """
    records = directory / "records"
    dataset = directory / "dataset"
    run_root = directory / ("runs-quick" if quick else "runs")
    model = saved_models / ("sicot-quick" if quick else "sicot")
    settings = _QUICK if quick else ()

    _run(
        "1. Raw records from drawings and annotators' words",
        "beam_jobs.emoji_records",
        *("--output", records, "--num_classes", num_classes),
    )
    _run(
        "2. Raw records to TFRecords",
        "beam_jobs.build_dataset",
        *("--input", records / "records.jsonl", "--output", dataset),
    )
    _run(
        "2b. Look at the data",
        "beam_jobs.dataset_statistics",
        *("--dataset", dataset, "--output", directory / "statistics"),
    )
    for number, streams in (("3a", "visual"), ("3b", "cotrain")):
        _run(
            f"{number}. Train: {streams}"
            + (" (quick: the backbone is frozen)" if quick else ""),
            "sicot_tf.train",
            *("--dataset", dataset, "--run_dir", run_root / streams),
            *("--streams", streams),
            *settings,
        )
    _run(
        "4. Evaluate on artists that training never saw",
        "sicot_tf.evaluate",
        *("--run_dir", run_root / "cotrain"),
        *("--compare_to", run_root / "visual"),
    )
    _run(
        "5. Explain: which words the attention trusts",
        "sicot_tf.explain",
        *("--run_dir", run_root / "cotrain"),
    )
    _run(
        "6. Export the visual stream",
        "sicot_tf.export",
        *("--run_dir", run_root / "cotrain", "--output", model),
    )
    photos = _held_out_photos(records, dataset)
    _headline("7. Serve, and recognise held-out photos over gRPC")
    with _server(model) as address:
        _recognize(photos, address, model.name, run_root / "cotrain")

    evaluation = run_root / "cotrain" / "evaluation-test"
    _headline("What came of it")
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    tables = {name: metrics["runs"][name] for name in ("visual", "cotrain")}
    print(report.format_table(tables))
    sentences = report.headline(tables, metrics["comparison"])
    print("\n" + "\n".join(sentences) + "\n")
    print(f"The data        {directory / 'statistics' / 'statistics.html'}")
    print(f"Report          {evaluation / 'report.html'}")
    print(f"Plots           {evaluation}/*.svg")
    print(f"Attention page  {run_root / 'cotrain' / 'attention.html'}")
    print(f"TensorBoard     tensorboard --logdir {run_root}")
    print(f"SavedModel      {model}")
    print(f"Licences        {records / 'LICENSES.md'}")


def _run(headline: str, module: str, *arguments: object) -> None:
    """Runs one command of the project and stops the road if it fails."""
    _headline(headline)
    words = ["-m", module, *map(str, arguments)]
    print("$ python " + shlex.join(words), flush=True)
    started = time.monotonic()
    command = [sys.executable, *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        _pass_on(process.stderr)
    if process.returncode:
        raise SystemExit(f"{module} failed; see its message above.")
    print(f"[{time.monotonic() - started:.0f} s]", flush=True)


def _pass_on(errors: BinaryIO) -> None:
    """Passes a command's stderr on, without what TensorFlow says at start.

    Five lines from each of ten commands on oneDNN and missing GPUs, which no
    environment variable turns off, would hide what the commands say.
    """
    waiting = b""
    while content := errors.read1():
        *lines, waiting = re.split(rb"(?<=[\r\n])", waiting + content)
        for line in lines:
            if not _START_UP_NOISE.match(line):
                sys.stderr.buffer.write(line)
        sys.stderr.flush()
    sys.stderr.buffer.write(waiting)
    sys.stderr.flush()


def _headline(text: str) -> None:
    print(f"\n=== {text}", flush=True)


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
    words = ["-m", "sicot_tf.serve", "--model_name", model.name]
    words += ["--model_base_path", str(model.resolve()), "--port", str(port)]
    print("$ python " + shlex.join(words), flush=True)
    command = [sys.executable, *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        reader = threading.Thread(target=_pass_on, args=[process.stderr])
        reader.start()
        try:
            yield f"localhost:{port}"
        finally:
            process.terminate()
            reader.join()


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
    command = [sys.executable, *words]
    finished = subprocess.run(command, capture_output=True, check=False)
    _pass_on(io.BytesIO(finished.stderr))
    if finished.returncode:
        raise SystemExit("sicot_tf.client failed; see its message above.")
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


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.demo`."""
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.demo",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    run_road(
        arguments.directory,
        arguments.saved_models,
        num_classes=arguments.num_classes,
        quick=arguments.quick,
    )
    print(f"The road took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
