"""Checkpoints of a run; each worker writes and reads the rows it holds.

checkpoints/step-00000012/
    variables.index   TensorFlow's own format, every tensor whole:
    variables.data-*  tf.train.load_checkpoint("step-00000012/variables")
    manifest.json     position in the data, shapes, which rows lie together,
                      SHA-256 of the names of the rows and of the files

A checkpoint is written into a hidden folder that gets its name last: one that
is listed is complete, whenever the job was killed. Any number of workers can
read it.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.distribute import collectives as collectives_module

_FORMAT = 1
# Written or read by one op. Reading a variable that was ever updated by
# scatter copies it, so this bounds the copies that a save makes, too.
_GROUP_BYTES = 128 << 20
# What RestoreV2 can read in part; not float16.
_SLICED_TYPES = ("float32", "float64", "bfloat16", "int32", "int64")
# Characters that one worker can tell the others.
_MAX_ANSWER = 2000


@dataclasses.dataclass(frozen=True)
class RowSlice:
    """Consecutive rows of a tensor that is whole only in checkpoints.

    Args:
        name: of the tensor, such as "classifier/kernel/momentum".
        variable: `[num_rows, ...]`, the rows from `first_row` on.
        first_row: where they lie in the whole tensor.
        total_rows: rows of the whole tensor.
        row_axis: what the rows are, such as "classes".
    """

    name: str
    variable: tf.Variable
    first_row: int
    total_rows: int
    row_axis: str

    @property
    def last_row(self) -> int:
        """The row behind the last one."""
        return self.first_row + self.variable.shape[0]


class Checkpoints:
    """Saves and restores a run together with its position in the data.

    All workers make the same calls; an error of one is raised on all.

    Args:
        directory: where they lie; workers on several machines share it.
        variables: Keras variables with distinct paths, equal on all workers.
            The chief writes them.
        slices: the rows that this worker holds, those of one tensor in order
            and without gaps. A tensor that every worker holds whole is
            written by the chief.
        row_names: what each row of an axis stands for; a checkpoint is
            restored only if these are the same in it.
        keep: how many stay.
        collectives: the workers of the job.

    Raises:
        ValueError: if names, shapes or rows do not fit together.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        variables: Iterable[Any],
        *,
        slices: Iterable[RowSlice] = (),
        row_names: Mapping[str, Sequence[str]] | None = None,
        keep: int = 3,
        collectives: collectives_module.Collectives | None = None,
    ):
        if keep < 1:
            raise ValueError(f"Expected to keep 1 or more, received {keep}.")
        row_names = row_names or {}
        self._directory = pathlib.Path(directory)
        self._slices = [*_whole(variables), *slices]
        self._tensors = _describe(self._slices, row_names)
        self._row_axes = {
            axis: {"count": len(names), "sha256": _sha256(list(names))}
            for axis, names in row_names.items()
        }
        self._keep = keep
        self._collectives = collectives or collectives_module.Collectives()

    # === Save ===

    def save(self, *, epoch: int, step: int) -> None:
        """Writes a checkpoint; one that exists for this step is kept.

        Raises:
            OSError: if a worker can't write.
            ValueError: if the rows of the workers do not make whole tensors.
        """
        folder = _folder(self._directory, step)
        is_chief = self._collectives.is_chief
        name, *_ = _on_all(
            self._collectives,
            lambda: self._make_unfinished(folder) if is_chief else "",
        )
        if not name:
            return
        unfinished = self._directory / name
        _on_all(self._collectives, lambda: self._write_part(unfinished))
        _on_all(
            self._collectives,
            lambda: (
                self._publish(unfinished, folder, epoch, step)
                if is_chief
                else None
            ),
        )

    def _make_unfinished(self, folder: pathlib.Path) -> str:
        """Name of an empty folder to write into; "" if there's no need."""
        if folder.exists():
            return ""
        self._directory.mkdir(parents=True, exist_ok=True)
        # Every worker is through with the save before: these are left over
        # from a killed one.
        for leftover in self._directory.glob(".*-step-*"):
            shutil.rmtree(leftover)
        # A new name each time keeps out a worker that outlived its job.
        name = f".unfinished-{folder.name}-{secrets.token_hex(4)}"
        (self._directory / name).mkdir()
        return name

    def _write_part(self, unfinished: pathlib.Path) -> None:
        """Writes what falls to this worker, and a description of it."""
        part = unfinished / f"worker-{self._collectives.worker_index}"
        try:
            part.mkdir()
        except FileNotFoundError as error:
            raise OSError(
                f"{unfinished} is not seen on this machine. The folder of the "
                "run must lie on a file system that all workers share."
            ) from error
        slices = self._slices
        if not self._collectives.is_chief:
            sharded = {
                name
                for name, rows in _row_borders(slices).items()
                if rows[-1] - rows[0] < self._tensors[name]["shape"][0]
            }
            slices = [each for each in slices if each.name in sharded]
        files = []
        for group in _groups(slices):
            prefix = f"{part}/{len(files)}"
            with tf.device("CPU:0"):
                tf.raw_ops.SaveV2(
                    prefix=prefix,
                    tensor_names=[each.name for each in group],
                    shape_and_slices=[_spec(each) for each in group],
                    tensors=[each.variable.read_value() for each in group],
                )
            data_path = pathlib.Path(f"{prefix}.data-00000-of-00001")
            _sync(data_path)
            files.append(_size_and_hash(data_path))
        config.write_json(
            part / "part.json",
            {"row_borders": _row_borders(slices), "files": files},
        )

    def _publish(
        self,
        unfinished: pathlib.Path,
        folder: pathlib.Path,
        epoch: int,
        step: int,
    ) -> None:
        """Joins the parts, names the folder and removes old ones."""
        num_workers = self._collectives.num_workers
        folders = [unfinished / f"worker-{r}" for r in range(num_workers)]
        parts = [config.read_json(part / "part.json") for part in folders]
        prefixes = [
            f"{part_folder}/{number}"
            for part_folder, part in zip(folders, parts, strict=True)
            for number in range(len(part["files"]))
        ]
        # Joins the indexes, and renames the data files in this order.
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=prefixes,
            destination_prefix=f"{unfinished}/variables",
            delete_old_dirs=False,
        )
        for part_folder in folders:
            shutil.rmtree(part_folder)
        data_files = [file for part in parts for file in part["files"]]
        index_path = unfinished / "variables.index"
        manifest = {
            "format": _FORMAT,
            "step": step,
            "epoch": epoch,
            "num_workers": num_workers,
            "row_axes": self._row_axes,
            "tensors": _join_rows(
                self._tensors, [part["row_borders"] for part in parts]
            ),
            "files": {index_path.name: _size_and_hash(index_path)}
            | {
                f"variables.data-{number:05d}-of-{len(data_files):05d}": file
                for number, file in enumerate(data_files)
            },
        }
        manifest["sha256"] = _sha256(manifest)
        config.write_json(unfinished / "manifest.json", manifest)
        for path in (index_path, unfinished / "manifest.json", unfinished):
            _sync(path)
        unfinished.rename(folder)
        _sync(self._directory)
        for old in _steps(self._directory)[: -self._keep]:
            old_folder = _folder(self._directory, old)
            removed = old_folder.with_name(f".removed-{old_folder.name}")
            old_folder.rename(removed)
            shutil.rmtree(removed)

    # === Restore ===

    def restore_latest(self) -> int:
        """Restores the last checkpoint; returns its step, or 0 without one.

        Nothing is assigned before all of it is verified.

        Raises:
            ValueError: if it is damaged, or of another model or other rows.
        """
        folder = _last_folder(self._directory, self._collectives)
        if folder is None:
            return 0
        _on_all(self._collectives, lambda: self._check(folder))
        _on_all(self._collectives, lambda: _assign(folder, self._slices))
        return _step(folder)

    def _check(self, folder: pathlib.Path) -> None:
        manifest = _read_manifest(folder)
        for axis, now in self._row_axes.items():
            stored = manifest["row_axes"].get(axis, now)
            if stored != now:
                raise ValueError(
                    f"{folder} was trained with another list of {axis}: "
                    f"{stored['count']} old ones, {now['count']} new ones. "
                    "Start a new run with --init_from RUN."
                )
        _check_tensors(folder, manifest, self._tensors, nothing_else=True)
        _check_files(folder, manifest, self._collectives)


