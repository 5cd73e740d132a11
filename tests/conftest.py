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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out `tf.test.TestCase.test_session`, which is no test."""
    items[:] = [
        each
        for each in items
        if each.name != "test_session"
        or not each.function.__module__.startswith("tensorflow.")
    ]


@pytest.fixture(autouse=True)
def _end_log() -> Iterator[None]:
    """Takes back the log that a command sets up in the process of a test."""
    yield
    for handler in logging.root.handlers[:]:
        if isinstance(handler, command_line.AboveBars):
            logging.root.removeHandler(handler)
