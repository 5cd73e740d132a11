"""Checkpoints of a run: every variable by its path, and the position."""

import pathlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf


class Checkpoints:
    """Saves and restores variables together with the position in the data.

    A checkpoint is named after its step and becomes visible when it is
    complete; the last `keep` stay.

    Args:
        directory: where they lie.
        variables: Keras variables with distinct paths.
        keep: how many stay.
    """

    def __init__(
        self, directory: pathlib.Path, variables: Iterable[Any], keep: int
    ):
        # (epoch, step in the whole run); see `data.dataset`.
        self._position = tf.Variable([0, 0], dtype=tf.int64, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            position=self._position, variables=_by_path(variables)
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(directory), max_to_keep=keep
        )

    def save(self, *, epoch: int, step: int) -> None:
        """Writes a checkpoint; one that exists for this step is kept."""
        self._position.assign([epoch, step])
        path = self._manager.latest_checkpoint
        if path is None or not path.endswith(f"-{step}"):
            self._manager.save(checkpoint_number=step)

    def restore_latest(self) -> int:
        """Restores the last checkpoint; returns its step, or 0 without one.

        Raises:
            AssertionError: if it belongs to another model.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return 0
        self._checkpoint.restore(path).assert_consumed()
        return int(self._position[1])


def restore_variables(directory: pathlib.Path, variables: Iterable[Any]) -> int:
    """Restores some variables of a run's last checkpoint; returns its step.

    Raises:
        ValueError: if there is no checkpoint.
        AssertionError: if a variable is not in it.
    """
    path = tf.train.latest_checkpoint(str(directory))
    if path is None:
        raise ValueError(
            f"Expected a checkpoint in {directory}, found none. Train first: "
            "python -m sicot_tf.train --help"
        )
    position = tf.Variable([0, 0], dtype=tf.int64, trainable=False)
    checkpoint = tf.train.Checkpoint(
        position=position, variables=_by_path(variables)
    )
    status = checkpoint.restore(path)
    status.assert_existing_objects_matched()
    status.expect_partial()
    return int(position[1])


def _by_path(variables: Iterable[Any]) -> dict[str, tf.Variable]:
    """Keras variables as TensorFlow variables under their paths."""
    by_path: dict[str, tf.Variable] = {}
    for variable in variables:
        if variable.path in by_path:
            raise ValueError(
                f"Two variables have the path {variable.path!r}; a checkpoint "
                "needs distinct layer names."
            )
        by_path[variable.path] = variable.value
    return by_path