def latest_step(directory: pathlib.Path) -> int | None:
    """The step of a run's last checkpoint; None without one."""
    return max(_steps(directory), default=None)


def restore_variables(
    directory: pathlib.Path,
    variables: Iterable[Any],
    slices: Iterable[RowSlice] = (),
    *,
    verify_hashes: bool = True,
) -> int:
    """Restores part of a run's last checkpoint; returns its step.

    For one process that evaluates or exports, however many workers wrote it.
    Rows go straight to their variables, 128 MiB at a time.

    Args:
        verify_hashes: whether files are compared by SHA-256, which reads all
            of them, or by size alone.

    Raises:
        ValueError: if there is no checkpoint, it is damaged, or something is
            not in it or has another shape.
    """
    slices = [*_whole(variables), *slices]
    alone = collectives_module.Collectives()
    folder = _expect_folder(directory, alone)
    manifest = _read_manifest(folder)
    _check_tensors(folder, manifest, _describe(slices))
    _check_files(folder, manifest, alone, verify_hashes=verify_hashes)
    _assign(folder, slices)
    return _step(folder)


def restore_grown(
    directory: pathlib.Path,
    variables: Iterable[Any],
    slices: Iterable[RowSlice] = (),
    *,
    old_row_names: Mapping[str, Sequence[str]],
    new_row_names: Mapping[str, Sequence[str]],
    collectives: collectives_module.Collectives | None = None,
) -> dict[str, tuple[int, int]]:
    """Starts a run from the last checkpoint of one with other rows.

    A row is found by its name, wherever it was. Rows with a new name keep
    the value that their variable has. The position is not taken over. All
    workers call it.

    Args:
        directory: the checkpoints of the other run.
        variables: restored as they are.
        slices: the rows that this worker holds.
        old_row_names: by row axis, the names of the rows in the checkpoint.
        new_row_names: by row axis, their names now.
        collectives: the workers of the job.

    Returns:
        For each row axis how many rows were found and how many are new.

    Raises:
        ValueError: as `restore_variables`, and if the old names are not those
            of the checkpoint.
    """
    whole, slices = _whole(variables), list(slices)
    tensors = _describe([*whole, *slices], new_row_names)
    old_rows = {
        axis: _match(axis, old_row_names[axis], names)
        for axis, names in new_row_names.items()
    }
    collectives = collectives or collectives_module.Collectives()
    folder = _expect_folder(directory, collectives)

    def check() -> None:
        manifest = _read_manifest(folder)
        for axis, names in old_row_names.items():
            stored = manifest["row_axes"].get(axis, {"count": "unnamed"})
            if stored.get("sha256") != _sha256(list(names)):
                raise ValueError(
                    f"{folder} holds {stored['count']} {axis}; the "
                    f"{len(names)} old ones given are others, or in another "
                    "order. Take the list that its run was trained with."
                )
        _check_tensors(folder, manifest, tensors, any_rows=True)
        _check_files(folder, manifest, collectives)

    def assign() -> None:
        _assign(folder, whole)
        stored = _read_manifest(folder)["tensors"]
        for name in _row_borders(slices):
            blocks = [each for each in slices if each.name == name]
            for group in _groups(blocks):
                rows = old_rows[group[0].row_axis]
                _assign_matching(folder, stored[name], group, rows)

    _on_all(collectives, check)
    _on_all(collectives, assign)
    return {
        axis: (int((rows >= 0).sum()), int((rows < 0).sum()))
        for axis, rows in old_rows.items()
    }


