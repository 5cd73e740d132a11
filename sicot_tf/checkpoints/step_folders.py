"""Where the checkpoints of a run lie, by the steps they were written at."""

import pathlib
import re


def folder_of(directory: pathlib.Path, step: int) -> pathlib.Path:
    """Where the checkpoint of a step lies."""
    return pathlib.Path(directory) / f"step-{step:08d}"


def step_of(folder: pathlib.Path) -> int:
    """The step that a folder is named after."""
    return int(folder.name.removeprefix("step-"))


def in_order(directory: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, the last one last."""
    return sorted(
        (
            folder
            for folder in pathlib.Path(directory).glob("step-*")
            if re.fullmatch(r"step-\d{8,}", folder.name)
        ),
        key=step_of,
    )


def latest_step(directory: pathlib.Path) -> int | None:
    """The step of a run's last checkpoint; None without one."""
    folders = in_order(directory)
    return step_of(folders[-1]) if folders else None
