"""Programs in Go that benchmarks run, built once."""

import os
import pathlib
import shutil
import subprocess
import tempfile

_BINARIES = pathlib.Path.home() / ".cache" / "sicot_tf" / "bin"


class UnavailableError(Exception):
    """What a benchmark needs is not on this machine and can't be fetched."""


def fetch(package: str, version: str) -> pathlib.Path:
    """The binary of a Go package, from the cache or built by `go install`.

    Args:
        package: import path; the program has the name of its last part.
        version: without the v.

    Raises:
        UnavailableError: if there is no go, or it fails.
    """
    program = package.rpartition("/")[2]
    binary = _place(package, version)
    if binary.exists():
        return binary
    if not shutil.which("go"):
        raise UnavailableError(
            f"There is no {binary} and no go on the PATH. Install go 1.26 or "
            f"newer, which builds {package}."
        )
    print(f"Building {package}@v{version}, some minutes ...", flush=True)
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        run(["go", "install", f"{package}@v{version}"], GOBIN=folder)
        os.replace(pathlib.Path(folder) / program, binary)
    return binary


def is_there(package: str, version: str) -> bool:
    """Whether `fetch` has nothing to build."""
    return _place(package, version).exists()


def _place(package: str, version: str) -> pathlib.Path:
    return _BINARIES / f"{package.rpartition('/')[2]}-{version}"


def run(command: list[str], **environment: str) -> None:
    """Runs what fetches something.

    Raises:
        UnavailableError: with its output, if it fails.
    """
    finished = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        output = (finished.stdout + finished.stderr).strip()
        raise UnavailableError(f"{' '.join(command)} failed:\n{output}")