# === Tensors and their rows ===


def _whole(variables: Iterable[Any]) -> list[RowSlice]:
    """Keras variables as slices without a row axis."""
    return [
        RowSlice(variable.path, variable.value, 0, 0, "")
        for variable in variables
    ]


def _shape(each: RowSlice) -> list[int]:
    """Of the whole tensor."""
    shape = each.variable.shape.as_list()
    return [each.total_rows, *shape[1:]] if each.row_axis else shape


def _describe(
    slices: list[RowSlice], row_names: Mapping[str, Sequence[str]] | None = None
) -> dict[str, dict[str, Any]]:
    """Shape, type and row axis of each tensor, checked against each other."""
    tensors: dict[str, dict[str, Any]] = {}
    for each in slices:
        tensor = {
            "shape": _shape(each),
            "dtype": each.variable.dtype.name,
            "row_axis": each.row_axis,
        }
        if not each.row_axis and each.name in tensors:
            raise ValueError(
                f"Two variables have the path {each.name!r}; a checkpoint "
                "needs distinct layer names."
            )
        if tensors.setdefault(each.name, tensor) != tensor:
            raise ValueError(
                f"Expected slices of one tensor {each.name!r}, received "
                f"{tensors[each.name]} and {tensor}."
            )
        if each.row_axis and tensor["dtype"] not in _SLICED_TYPES:
            raise ValueError(
                f"Expected rows of {each.name} as one of {_SLICED_TYPES}, "
                f"received {tensor['dtype']}."
            )
        names = (row_names or {}).get(each.row_axis)
        if names is not None and len(names) != each.total_rows:
            raise ValueError(
                f"Expected {len(names)} rows of {each.name}, one for each of "
                f"the {each.row_axis}, received {each.total_rows}."
            )
    _row_borders(slices)
    return tensors


