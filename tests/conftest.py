"""Settings of every test process."""

import os

import pytest

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
