"""What the workers of a sharded classifier found, launched once for each M.

Starting TensorFlow costs more than all that is tested on it, so the test
modules share one launch for each number of workers.
"""

import functools
import importlib
import tempfile
from typing import Any

import tensorflow as tf

from sicot_tf.workers.collectives import Collectives
from tests.helpers import worker_processes

_MODULES = (
    "tests.sicot_tf.workers.collectives_test",
    "tests.sicot_tf.model.classifier.class_sharded_dense_test",
    "tests.sicot_tf.model.classifier.classifier_trainer_test",
)


@functools.cache
def results(module: str, num_workers: int) -> list[Any]:
    """What the module's `results_of_worker` gave, by worker."""
    found = _results(num_workers)
    if isinstance(found, Exception):
        raise found
    return [each[module] for each in found]


@functools.cache
def _results(num_workers: int) -> list[dict[str, Any]] | Exception:
    """An error is kept as well, or each test would launch the workers again."""
    with tempfile.TemporaryDirectory() as folder:
        if num_workers == 1:
            alone = Collectives()
            strategy = tf.distribute.get_strategy()
            return [results_of_worker(alone, strategy, folder)]
        try:
            return worker_processes.run_workers(
                num_workers,
                f"{__name__}:results_of_worker",
                folder,
                timeout=400,
            )
        except AssertionError as error:
            return error


def results_of_worker(
    collectives: Collectives,
    strategy: tf.distribute.Strategy,
    folder: str,
) -> dict[str, Any]:
    """Runs on every worker; `folder` is shared and empty."""
    return {
        module: importlib.import_module(module).results_of_worker(
            collectives, strategy, folder
        )
        for module in _MODULES
    }
