"""Settings of every test process."""

import logging
import os
from collections.abc import Iterator

import pytest

from sicot_tf import command_line

# Before TensorFlow is imported: no GPU, and its chatter kept down.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("TF_CONFIG", None)


# Files that launch the workers of a classifier together.
_CLASSIFIER_WORKERS = (
    "collectives_test.py",
    "class_sharded_dense_test.py",
    "classifier_trainer_test.py",
)
# Groups of minutes each: begun first, so that no process ends long before the
# others.
_LONG = (
    "classifier_workers",
    "train_workers_test.py",
    "checkpoints_test.py",
    "train_test.py",
    "experiment_test.py",
    "build_dataset_test.py",
    "build_product_index_test.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups tests that share what they set up: those of a group stay in one
    process of `make test`. Leaves out `tf.test.TestCase.test_session`, which
    is no test.
    """
    items[:] = [
        each
        for each in items
        if each.name != "test_session"
        or not each.function.__module__.startswith("tensorflow.")
    ]
    for each in items:
        each.add_marker(pytest.mark.xdist_group(_group(each)))
    items.sort(
        key=lambda each: (
            _LONG.index(_group(each)) if _group(each) in _LONG else len(_LONG)
        )
    )


def _group(item: pytest.Item) -> str:
    name = item.path.name
    return "classifier_workers" if name in _CLASSIFIER_WORKERS else name


@pytest.fixture(autouse=True)
def _end_log() -> Iterator[None]:
    """Takes back the log that a command sets up in the process of a test."""
    yield
    for handler in logging.root.handlers[:]:
        if isinstance(handler, command_line.AboveBars):
            logging.root.removeHandler(handler)
