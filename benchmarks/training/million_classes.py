"""A million classes, end to end, on two workers of one machine.

Generates records of a million classes, trains on them with two processes,
goes on with one, exports and asks the server, by the project's own commands.
Prints the time and the largest resident memory of each station.
"""

import argparse
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import PIL.Image

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.data import tfrecords

_EXAMPLES = """
examples:
  python -m benchmarks.training.million_classes
  python -m benchmarks.training.million_classes --num_classes 20000 \\
      --num_records 2000
"""

_VOCABULARY = 1000
_IMAGE_SIZE = 32


def generate(path: pathlib.Path, num_classes: int, num_records: int) -> None:
    """Writes a dataset generation: noise pictures, random titles and labels."""
    rng = np.random.default_rng(0)
    path.mkdir(parents=True)
    words = [f"word{number}" for number in range(_VOCABULARY)]
    (path / "vocabulary.txt").write_text("\n".join(words) + "\n")
    vectors = rng.normal(size=(_VOCABULARY + 1, 32)).astype(np.float32)
    np.save(path / "word_vectors.npy", vectors)
    splits = {}
    counts = np.zeros(num_classes, np.int64)
    for split, count in (("train", num_records), ("val", 64), ("test", 64)):
        labels = rng.integers(0, num_classes, count)
        if split == "train":
            np.add.at(counts, labels, 1)
        name = f"{split}-00000-of-00001"
        offsets = tfrecords.write(
            path / f"{name}.tfrecord",
            (
                _example(f"{split}{number}", int(label), rng, words)
                for number, label in enumerate(labels)
            ),
        )
        np.save(path / f"{name}.offsets.npy", np.array(offsets, np.uint64))
        splits[split] = {"records": count, "shards": {name: count}}
    with open(path / "classes.jsonl", "w") as lines:
        for label in range(num_classes):
            row = {
                "label": label,
                "sku_id": f"sku{label}",
                "sku_name": f"product {label}",
                "train": int(counts[label]),
                "val": 0,
                "test": 0,
                "head": bool(counts[label] > 1),
            }
            lines.write(json.dumps(row) + "\n")
    files.write_json(
        path / generations.MANIFEST,
        {
            "num_classes": num_classes,
            "vocabulary_size": _VOCABULARY,
            "word_vector_dim": 32,
            "long_tail": {"head_threshold": 2},
            "splits": splits,
            "files": {
                each.name: {"bytes": each.stat().st_size}
                for each in path.iterdir()
            },
        },
    )


def _example(
    record_id: str, label: int, rng: np.random.Generator, words: list[str]
) -> bytes:
    pixels = rng.integers(0, 256, (_IMAGE_SIZE, _IMAGE_SIZE, 3), np.uint8)
    encoded = io.BytesIO()
    PIL.Image.fromarray(pixels).save(encoded, "JPEG")
    word_ids = rng.integers(1, _VOCABULARY + 1, 6).tolist()
    title = [words[each - 1] for each in word_ids]
    return records.encode_example(
        record_id=record_id,
        image=encoded.getvalue(),
        sku_id=f"sku{label}",
        label=label,
        title=" ".join(title),
        words=title,
        word_ids=word_ids,
        source="generated",
    )


