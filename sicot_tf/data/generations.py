"""Generations: complete folders named by their content, and LATEST.

A job writes into a hidden work folder, where it can go on after a kill,
renames what is complete to `DIR/<generation>/` and points `DIR/LATEST` to
it. Readers name DIR and get the newest; what they have open stays as it is.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import TextIO

MANIFEST = "manifest.json"
# Of the records of a dataset.
SPLITS = ("train", "val", "test")
LATEST = "LATEST"
_WORK = ".work-"
_LOCK = ".lock"


def resolve_generation(path: pathlib.Path | str) -> pathlib.Path:
    """The generation folder meant by DIR, DIR/LATEST or the folder itself.

    Raises:
        ValueError: if there is no complete generation.
    """
    path = pathlib.Path(path)
    pointer = path if path.name == LATEST else path / LATEST
    generation = path
    if pointer.is_file():
        try:
            name = pointer.read_text("utf-8").strip()
            generation = pointer.parent / name
            is_there = bool(name) and (generation / MANIFEST).is_file()
        except ValueError:  # No text, or NUL in it.
            name, is_there = "", False
        if not is_there:
            raise ValueError(
                f"Expected {pointer} to name a generation beside it, "
                f"received {name!r}. Write the name of one into it, name one "
                "yourself, or build again."
            )
    if not (generation / MANIFEST).is_file():
        raise ValueError(
            f"Expected a folder with {MANIFEST}, or with a {LATEST} file that "
            f"names one; found neither in {path}. Build it first, or wait "
            "until the job that builds it has finished."
        )
    return generation


def check_complete(generation: pathlib.Path) -> None:
    """Raises ValueError if a folder that is there has no manifest."""
    if not (generation / MANIFEST).is_file():
        raise ValueError(
            f"{generation} has lost its {MANIFEST}. Remove the folder, then "
            "build again."
        )


def make_folder(path: pathlib.Path) -> None:
    """Makes a folder of generations; raises ValueError if it can't be one."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        # The name of a generation is written into files.
        raise ValueError(
            f"Expected a path in UTF-8, received {str(path)!r}. Rename it."
        ) from error
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"Expected a folder for the output, {path} is a file or lies in "
            "one. Name another folder."
        ) from error


@contextlib.contextmanager
def work_folder(directory: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A hidden folder in `directory` that outlives a killed or failed job.

    The next job of the same name goes on in it; it is removed once a job has
    come to its end.

    Raises:
        ValueError: if another process works in it.
    """
    make_folder(directory)
    work = directory / f"{_WORK}{name}"
    lock = _lock(work)
    if lock is None:
        raise ValueError(
            f"Another process works in {work}. Wait until it has finished, or "
            "end it."
        )
    with lock:
        work.mkdir(exist_ok=True)
        yield work.absolute()
        _remove(work)


def remove_abandoned(directory: pathlib.Path, pattern: str) -> None:
    """Removes work folders that no process works in."""
    for path in directory.glob(f"{_WORK}{pattern}{_LOCK}"):
        work = path.with_name(path.name.removesuffix(_LOCK))
        lock = _lock(work)
        if lock is not None:
            with lock:
                _remove(work)


def is_worked_on(work: pathlib.Path) -> bool:
    """Whether a process works in a work folder."""
    lock = _lock(work)
    if lock is not None:
        lock.close()
    return lock is None


def _lock(work: pathlib.Path) -> TextIO | None:
    """The lock of a work folder, which ends with the process; None if held."""
    path = work.with_name(work.name + _LOCK)
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the folder just now.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()


def _remove(work: pathlib.Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.with_name(work.name + _LOCK).unlink()


def publish(finished: pathlib.Path, generation: pathlib.Path) -> None:
    """Renames a finished folder to its final name."""
    try:
        os.rename(finished, generation)
    except OSError:
        # Another process may have built the same one meanwhile.
        if not (generation / MANIFEST).is_file():
            raise


def point_latest(generation: pathlib.Path) -> None:
    """Makes the LATEST file beside the folder name it, at once."""
    pointer = generation.parent / LATEST
    temporary = pointer.with_name(f".{LATEST}.{os.getpid()}.tmp")
    temporary.write_text(generation.name + "\n", encoding="utf-8")
    os.replace(temporary, pointer)
