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

import pathlib
import secrets
import shutil
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from sicot_tf import files
from sicot_tf.checkpoints import checkpoint_files
from sicot_tf.checkpoints import row_slices
from sicot_tf.checkpoints import step_folders
from sicot_tf.workers.collectives import Collectives


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
        slices: Iterable[row_slices.RowSlice] = (),
        row_names: Mapping[str, Sequence[str]] | None = None,
        keep: int = 3,
        collectives: Collectives | None = None,
    ):
        if keep < 1:
            raise ValueError(f"Expected to keep 1 or more, received {keep}.")
        row_names = row_names or {}
        self._directory = pathlib.Path(directory)
        self._slices = [*row_slices.whole(variables), *slices]
        self._tensors = row_slices.describe(self._slices, row_names)
        self._row_axes = _row_axes(row_names)
        self._keep = keep
        self._collectives = collectives or Collectives()

    # === Save ===

    def save(self, *, epoch: int, step: int) -> None:
        """Writes a checkpoint; one that exists for this step is kept.

        Raises:
            OSError: if a worker can't write.
            ValueError: if the rows of the workers do not make whole tensors.
        """
        folder = step_folders.folder_of(self._directory, step)
        is_chief = self._collectives.is_chief
        call_on_all = self._collectives.call_on_all
        name, *_ = call_on_all(
            lambda: self._make_unfinished(folder) if is_chief else ""
        )
        if not name:
            return
        unfinished = self._directory / name
        call_on_all(lambda: self._write_part(unfinished))
        call_on_all(
            lambda: is_chief and self._publish(unfinished, folder, epoch, step)
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
            held = row_slices.row_borders(slices)
            slices = [
                each
                for each in slices
                if each.row_axis
                and held[each.name][-1] - held[each.name][0] < each.total_rows
            ]
        files.write_json(
            part / "part.json",
            {
                "row_borders": row_slices.row_borders(slices),
                "files": checkpoint_files.write_slices(part, slices),
            },
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
        parts = {part: files.read_json(part / "part.json") for part in folders}
        merged = checkpoint_files.merge(
            unfinished, {part: parts[part]["files"] for part in folders}
        )
        for part in folders:
            shutil.rmtree(part)
        checkpoint_files.write_manifest(
            unfinished,
            {
                "step": step,
                "epoch": epoch,
                "num_workers": num_workers,
                "row_axes": self._row_axes,
                "tensors": row_slices.join_borders(
                    self._tensors,
                    [parts[part]["row_borders"] for part in folders],
                ),
                "files": merged,
            },
        )
        files.rename_folder(unfinished, folder)
        complete = step_folders.in_order(self._directory)
        for old in complete[: -self._keep]:
            files.remove_folder(old)

    # === Restore ===

    def restore_latest(self) -> int:
        """Restores the last checkpoint; returns its step, or 0 without one.

        Nothing is assigned before all of it is verified.

        Raises:
            ValueError: if it is damaged, or of another model, other rows or
                another format.
        """
        folder = checkpoint_files.last_folder(
            self._directory, self._collectives
        )
        if folder is None:
            return 0
        self._collectives.call_on_all(lambda: self._check(folder))
        self._collectives.call_on_all(
            lambda: checkpoint_files.assign(folder, self._slices)
        )
        return step_folders.step_of(folder)

    def _check(self, folder: pathlib.Path) -> None:
        manifest = checkpoint_files.read_manifest(folder)
        _check_row_axes(
            folder,
            manifest,
            self._row_axes,
            "Start a new run with --init_from RUN.",
        )
        checkpoint_files.check_tensors(
            folder, manifest, self._tensors, nothing_else=True
        )
        checkpoint_files.check_files(folder, manifest, self._collectives)


def restore_variables(
    directory: pathlib.Path,
    variables: Iterable[Any],
    slices: Iterable[row_slices.RowSlice] = (),
    *,
    row_names: Mapping[str, Sequence[str]] | None = None,
    verify_hashes: bool = True,
) -> int:
    """Restores part of a run's last checkpoint; returns its step.

    For one process that evaluates or exports, however many workers wrote it.
    Rows go straight to their variables, 128 MiB at a time.

    Args:
        row_names: what the rows of an axis stand for; they must be the same
            in the checkpoint.
        verify_hashes: whether files are compared by SHA-256, which reads all
            of them, or by size alone.

    Raises:
        ValueError: if there is no checkpoint, it is damaged, or something is
            not in it, has another shape or other rows.
    """
    slices = [*row_slices.whole(variables), *slices]
    alone = Collectives()
    folder = checkpoint_files.expect_folder(directory, alone)
    manifest = checkpoint_files.read_manifest(folder)
    _check_row_axes(
        folder,
        manifest,
        _row_axes(row_names or {}),
        "Put back the classes.jsonl and vocabulary.txt of its run.",
    )
    checkpoint_files.check_tensors(
        folder, manifest, row_slices.describe(slices, {})
    )
    checkpoint_files.check_files(
        folder, manifest, alone, verify_hashes=verify_hashes
    )
    checkpoint_files.assign(folder, slices)
    return step_folders.step_of(folder)


def restore_grown(
    directory: pathlib.Path,
    variables: Iterable[Any],
    slices: Iterable[row_slices.RowSlice] = (),
    *,
    old_row_names: Mapping[str, Sequence[str]],
    new_row_names: Mapping[str, Sequence[str]],
    collectives: Collectives | None = None,
) -> dict[str, tuple[int, int]]:
    """Starts a run from the last checkpoint of one with other rows.

    A row is found by its name, wherever it was. Rows with a new name keep
    the value that their variable has. The position is not taken over. All
    workers call it.

    Args:
        directory: the checkpoints of the other run.
        slices: the rows that this worker holds.
        old_row_names: by row axis, the names of the rows in the checkpoint.
        new_row_names: by row axis, their names now.

    Returns:
        For each row axis how many rows were found and how many are new.

    Raises:
        ValueError: as `restore_variables`, and if the old names are not those
            of the checkpoint.
    """
    whole, slices = row_slices.whole(variables), list(slices)
    tensors = row_slices.describe([*whole, *slices], new_row_names)
    old_rows = {
        axis: row_slices.find_rows(axis, old_row_names[axis], names)
        for axis, names in new_row_names.items()
    }
    collectives = collectives or Collectives()
    folder = checkpoint_files.expect_folder(directory, collectives)

    def check() -> None:
        manifest = checkpoint_files.read_manifest(folder)
        _check_old_names(folder, manifest, old_row_names)
        checkpoint_files.check_tensors(folder, manifest, tensors, any_rows=True)
        checkpoint_files.check_files(folder, manifest, collectives)

    def assign() -> None:
        checkpoint_files.assign(folder, whole)
        stored = checkpoint_files.read_manifest(folder)["tensors"]
        for name in row_slices.row_borders(slices):
            blocks = [each for each in slices if each.name == name]
            rows = old_rows[blocks[0].row_axis]
            for group in row_slices.groups(blocks):
                checkpoint_files.assign_matching(
                    folder, stored[name], group, rows
                )

    collectives.call_on_all(check)
    collectives.call_on_all(assign)
    return {
        axis: (int((rows >= 0).sum()), int((rows < 0).sum()))
        for axis, rows in old_rows.items()
    }


def _check_old_names(
    folder: pathlib.Path,
    manifest: Mapping[str, Any],
    old_row_names: Mapping[str, Sequence[str]],
) -> None:
    """Raises ValueError if the rows of a checkpoint had other names."""
    for axis, names in old_row_names.items():
        stored = manifest["row_axes"].get(axis, {"count": "unnamed"})
        if stored.get("sha256") != files.json_sha256(list(names)):
            raise ValueError(
                f"{folder} holds {stored['count']} {axis}; the {len(names)} "
                "old ones given are others, or in another order. Take the "
                "list that its run was trained with."
            )


def _row_axes(
    row_names: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """By row axis, number and hash of the names."""
    return {
        axis: {
            "count": len(names),
            "sha256": files.json_sha256(list(names)),
        }
        for axis, names in row_names.items()
    }


def _check_row_axes(
    folder: pathlib.Path,
    manifest: Mapping[str, Any],
    row_axes: Mapping[str, dict[str, Any]],
    remedy: str,
) -> None:
    """Raises ValueError if rows stand for something else in a checkpoint."""
    for axis, now in row_axes.items():
        stored = manifest["row_axes"].get(axis, now)
        if stored != now:
            raise ValueError(
                f"{folder} was trained with another list of {axis}: "
                f"{stored['count']} old ones, {now['count']} new ones. {remedy}"
            )