class _Station:
    """A command, its output, its seconds and the memory of its processes."""

    def __init__(self, title: str, *command: str):
        self.title = title
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        self.lines: list[str] = []
        self.peaks: dict[int, float] = {}
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    def _watch(self) -> None:
        while self.process.poll() is None:
            for pid in [self.process.pid, *self._children()]:
                try:
                    status = pathlib.Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                found = re.search(r"VmHWM:\s+(\d+) kB", status)
                if found:
                    self.peaks[pid] = int(found[1]) / 2**20
            time.sleep(0.1)

    def _children(self) -> list[int]:
        pid = self.process.pid
        try:
            return [
                int(each)
                for each in pathlib.Path(f"/proc/{pid}/task/{pid}/children")
                .read_text()
                .split()
            ]
        except OSError:
            return []

    def wait(self) -> str:
        """Waits for its end; prints and returns."""
        code = self.process.wait()
        time.sleep(0.2)
        output = "".join(self.lines)
        if code:
            raise RuntimeError(f"{self.title}: exit code {code}\n{output}")
        self.report()
        return output

    def report(self) -> None:
        """Prints seconds and memory."""
        peaks = " + ".join(
            f"{peak:.2f}" for peak in sorted(self.peaks.values()) if peak > 0.2
        )
        print(
            f"{self.title:<34}{time.monotonic() - self.started:8.1f} s   "
            f"{peaks} GiB",
            flush=True,
        )


def main(argv: list[str] | None = None) -> None:
    """`python -m benchmarks.training.million_classes`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num_classes", type=int, default=1_000_000)
    parser.add_argument("--num_records", type=int, default=1280)
    parser.add_argument("--port", type=int, default=18500)
    parser.add_argument(
        "--work_dir",
        type=pathlib.Path,
        default=pathlib.Path("million_classes"),
        help="emptied first (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    folder = arguments.work_dir
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    generate(folder / "dataset", arguments.num_classes, arguments.num_records)
    print(f"{'generate':<34}{time.monotonic() - started:8.1f} s")
    train(folder, arguments.num_classes)
    serve(folder, arguments.port)


def train(folder: pathlib.Path, num_classes: int) -> None:
    """An epoch on two workers, another on one; prints loss and sizes."""
    command = (
        *("-m", "sicot_tf.train", "--dataset", str(folder / "dataset")),
        *("--run_dir", str(folder / "run"), "--backbone", "SmallCNN"),
        *("--backbone_weights", "none", "--image_size", str(_IMAGE_SIZE)),
        *("--global_batch_size", "64", "--log_steps", "1"),
        *("--keep_checkpoints", "2"),
    )
    for title, flags in (
        ("train 1 epoch, 2 workers", ("--epochs", "1", "--num_workers", "2")),
        ("resume, 1 worker, 1 more epoch", ("--epochs", "2")),
    ):
        _Station(title, *command, *flags).wait()
    steps = [
        json.loads(line)
        for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [row["loss_visual"] for row in steps if "loss" in row]
    print(f"  loss_visual {losses[0]:.4f} -> {losses[-1]:.4f}, ", end="")
    print(f"log(C) = {np.log(num_classes):.4f}, {len(losses)} steps")
    size = sum(
        each.stat().st_size for each in folder.glob("run/checkpoints/*/*")
    )
    print(f"  two checkpoints: {size / 2**30:.2f} GiB")


def serve(folder: pathlib.Path, port: int) -> None:
    """Exports the run, and asks a server about one photo."""
    model = (folder / "saved_models" / "million").resolve()
    _Station(
        "export",
        *("-m", "sicot_tf.export", "--run_dir", str(folder / "run")),
        *("--output", str(model)),
    ).wait()
    server = _Station(
        "serve: start, one photo, stop",
        *("-m", "sicot_tf.serve", "--model_name", "million"),
        *("--model_base_path", str(model), "--port", str(port)),
    )
    photo = folder / "photo.png"
    PIL.Image.new("RGB", (64, 64), (200, 30, 30)).save(photo)
    client = [
        *(sys.executable, "-m", "sicot_tf.client", str(photo)),
        *("--server", f"localhost:{port}"),
        *("--model_name", "million"),
    ]
    for _ in range(120):
        answer = subprocess.run(client, capture_output=True, text=True)
        if answer.returncode == 0 or server.process.poll() is not None:
            break
        time.sleep(1)
    server.process.send_signal(signal.SIGTERM)
    server.wait()
    print(answer.stdout or answer.stderr)


if __name__ == "__main__":
    main()