def _row_borders(slices: list[RowSlice]) -> dict[str, list[int]]:
    """First rows of the slices of each name, and the row behind the last."""
    borders: dict[str, list[int]] = {}
    for each in slices:
        if each.row_axis:
            rows = borders.setdefault(each.name, [each.first_row])
            if rows[-1] != each.first_row or each.last_row > each.total_rows:
                raise ValueError(
                    f"Expected rows of {each.name} from {rows[-1]} on, up to "
                    f"{each.total_rows}, received {each.first_row} to "
                    f"{each.last_row}."
                )
            rows.append(each.last_row)
    return borders


def _join_rows(
    tensors: dict[str, dict[str, Any]], parts: list[dict[str, list[int]]]
) -> dict[str, dict[str, Any]]:
    """Tensors with the row borders of each worker; together they are all."""
    joined = {}
    for name, tensor in tensors.items():
        borders = [part.get(name, []) for part in parts]
        written = [rows for rows in borders if rows]
        ends = [0] + [rows[-1] for rows in written]
        starts = [rows[0] for rows in written] + tensor["shape"][:1]
        if tensor["row_axis"] and starts != ends:
            raise ValueError(
                f"Expected the workers' rows of {name} to make up all "
                f"{starts[-1]}, received those from {starts[:-1]} to "
                f"{ends[1:]}."
            )
        joined[name] = tensor | {"row_borders": borders}
    return joined


