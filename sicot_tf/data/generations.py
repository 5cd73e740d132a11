"""Generations: complete folders named by their content, and LATEST.

A job writes into a hidden work folder, renames what is complete to
`DIR/<generation>/` and points `DIR/LATEST` to it. Readers name DIR and get
the newest; what they have open stays as it is.
"""

import contextlib
import glob
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator

MANIFEST = "manifest.json"
LATEST = "LATEST"


def resolve_generation(path: pathlib.Path | str) -> pathlib.Path:
    """The generation folder meant by DIR, DIR/LATEST or the folder itself.

    Raises:
        ValueError: if there is no complete generation.
    """
    path = pathlib.Path(path)
    pointer = path if path.name == LATEST else path / LATEST
    generation = path
    if pointer.is_file():
        generation = pointer.parent / pointer.read_text("utf-8").strip()
    if not (generation / MANIFEST).is_file():
        raise ValueError(
            f"Expected a folder with {MANIFEST}, or with a {LATEST} file that "
            f"names one; found neither in {path}. Build it first, or wait "
            "until the job that builds it has finished."
        )
    return generation


@contextlib.contextmanager
def work_folder(
    directory: pathlib.Path, generation: str
) -> Iterator[pathlib.Path]:
    """A hidden folder in `directory`, removed in the end either way.

    Those that killed processes of this host left behind are removed as well.
    """
    # Process ids mean nothing to another host that shares the disk.
    host = platform.node()
    for stale in directory.glob(f".work-*-{glob.escape(host)}-*"):
        if not _is_alive(int(stale.name.rpartition("-")[2])):
            shutil.rmtree(stale)
    work = directory / f".work-{generation}-{host}-{os.getpid()}"
    work.mkdir(parents=True)
    try:
        yield work.absolute()
    finally:
        shutil.rmtree(work)


def publish(finished: pathlib.Path, generation: pathlib.Path) -> None:
    """Renames a finished folder to its final name and points LATEST to it."""
    try:
        os.rename(finished, generation)
    except OSError:
        # Another process may have built the same one meanwhile.
        if not (generation / MANIFEST).is_file():
            raise
    point_latest(generation)


def point_latest(generation: pathlib.Path) -> None:
    """Makes the LATEST file beside the folder name it, at once."""
    pointer = generation.parent / LATEST
    temporary = pointer.with_name(f".{LATEST}.{os.getpid()}.tmp")
    temporary.write_text(generation.name + "\n", encoding="utf-8")
    os.replace(temporary, pointer)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It is another user's.
    return True
