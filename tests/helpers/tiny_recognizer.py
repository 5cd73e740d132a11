"""The recognition service as a process, over the tiny model and its index."""

import contextlib
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check
from tests.helpers import tiny_index
from tests.helpers import tiny_server
from tests.helpers import tiny_vector_index

# A machine that does much else besides takes minutes.
_PATIENCE_SECONDS = 600
# One SKU of the model has no product, one product no picture, one a picture
# elsewhere, and one a picture that lies outside of the catalogue.
PRODUCTS = (
    ("shop/a", "sku-a", "fruit"),
    ("shop/a2", "sku-a", "fruit"),
    ("shop/b", "sku-b", "fruit"),
    ("商店/可乐", "可乐 330 ml", "drink"),
    ("shop/d", "sku-d", "drink"),
    ("shop/e", "sku e", None),
)
WITHOUT_PRODUCT = ("sku-f", "sku-g")
REMOTE_PICTURE = "https://img.example/b.jpg"
SECRET = b"of somebody else"


def write_index(root: pathlib.Path) -> pathlib.Path:
    """The index of `PRODUCTS`, and `root/catalogue` with their pictures."""
    catalogue = root / "catalogue"
    for seed, (product_id, *_) in enumerate(PRODUCTS):
        path = catalogue / f"{product_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny_server.make_jpeg(seed))
    (root / "secret.jpg").write_bytes(tiny_server.make_jpeg(9) + SECRET)
    (catalogue / "link.jpg").symlink_to(root / "secret.jpg")
    (catalogue / "page.html").write_text("<script>alert(1)</script>")
    generation = tiny_index.write(root / "index", "2026-01-01-aa", PRODUCTS)
    with (
        contextlib.closing(
            sqlite3.connect(generation / product_index.STORE)
        ) as store,
        store,
    ):
        store.executemany(
            "UPDATE products SET images = ? WHERE product_id = ?",
            [
                (f'["{REMOTE_PICTURE}"]', "shop/b"),
                ("[]", "shop/e"),
                (
                    f'["../secret.jpg", "{root}/secret.jpg", "link.jpg", '
                    '"page.html", "nowhere.jpg", "s3://bucket/d.jpg", '
                    '"shop/d.jpg"]',
                    "shop/d",
                ),
            ],
        )
    return root / "index"


def embedded_pictures(
    model: pathlib.Path,
) -> list[tuple[str, int, str | None, np.ndarray]]:
    """What `tiny_vector_index.write` takes, by a model's `embedding`."""
    import tensorflow as tf

    embed = tf.saved_model.load(str(model)).signatures["embedding"]
    pictures = []
    for seed, (product_id, _, category) in enumerate(PRODUCTS):
        found = embed(image_bytes=tf.constant([tiny_server.make_jpeg(seed)]))
        pictures.append(
            (product_id, 0, category, found["embedding"][0].numpy())
        )
    return pictures


def write_vectors(
    root: pathlib.Path, model: pathlib.Path, name: str = "2026-01-02-vv"
) -> pathlib.Path:
    """The vector index of these pictures, by a model's `embedding`."""
    tiny_vector_index.write(
        root / "vectors",
        name,
        embedded_pictures(model),
        saved_model_sha256=product_index.embedding_model_sha256(model),
        product_index_identity=release_check.index_identity(
            generations.resolve_generation(root / "index")
        ),
    )
    return root / "vectors"


class RecognizerProcess:
    """`python -m sicot_tf.recognize` on a free port."""

    def __init__(self, root: pathlib.Path, *flags: object):
        self._log = root / "recognize.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "sicot_tf.recognize"),
                    *("--port", "0", *map(str, flags)),
                ],
                cwd=tiny_server.PROJECT_DIR,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()
        match = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+)/\n", line)
        if not match:
            self.kill()
            raise AssertionError(f"Not ready, {line!r}:\n{self.log_text}")
        self.url = match[1]

    @property
    def log_text(self) -> str:
        return self._log.read_text("utf-8")

    def children(self) -> list[int]:
        """Processes that it has started."""
        pid = self.process.pid
        path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        return [int(each) for each in path.read_text().split()]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code of a service that was told to end."""
        return self.process.wait(_PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends it whatever it does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def wait_until(is_true) -> None:
    """Returns once `is_true()`; raises if it never is."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError("It never happened.")
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
