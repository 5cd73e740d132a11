"""The files of a checkpoint: tensors, manifest, and whether they are whole.

A folder step-00000012/ holds variables.index, variables.data-* and
manifest.json; `checkpoints` says what is in them.
"""

import itertools
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import files
from sicot_tf.checkpoints import row_slices
from sicot_tf.checkpoints import step_folders
from sicot_tf.workers.collectives import Collectives

_FORMAT = 1


# === Folders ===


def last_folder(
    directory: pathlib.Path, collectives: Collectives
) -> pathlib.Path | None:
    """The last checkpoint in the eyes of the chief; None without one."""

    def last_name() -> str:
        folders = step_folders.in_order(directory)
        # TensorFlow's CheckpointManager keeps its list in this file.
        if not folders and (pathlib.Path(directory) / "checkpoint").exists():
            raise ValueError(
                f"{directory} holds checkpoints of sicot_tf 0.1.0, which this "
                "version can't read. Use sicot_tf 0.1.0 for this run, or "
                "train a new one in another --run_dir."
            )
        return folders[-1].name if folders else ""

    name, *_ = collectives.call_on_all(last_name)
    return pathlib.Path(directory) / name if name else None


def expect_folder(
    directory: pathlib.Path, collectives: Collectives
) -> pathlib.Path:
    """The last checkpoint; a ValueError without one."""
    folder = last_folder(directory, collectives)
    if folder is None:
        raise ValueError(
            f"Expected a checkpoint in {directory}, found none. Train first: "
            "python -m sicot_tf.train --help"
        )
    return folder


# === Writing ===


def write_slices(
    folder: pathlib.Path, slices: list[row_slices.RowSlice]
) -> list[dict[str, Any]]:
    """Writes 0.index, 0.data-* and so on; returns size and hash of the data.

    Raises:
        OSError: if the disk is full.
    """
    written = []
    for number, group in enumerate(row_slices.groups(slices)):
        try:
            with tf.device("CPU:0"):
                tf.raw_ops.SaveV2(
                    prefix=f"{folder}/{number}",
                    tensor_names=[each.name for each in group],
                    shape_and_slices=[each.spec for each in group],
                    tensors=[each.variable.read_value() for each in group],
                )
        except tf.errors.ResourceExhaustedError as error:
            # "{{function_node ..}} <path>; No space left on device [Op:..]"; a
            # device without memory says something else.
            if "No space left" not in error.message:
                raise
            raise OSError(
                f"No space left on the disk of {folder.parent.parent}. Make "
                "room; the same command goes on from the last checkpoint."
            ) from error
        path = folder / f"{number}.data-00000-of-00001"
        files.sync(path)
        written.append(_size_and_hash(path))
    return written


def merge(
    folder: pathlib.Path, parts: dict[pathlib.Path, list[dict[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Makes one variables.index of what `write_slices` wrote in some folders.

    Args:
        folder: of the checkpoint; the data files are moved into it.
        parts: by folder, size and hash of its files; in order.

    Returns:
        By name, size and hash of the files.
    """
    # Renames the data files in this order.
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[
            f"{part}/{number}"
            for part, data_files in parts.items()
            for number in range(len(data_files))
        ],
        destination_prefix=f"{folder}/variables",
        delete_old_dirs=False,
    )
    index_path = folder / "variables.index"
    files.sync(index_path)
    data_files = list(itertools.chain(*parts.values()))
    return {index_path.name: _size_and_hash(index_path)} | {
        f"variables.data-{number:05d}-of-{len(data_files):05d}": file
        for number, file in enumerate(data_files)
    }


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Adds format and SHA-256 to a manifest, and writes it."""
    manifest = {"format": _FORMAT, **manifest}
    manifest["sha256"] = files.json_sha256(manifest)
    files.write_json(folder / "manifest.json", manifest)


# === Verifying ===


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest, if it is of this format and as it was written."""
    try:
        manifest = files.read_json(folder / "manifest.json")
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
    step = step_folders.step_of(folder)
    if expected != files.json_sha256(manifest) or manifest["step"] != step:
        raise _damaged(folder, "manifest.json was changed")
    return manifest


def check_tensors(
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


def check_files(
    folder: pathlib.Path,
    manifest: dict[str, Any],
    collectives: Collectives,
    *,
    verify_hashes: bool = True,
) -> None:
    """Whether the files are as they were written; each worker reads some."""
    named = sorted(manifest["files"].items())
    for name, file in named[
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
    earlier = [
        other
        for other in step_folders.in_order(folder.parent)
        if step_folders.step_of(other) < step_folders.step_of(folder)
    ]
    remedy = (
        f"go on from {earlier[-1]}"
        if earlier
        else "start again; there is no earlier checkpoint"
    )
    return ValueError(
        f"The checkpoint {folder} is damaged: {problem}. Remove this folder "
        f"to {remedy}."
    )


# === Reading ===


def assign(folder: pathlib.Path, slices: list[row_slices.RowSlice]) -> None:
    """Reads slices into their variables, which take over what was read."""
    for group in row_slices.groups(slices):
        # Lets go of the old values, or old and new need room at once.
        for each in group:
            _set(each.variable, tf.zeros([], each.variable.dtype))
        values = _read(
            folder,
            [each.name for each in group],
            [each.spec for each in group],
            [each.variable.dtype.name for each in group],
        )
        for each, value in zip(group, values, strict=True):
            _set(each.variable, value)


def assign_matching(
    folder: pathlib.Path,
    stored: dict[str, Any],
    blocks: list[row_slices.RowSlice],
    old_rows: np.ndarray,
) -> None:
    """Assigns the rows of one tensor that the checkpoint has.

    Goes through it as it was written, each stored slice at most once: RestoreV2
    reads whole stored slices, however few rows of them are asked for.

    Args:
        folder: the checkpoint.
        stored: the tensor, as the manifest describes it.
        blocks: slices of this tensor.
        old_rows: `[num_rows]`, for each row its place in the checkpoint, or
            -1 to keep its value.
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
                [row_slices.rows_spec(stored["shape"], first, last)],
                [stored["dtype"]],
            )
            for value, rows, here in zip(values, wanted, found, strict=True):
                if here.any():
                    value[here] = np.asarray(read)[rows[here] - first]
    for block, value in zip(blocks, values, strict=True):
        block.variable.assign(value)


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


def _set(variable: tf.Variable, value: tf.Tensor) -> None:
    """Assigns a value of any shape; its memory becomes the variable's."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


# === Bytes ===


def _size_and_hash(path: pathlib.Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
