"""Tells a version that is whole from one that is still being copied.

TensorFlow Serving loads what it finds, if need be without its variables; here
a version is not seen before all of it is there.
"""

import dataclasses
import pathlib
import time

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

# A folder that has not changed for so long needs no second look.
_QUIET_SECONDS = 3.0
_VARIABLE_OPS = frozenset(["VarHandleOp", "Variable", "VariableV2"])


class WholenessCheck:
    """Looks again and again whether versions are whole.

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
        self._seen: dict[pathlib.Path, _Seen] = {}

    def find_fault(self, directory: pathlib.Path) -> tuple[str, float]:
        """Why `directory` is not whole, and since how many seconds.

        Without a fault the text is empty, and the seconds have no meaning.
        """
        try:
            files = [
                (path, path.stat().st_size, _change(path))
                for path in sorted(directory.rglob("*"))
            ]
            own_change = _change(directory)
        except OSError as error:
            files = str(error)
        seen = self._seen.get(directory)
        if seen is None or seen.files != files:
            seen = self._seen[directory] = _Seen(files, time.monotonic())
        seconds = time.monotonic() - seen.since
        if isinstance(files, str):
            return files, seconds
        newest = max((change for _, _, change in files), default=0)
        rested = time.time() - newest / 1e9
        if rested < _QUIET_SECONDS and seconds < self._settle_seconds:
            return "its files are still changing", 0.0
        if seen.fault is None:
            seen.fault = _find_missing(directory)
        if not seen.fault:
            del self._seen[directory]
        # It may have been so before this process began.
        rested = min(rested, time.time() - own_change / 1e9)
        return seen.fault, max(seconds, rested)


@dataclasses.dataclass
class _Seen:
    """What a folder looks like."""

    # Path, size and last change of each; or why they can't be listed.
    files: list[tuple[pathlib.Path, int, int]] | str
    # By time.monotonic.
    since: float
    # What is wrong with these files; None: not looked for yet.
    fault: str | None = None


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
        saved_model = loader_impl.parse_saved_model(str(directory))
    except OSError as error:
        return str(error)
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


def _find_missing_variables(directory: pathlib.Path) -> str:
    """What the folder `variables` misses; empty if nothing."""
    try:
        reader = tf.train.load_checkpoint(str(directory / "variables"))
    # What it raises for files that are missing or cut off.
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        return f"variables/variables.index can't be read: {error}"
    dtypes = reader.get_variable_to_dtype_map()
    # Strings come on top; how long they are stands nowhere.
    num_bytes = sum(
        dtypes[name].size * tf.TensorShape(shape).num_elements()
        for name, shape in reader.get_variable_to_shape_map().items()
        if dtypes[name] != tf.string
    )
    paths = list(directory.glob("variables.data-*-of-*"))
    if {path.name[-5:] for path in paths} != {f"{len(paths):05}"}:
        return "data files of variables are missing"
    if sum(path.stat().st_size for path in paths) < num_bytes:
        return "the data files of its variables are too short"
    return ""
