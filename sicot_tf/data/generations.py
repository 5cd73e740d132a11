"""Generations: complete folders named by their content, and LATEST.

A job writes into a hidden work folder, where it can go on after a kill,
renames what is complete to `DIR/<generation>/` and points `DIR/LATEST` to
it. Readers name DIR and get the newest; what they have open stays as it is.
"""

import concurrent.futures
import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any
from typing import TextIO

from sicot_tf import files
from sicot_tf.stores import locations
from sicot_tf.stores import opening

MANIFEST = "manifest.json"
# Of the records of a dataset.
SPLITS = ("train", "val", "test")
# What no two runs have in common; all else of equal generations is equal.
RUN = "run.json"
LATEST = "LATEST"
WORK = ".work-"
LOCK = ".lock"


def resolve_generation(place: locations.Location) -> locations.Location:
    """The generation folder meant by DIR, DIR/LATEST or the folder itself.

    Args:
        place: a path, or the URL of an object store.

    Raises:
        ValueError: if there is no complete generation.
    """
    if not locations.is_remote(place):
        place = pathlib.Path(place)
    is_pointer = locations.name(place) == LATEST
    directory = locations.parent(place) if is_pointer else place
    store = opening.open_folder(directory)
    generation = place
    if store.exists(LATEST):
        try:
            name = store.get(LATEST).decode("utf-8").strip()
            generation = locations.join(directory, name)
            is_there = bool(name) and store.child(name).exists(MANIFEST)
        except ValueError:  # No text, or NUL in it.
            name, is_there = "", False
        if not is_there:
            raise ValueError(
                f"Expected {locations.join(directory, LATEST)} to name a "
                f"generation beside it, received {name!r}. Write the name of "
                "one into it, name one yourself, or build again."
            )
    elif is_pointer or not store.exists(MANIFEST):
        raise ValueError(
            f"Expected a folder with {MANIFEST}, or with a {LATEST} file that "
            f"names one; found neither in {place}. Build it first, or wait "
            "until the job that builds it has finished."
        )
    return generation


def latest(directory: locations.Location) -> locations.Location | None:
    """The generation that `LATEST` names; None in a new folder."""
    if not opening.open_folder(directory).exists(LATEST):
        return None
    return resolve_generation(directory)


def by_age(directory: pathlib.Path) -> list[pathlib.Path]:
    """All generations in the order in which they were built."""
    found = [path.parent for path in directory.glob(f"[!.]*/{MANIFEST}")]
    return sorted(found, key=lambda path: (built_at(path), path.name))


def built_at(generation: locations.Location) -> str:
    """When it was built, in ISO 8601; "" where `run.json` does not tell."""
    store = opening.open_folder(generation)
    return store.get_json(RUN).get("built_at", "") if store.exists(RUN) else ""


def check_complete(generation: pathlib.Path) -> None:
    """Raises ValueError if a folder that is there has no manifest."""
    if not (generation / MANIFEST).is_file():
        raise ValueError(
            f"{generation} has lost its {MANIFEST}. Remove the folder, then "
            "build again."
        )


def check_size(path: pathlib.Path, num_bytes: int) -> None:
    """Raises ValueError if a file is not as large as its manifest says."""
    if not path.is_file() or path.stat().st_size != num_bytes:
        raise ValueError(
            f"Expected {path} with {num_bytes:,} bytes, as its manifest says; "
            "it is missing or cut. Copy the generation again, or remove it and "
            "build it again."
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
def only_builder(directory: pathlib.Path) -> Iterator[None]:
    """Keeps other processes from changing a folder of generations.

    Raises:
        ValueError: if one is at it.
    """
    make_folder(directory)
    path = directory / LOCK
    lock = _lock(path)
    if lock is None:
        raise ValueError(
            f"Another process is changing {directory}. Wait until it has "
            "finished."
        )
    with lock:
        try:
            yield
        finally:
            path.unlink()


@contextlib.contextmanager
def work_folder(directory: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """A hidden folder in `directory` that outlives a killed or failed job.

    The next job of the same name goes on in it; it is removed once a job has
    come to its end.

    Raises:
        ValueError: if another process works in it.
    """
    make_folder(directory)
    work = directory / f"{WORK}{name}"
    lock = _lock(_lock_of(work))
    if lock is None:
        raise ValueError(
            f"Another process works in {work}. Wait until it has finished, or "
            "end it."
        )
    with lock:
        work.mkdir(exist_ok=True)
        yield work.absolute()
        _remove(work)


def result_folder(work: pathlib.Path) -> pathlib.Path:
    """What becomes the generation, without what a kill has cut short."""
    folder = work / "generation"
    folder.mkdir(exist_ok=True)
    for path in folder.glob(".*.tmp"):
        path.unlink()
    return folder


def remove_abandoned(directory: pathlib.Path, pattern: str) -> None:
    """Removes work folders that no process works in."""
    for path in directory.glob(f"{WORK}{pattern}{LOCK}"):
        lock = _lock(path)
        if lock is not None:
            with lock:
                _remove(path.with_name(path.name.removesuffix(LOCK)))


def is_worked_on(work: pathlib.Path) -> bool:
    """Whether a process works in a work folder."""
    lock = _lock(_lock_of(work))
    if lock is not None:
        lock.close()
    return lock is None


def _lock_of(work: pathlib.Path) -> pathlib.Path:
    return work.with_name(work.name + LOCK)


def _lock(path: pathlib.Path) -> TextIO | None:
    """A lock, which ends with the process at the latest; None if held.

    It is a file: folders can't be locked on NFS.
    """
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
    _lock_of(work).unlink()


def describe_files(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, once it is safely on the disk."""

    def describe(path: pathlib.Path) -> dict[str, Any]:
        files.sync(path)
        return files.describe(path)

    paths = sorted(folder.iterdir())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        described = pool.map(describe, paths)
        return {
            path.name: description
            for path, description in zip(paths, described, strict=True)
        }


def publish(finished: pathlib.Path, generation: pathlib.Path) -> None:
    """Renames a finished folder to its final name."""
    try:
        files.rename_folder(finished, generation)
    except OSError:
        # Another process may have built the same one meanwhile.
        if not (generation / MANIFEST).is_file():
            raise


def point_latest(generation: pathlib.Path) -> None:
    """Makes the LATEST file beside the folder name it, at once."""
    files.write_text(generation.parent / LATEST, generation.name + "\n")