def _match(axis: str, old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """`[len(new)]` int64: where each new name was among the old, or -1."""
    rows = {name: row for row, name in enumerate(old)}
    if len(rows) < len(old) or len(set(new)) < len(new):
        raise ValueError(f"Expected distinct {axis}, some are there twice.")
    return np.fromiter((rows.get(name, -1) for name in new), np.int64)


def _groups(slices: Iterable[RowSlice]) -> Iterator[list[RowSlice]]:
    """Slices in lists of up to `_GROUP_BYTES`, or of one larger one."""
    group, size = [], 0
    for each in slices:
        variable = each.variable
        num_bytes = variable.shape.num_elements() * variable.dtype.size
        if group and size + num_bytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(each)
        size += num_bytes
    if group:
        yield group


# === Reading ===


def _spec(each: RowSlice) -> str:
    """What SaveV2 and RestoreV2 call this slice; "" is all of a tensor."""
    if not each.row_axis:
        return ""
    return _rows_spec(_shape(each), each.first_row, each.last_row)


def _rows_spec(shape: list[int], first_row: int, last_row: int) -> str:
    """For example "1003 128 500,503:-" for the rows from 500 on."""
    sizes = " ".join(str(size) for size in shape)
    rows = f"{first_row},{last_row - first_row}"
    return f"{sizes} {rows}" + ":-" * (len(shape) - 1)


def _read(
    folder: pathlib.Path, names: list[str], specs: list[str], dtypes: list[str]
) -> list[tf.Tensor]:
    try:
        with tf.device("CPU:0"):
            return tf.raw_ops.RestoreV2(
                prefix=f"{folder}/variables",
                tensor_names=names,
                shape_and_slices=specs,
                dtypes=dtypes,
            )
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise _damaged(folder, error.message) from error


def _assign(folder: pathlib.Path, slices: list[RowSlice]) -> None:
    """Reads slices into their variables, which take over what was read."""
    for group in _groups(slices):
        # Lets go of the old values, or old and new need room at once.
        for each in group:
            _set(each.variable, tf.zeros([], each.variable.dtype))
        values = _read(
            folder,
            [each.name for each in group],
            [_spec(each) for each in group],
            [each.variable.dtype.name for each in group],
        )
        for each, value in zip(group, values, strict=True):
            _set(each.variable, value)


def _set(variable: tf.Variable, value: tf.Tensor) -> None:
    """Assigns a value of any shape; its memory becomes the variable's."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _assign_matching(
    folder: pathlib.Path,
    stored: dict[str, Any],
    blocks: list[RowSlice],
    old_rows: np.ndarray,
) -> None:
    """Assigns the rows of one tensor that the checkpoint has.

    Goes through it as it was written, each stored slice at most once: RestoreV2
    reads whole stored slices, however few rows of them are asked for.
    """
    values = [block.variable.numpy() for block in blocks]
    wanted = [old_rows[block.first_row : block.last_row] for block in blocks]
    for borders in stored["row_borders"]:
        for first, last in itertools.pairwise(borders):
            found = [(rows >= first) & (rows < last) for rows in wanted]
            if not any(here.any() for here in found):
                continue
            (read,) = _read(
                folder,
                [blocks[0].name],
                [_rows_spec(stored["shape"], first, last)],
                [stored["dtype"]],
            )
            for value, rows, here in zip(values, wanted, found, strict=True):
                if here.any():
                    value[here] = np.asarray(read)[rows[here] - first]
    for block, value in zip(blocks, values, strict=True):
        block.variable.assign(value)


# === Verifying ===


def _read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = config.read_json(folder / "manifest.json")
    except FileNotFoundError as error:
        raise _damaged(folder, "manifest.json is missing") from error
    except ValueError as error:
        raise _damaged(folder, str(error)) from error
    if manifest.get("format", _FORMAT) != _FORMAT:
        raise ValueError(
            f"{folder} has format {manifest['format']}, expected {_FORMAT}: "
            "it was written by another version of sicot_tf."
        )
    expected = manifest.pop("sha256", None)
    if expected != _sha256(manifest) or manifest["step"] != _step(folder):
        raise _damaged(folder, "manifest.json was changed")
    return manifest


def _check_tensors(
    folder: pathlib.Path,
    manifest: dict[str, Any],
    expected: dict[str, dict[str, Any]],
    *,
    nothing_else: bool = False,
    any_rows: bool = False,
) -> None:
    """Whether names, shapes and types are what the variables need."""

    def layout(tensor: dict[str, Any]) -> str:
        shape = list(tensor["shape"])
        if any_rows and tensor["row_axis"]:
            shape[0] = tensor["row_axis"]
        return f"{tensor['dtype']} {shape}"

    stored = manifest["tensors"]
    others = stored.keys() - expected.keys() if nothing_else else []
    problems = {
        "missing tensors": sorted(expected.keys() - stored.keys()),
        "unexpected tensors": sorted(others),
        "tensors of another shape": [
            f"{name} ({layout(stored[name])}, expected {layout(tensor)})"
            for name, tensor in sorted(expected.items())
            if name in stored and layout(stored[name]) != layout(tensor)
        ],
    }
    texts = [
        f"{problem} ({len(names)}): {', '.join(names[:3])}"
        + (", ..." if len(names) > 3 else "")
        for problem, names in problems.items()
        if names
    ]
    if texts:
        raise ValueError(
            f"{folder} belongs to another model; {'; '.join(texts)}."
        )


def _check_files(
    folder: pathlib.Path,
    manifest: dict[str, Any],
    collectives: collectives_module.Collectives,
    *,
    verify_hashes: bool = True,
) -> None:
    """Whether the files are as they were written; each worker reads some."""
    files = sorted(manifest["files"].items())
    for name, file in files[
        collectives.worker_index :: collectives.num_workers
    ]:
        path = folder / name
        if not path.exists():
            raise _damaged(folder, f"{name} is missing")
        size = path.stat().st_size
        if size != file["bytes"]:
            raise _damaged(
                folder, f"{name} has {size} bytes, expected {file['bytes']}"
            )
        if verify_hashes and _size_and_hash(path) != file:
            raise _damaged(folder, f"{name} has another SHA-256")


def _damaged(folder: pathlib.Path, problem: str) -> ValueError:
    earlier = [s for s in _steps(folder.parent) if s < _step(folder)]
    remedy = (
        f"go on from {_folder(folder.parent, earlier[-1])}"
        if earlier
        else "start again; there is no earlier checkpoint"
    )
    return ValueError(
        f"The checkpoint {folder} is damaged: {problem}. Remove this folder "
        f"to {remedy}."
    )


# === Files and folders ===


def _folder(directory: pathlib.Path, step: int) -> pathlib.Path:
    return pathlib.Path(directory) / f"step-{step:08d}"


def _step(folder: pathlib.Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _steps(directory: pathlib.Path) -> list[int]:
    """Steps of the checkpoints, the last one last."""
    return sorted(
        _step(folder)
        for folder in pathlib.Path(directory).glob("step-*")
        if re.fullmatch(r"step-\d{8,}", folder.name)
    )


def _last_folder(
    directory: pathlib.Path, collectives: collectives_module.Collectives
) -> pathlib.Path | None:
    """The last checkpoint in the eyes of the chief; None without one."""
    step, *_ = _on_all(collectives, lambda: latest_step(directory))
    return None if step == "None" else _folder(directory, int(step))


def _expect_folder(
    directory: pathlib.Path, collectives: collectives_module.Collectives
) -> pathlib.Path:
    folder = _last_folder(directory, collectives)
    if folder is None:
        raise ValueError(
            f"Expected a checkpoint in {directory}, found none. Train first: "
            "python -m sicot_tf.train --help"
        )
    return folder


def _size_and_hash(path: pathlib.Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _sync(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(value: Any) -> str:
    """Of a value that JSON can hold."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# === Agreement of the workers ===


def _on_all(
    collectives: collectives_module.Collectives, function: Callable[[], Any]
) -> list[str]:
    """Calls a function on all workers; returns when all are through.

    Returns:
        The text of what it gave, by worker.

    Raises:
        ValueError, OSError: on all workers, that of the first that failed.
    """
    if collectives.num_workers == 1:
        return [str(function())]
    kind, cause = 0, None
    try:
        text = str(function())
    except ValueError as error:
        kind, text, cause = 1, str(error), error
    except (OSError, tf.errors.OpError) as error:
        kind, cause = 2, error
        text = f"Worker {collectives.worker_index}: {error}"
    codes = [kind, *(ord(letter) for letter in text[:_MAX_ANSWER])]
    # float32 like all that goes through collectives; exact below 2^24.
    row = np.zeros([1, 1 + _MAX_ANSWER], np.float32)
    row[0, : len(codes)] = codes
    gathered = collectives.gather(tf.constant(row)).numpy().astype(int)
    texts = ["".join(map(chr, row[row > 0])) for row in gathered[:, 1:]]
    for kind, text in zip(gathered[:, 0], texts, strict=True):
        if kind:
            raise (ValueError if kind == 1 else OSError)(text) from cause
    return texts
