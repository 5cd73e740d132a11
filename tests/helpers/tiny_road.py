"""A tiny shop and its road, built once a test session by the real commands.

Eight products: a colour and a shape each, drawn with noise. Titles name both
among words that every product has.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import PIL.Image
import PIL.ImageDraw
import tensorflow as tf

from sicot_tf.checkpoints import step_folders
from sicot_tf.data import generations

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 200),
    "yellow": (230, 200, 40),
}
SHAPES = ("square", "circle")
NOISE_WORDS = ("new", "arrival", "free", "shipping")
# Training images of each product: two head classes, six tail classes.
TRAIN_IMAGES = (12, 8, 3, 3, 2, 2, 1, 1)
IMAGE_SIZE = 32
# Enough for the tiny network to tell colours and shapes apart.
TRAIN_FLAGS = (
    *("--backbone", "SmallCNN", "--backbone_weights", "none"),
    *("--image_size", str(IMAGE_SIZE), "--max_words", "8"),
    *("--global_batch_size", "8", "--learning_rate", "0.05"),
    *("--augmentation", "crop", "--min_crop_area", "0.7"),
    *("--log_steps", "1", "--decay_epochs", "10", "--lambda", "1"),
    # So that the demo's preset may change.
    *("--decay_rate", "0.8", "--backbone_learning_rate_factor", "0.1"),
    *("--weight_decay", "5e-4"),
)


@functools.cache
def _folder() -> pathlib.Path:
    """A folder that is removed when the session ends."""
    # Kept alive by the cache of this function.
    _folder.holder = tempfile.TemporaryDirectory(prefix="tiny_road_")
    return pathlib.Path(_folder.holder.name)


def run_command(module: str, *arguments: object) -> str:
    """Runs `python -m module`; what it printed, or an error that shows it."""
    return _run(module, *arguments).stdout


def log_of_command(module: str, *arguments: object) -> str:
    """Runs `python -m module`; what it logged, or an error that shows it."""
    return _run(module, *arguments).stderr


def _run(module: str, *arguments: object) -> subprocess.CompletedProcess:
    finished = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(
            f"{module} {arguments}: exit {finished.returncode}\n"
            f"{finished.stdout}\n{finished.stderr}"
        )
    return finished


def draw(colour: str, shape: str, seed: int) -> PIL.Image.Image:
    """A product photo: a shape at a random place on a noisy background."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(200, 256, size=(IMAGE_SIZE, IMAGE_SIZE, 3))
    image = PIL.Image.fromarray(noise.astype(np.uint8))
    left, top = (int(each) for each in rng.integers(2, 12, size=2))
    box = (left, top, left + 17, top + 17)
    pen = PIL.ImageDraw.Draw(image)
    plot = pen.rectangle if shape == "square" else pen.ellipse
    plot(box, fill=COLOURS[colour])
    return image


@functools.cache
def records() -> pathlib.Path:
    """Raw records: 32 for training, 8 to validate, 24 to test."""
    folder = _folder() / "records"
    (folder / "images").mkdir(parents=True)
    products = [(c, s) for c in COLOURS for s in SHAPES]
    rows = []
    for (colour, shape), num_train in zip(products, TRAIN_IMAGES):
        splits = ["train"] * num_train + ["val"] + ["test"] * 3
        for number, split in enumerate(splits):
            record_id = f"{colour}-{shape}-{number}"
            image = f"images/{record_id}.png"
            draw(colour, shape, len(rows)).save(folder / image)
            noise = NOISE_WORDS[len(rows) % 4 :]
            rows.append(
                {
                    "record_id": record_id,
                    "image": image,
                    "sku_id": f"{colour}-{shape}",
                    "sku_name": f"{colour} {shape}",
                    "title": " ".join([colour, *noise, shape]),
                    "split": split,
                }
            )
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@functools.cache
def generation() -> pathlib.Path:
    """The dataset generation of these records."""
    output = _folder() / "dataset"
    run_command(
        "beam_jobs.build_dataset",
        *("--input", records(), "--output", output),
        # The shapes are so plain that many pictures are nearly equal.
        *("--word_vector_dim", 16, "--duplicates", "keep"),
        *("--head_threshold", 5),
    )
    return generations.resolve_generation(output)


@functools.cache
def trained(streams: str) -> pathlib.Path:
    """A run of some epochs; the tests of later stations stand on it."""
    run_dir = _folder() / "runs" / streams
    run_command(
        "sicot_tf.train",
        *("--dataset", generation(), "--run_dir", run_dir),
        *("--streams", streams, "--epochs", 15, *TRAIN_FLAGS),
    )
    return run_dir


def read_checkpoint(run_dir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor of a run's last checkpoint, whole, by its name."""
    step = step_folders.latest_step(run_dir / "checkpoints")
    reader = tf.train.load_checkpoint(
        str(run_dir / "checkpoints" / f"step-{step:08d}" / "variables")
    )
    return {
        name: reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
    }


@functools.cache
def exported() -> pathlib.Path:
    """The SavedModel of the co-training run."""
    output = _folder() / "saved_models" / "tiny"
    run_command(
        "sicot_tf.export",
        *("--run_dir", trained("cotrain"), "--output", output, "--top_k", 3),
    )
    return output / "1"


@functools.cache
def evaluated() -> pathlib.Path:
    """The evaluation of the co-training run against its baseline."""
    run_command(
        "sicot_tf.evaluate",
        *("--run_dir", trained("cotrain")),
        *("--compare_to", trained("visual")),
    )
    return trained("cotrain") / "evaluation-test"
