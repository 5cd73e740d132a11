"""Tells a version that is whole from one that is still being copied.

TensorFlow Serving loads what it finds, if need be without its variables; here
a version is not seen before all of it is there.
"""

import pathlib
import time

import tensorflow as tf
from google.protobuf import message
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

STILL_CHANGING = "its files are still changing"
# A folder that has not changed for so long needs no second look.
_QUIET_SECONDS = 3.0
_FIVE = "[0-9]" * 5
_VARIABLE_OPS = frozenset(["VarHandleOp", "Variable", "VariableV2"])
# What tf.train.load_checkpoint raises for files that are cut off.
_READ_ERRORS = (OSError, ValueError, RuntimeError, tf.errors.OpError)


class WholenessCheck:
    """Tells a version that is whole from one that is still being written.

    A version is whole if its files have not changed between two looks (or
    for three seconds), and nothing is missing: `saved_model.pb` (or
    `.pbtxt`) parses; if the graph has variables, or `variables/` is not
    empty, `variables.index` can be read and the data files are all there and
    as long as the variables need; the assets that the graph names exist.

    Args:
        settle_seconds: least time between the two looks.
    """

    def __init__(self, settle_seconds: float):
        self._settle_seconds = settle_seconds
        # What was seen of a folder, and since when it has been so.
        self._seen: dict[pathlib.Path, tuple[object, float]] = {}
        # The last change of anything in it, by the clock of the files.
        self._changes: dict[pathlib.Path, float] = {}
        # What was wrong with files that have not changed since.
        self._faults: dict[pathlib.Path, tuple[object, str]] = {}

    def find_fault(self, directory: pathlib.Path) -> str:
        """Why `directory` is not whole; empty if it is."""
        try:
            files = _list_files(directory)
            last_change = _change(directory)
        except OSError as error:
            self._remember(directory, str(error))
            return f"{error}"
        since = self._remember(directory, files)
        newest = max((change for _, _, change in files), default=0) / 1e9
        self._changes[directory] = max(newest, last_change / 1e9)
        now = time.monotonic()
        if (
            time.time() - newest < _QUIET_SECONDS
            and now - since < self._settle_seconds
        ):
            return STILL_CHANGING
        checked, fault = self._faults.get(directory, (None, ""))
        if checked != files:
            fault = _find_missing(directory)
            self._faults[directory] = (files, fault)
        if not fault:
            self._seen.pop(directory, None)
            self._faults.pop(directory, None)
            self._changes.pop(directory, None)
        return fault

    def seconds_unchanged(self, directory: pathlib.Path) -> float:
        """How long a folder that has a fault has been as it is."""
        _, since = self._seen[directory]
        seconds = time.monotonic() - since
        if directory in self._changes:
            # It may have been so before this process began.
            seconds = max(seconds, time.time() - self._changes[directory])
        return seconds

    def _remember(self, directory: pathlib.Path, files: object) -> float:
        """Since when `directory` has been as it is now."""
        now = time.monotonic()
        seen, since = self._seen.get(directory, (None, now))
        if seen != files:
            since = now
            self._seen[directory] = (files, now)
            self._changes.pop(directory, None)
        return since


def is_saved_model(directory: pathlib.Path) -> bool:
    """Whether a folder holds the first file of a SavedModel."""
    return any(
        (directory / name).exists()
        for name in ("saved_model.pb", "saved_model.pbtxt")
    )


def _list_files(directory: pathlib.Path) -> list[tuple[str, int, int]]:
    """Name, size and last change of all that is in a folder."""
    return [
        (str(path), path.stat().st_size, _change(path))
        for path in sorted(directory.rglob("*"))
    ]


def _change(path: pathlib.Path) -> int:
    """Time of the last change in nanoseconds.

    The change time of an inode, unlike its modification time, can't be set
    to that of the copied file.
    """
    status = path.stat()
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _find_missing(directory: pathlib.Path) -> str:
    """What a load of `directory` would miss; empty if nothing."""
    try:
        saved_model = _read_saved_model(directory)
    except (OSError, message.DecodeError, text_format.ParseError) as error:
        return f"its saved_model.pb can't be read: {error}"
    if saved_model is None:
        return "saved_model.pb is missing"
    # No bytes at all parse as well.
    if not saved_model.meta_graphs:
        return "saved_model.pb is empty"
    has_variables = any(
        node.op in _VARIABLE_OPS
        for meta_graph in saved_model.meta_graphs
        for node in meta_graph.graph_def.node
    )
    # A TF1 graph without variables leaves the folder empty.
    if has_variables or any((directory / "variables").glob("*")):
        fault = _find_missing_variables(directory / "variables")
        if fault:
            return fault
    for meta_graph in saved_model.meta_graphs:
        for asset in meta_graph.asset_file_def:
            if not (directory / "assets" / asset.filename).exists():
                return f"assets/{asset.filename} is missing"
    return ""


def _read_saved_model(
    directory: pathlib.Path,
) -> saved_model_pb2.SavedModel | None:
    """The parsed SavedModel; None if there is no file of it."""
    binary = directory / "saved_model.pb"
    if binary.exists():
        return saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    text = directory / "saved_model.pbtxt"
    if text.exists():
        return text_format.Parse(
            text.read_text("utf-8"), saved_model_pb2.SavedModel()
        )
    return None


def _find_missing_variables(directory: pathlib.Path) -> str:
    """What the folder `variables` misses; empty if nothing."""
    if not (directory / "variables.index").exists():
        return "variables/variables.index is missing"
    shards = list(directory.glob(f"variables.data-{_FIVE}-of-{_FIVE}"))
    num_shards = {int(path.name.rpartition("-")[2]) for path in shards}
    if len(num_shards) != 1 or len(shards) != num_shards.pop():
        return "data files of variables are missing"
    try:
        reader = tf.train.load_checkpoint(str(directory / "variables"))
        dtypes = reader.get_variable_to_dtype_map()
        shapes = reader.get_variable_to_shape_map()
    except _READ_ERRORS as error:
        return f"variables/variables.index can't be read: {error}"
    # Strings come on top; how long they are stands nowhere.
    num_bytes = sum(
        dtypes[name].size * tf.TensorShape(shape).num_elements()
        for name, shape in shapes.items()
        if dtypes[name] != tf.string
    )
    if sum(path.stat().st_size for path in shards) < num_bytes:
        return "the data files of its variables are too short"
    return ""
