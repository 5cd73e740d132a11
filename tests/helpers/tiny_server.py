"""A tiny exported model, and the server as a process, for tests of serving."""

import atexit
import dataclasses
import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable

import grpc
import keras
import numpy as np
import tensorflow as tf

from sicot_tf import client
from sicot_tf.serving import saved_model
from sicot_tf.serving import serving_config
from tests.helpers import serving_models

IMAGE_SIZE = 16
LOCALIZATION_SIZE = 25
EMBEDDING_DIM = 6
# Labels are plain UTF-8 lines: one is not ASCII, two have spaces.
SKU_IDS = ("sku-a", "sku-b", "可乐 330 ml", "sku-d", "sku e", "sku-f", "sku-g")
# Between the best scores of pictures 1 (0.31) and 2 (0.996).
THRESHOLD = 0.5
EXPORT_INFO = {"run": "tiny", "note": "可乐"}
PROJECT_DIR = pathlib.Path(__file__).parents[2]
# A machine that does much else besides is slow.
_PATIENCE_SECONDS = 600


def make_jpeg(seed: int) -> bytes:
    """A 24 x 20 picture of soft noise; another for each seed."""
    small = np.random.default_rng(seed).uniform(0, 255, (3, 3, 3))
    image = tf.image.resize(small, (20, 24)).numpy().astype(np.uint8)
    return tf.io.encode_jpeg(image, quality=95).numpy()


def make_model(
    dtype_policy: str = "float32",
) -> tuple[keras.Model, keras.layers.Dense]:
    """Visual stream and classifier with seeded weights."""
    keras.utils.set_random_seed(7)
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(
        EMBEDDING_DIM, 3, name="convolution", dtype=dtype_policy
    )(x)
    # Answers differently in training mode, which must not be exported.
    x = keras.layers.BatchNormalization(
        name="normalization", dtype=dtype_policy
    )(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype_policy)(x)
    # Large weights, so that scores are far from equal.
    classifier = keras.layers.Dense(
        len(SKU_IDS),
        kernel_initializer=keras.initializers.RandomNormal(0, 5, seed=1),
        name="classifier",
        dtype=dtype_policy,
    )
    classifier.build((None, EMBEDDING_DIM))
    return keras.Model({"image": image}, x), classifier


def write_saved_model(directory: pathlib.Path, **overrides: object) -> None:
    """Exports the tiny model to `directory`."""
    image_features, classifier = make_model()
    arguments = {
        "image_features": image_features,
        "classifier": classifier,
        "sku_ids": SKU_IDS,
        "image_size": IMAGE_SIZE,
        "threshold": THRESHOLD,
        "localization_size": LOCALIZATION_SIZE,
        "export_info": EXPORT_INFO,
        "warmup_image": make_jpeg(0),
    }
    saved_model.write(directory, **(arguments | overrides))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def resident_mb(process_ids: Iterable[int]) -> float:
    """Memory of some processes together, in megabytes."""
    kilobytes = 0
    for pid in process_ids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        kilobytes += int(status.partition("VmRSS:")[2].split()[0])
    return kilobytes / 1000


class ServerProcess:
    """`python -m sicot_tf.serve` with its output in `log`."""

    def __init__(self, log: pathlib.Path, *flags: str):
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sicot_tf.serve", *flags],
                cwd=PROJECT_DIR,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log_text(self) -> str:
        return self._log.read_text("utf-8")

    def wait_for_text(self, text: str) -> None:
        """Waits until the server has printed `text`."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in self.log_text:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(
                    f"The server never printed {text!r}:\n{self.log_text}"
                )
            time.sleep(0.02)

    def connect(self, address: str) -> grpc.Channel:
        """A channel to the server once it is ready."""
        self.wait_for_text("Running gRPC ModelServer")
        return client.connect(address)

    def process_ids(self) -> list[int]:
        """The process that was started and all below it."""
        found = [self._process.pid]
        for pid in found:
            path = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
            found += map(int, path.read_text().split())
        return found

    def resident_mb(self) -> float:
        """Memory of all its processes, in megabytes."""
        return resident_mb(self.process_ids())

    def poll(self) -> int | None:
        """The exit code, or None while the server runs."""
        return self._process.poll()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code of a server that was told to end."""
        return self._process.wait(_PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends the server whatever it does."""
        self._process.kill()
        self._process.wait()


@dataclasses.dataclass(frozen=True)
class SharedServer:
    """Serves `tiny`, the model above, and `half`: half_plus_two."""

    tiny: pathlib.Path
    grpc_address: str
    rest_url: str


@functools.cache
def shared() -> SharedServer:
    """One process for all tests that only ask."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    root = pathlib.Path(folder.name)
    tiny = root / "tiny" / "1"
    write_saved_model(tiny)
    half = serving_models.saved_model("half_plus_two").parent
    config = serving_config.make_model_config("tiny", root / "tiny")
    config.MergeFrom(serving_config.make_model_config("half", half))
    (root / "models.config").write_text(str(config))
    port, rest_port = free_port(), free_port()
    server = ServerProcess(
        root / "log",
        *("--port", str(port), "--rest_api_port", str(rest_port)),
        *("--model_config_file", str(root / "models.config")),
    )
    atexit.register(server.kill)
    server.connect(f"localhost:{port}").close()
    return SharedServer(
        tiny, f"localhost:{port}", f"http://localhost:{rest_port}"
    )
