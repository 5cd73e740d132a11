"""Servers of object stores on this machine, and what was asked of them.

versitygw speaks S3, fake-gcs-server the JSON API of Cloud Storage. Both keep
objects as files in a folder, listen on loopback only, and are built
by go (1.26 or newer) the first time. Clients that get `Server.environment` ask
no other machine, and no metadata server of a cloud either.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator

from benchmarks import go_programs

BUCKET = "sicot-records"
VERSITYGW = ("github.com/versity/versitygw/cmd/versitygw", "1.8.0")
FAKE_GCS = ("github.com/fsouza/fake-gcs-server", "1.56.1")
_START_SECONDS = 30
_KEY, _SECRET = "loopback-key", "loopback-secret"
# Nobody listens there: who asks for the keys of a cloud's machine fails.
NOWHERE = "127.0.0.1:9"
# Keys stand there as they are, with spaces.
_S3_REQUEST = re.compile(r" s3_(\w+) .*? (\d{3}) (?:-|\w+) \d+ \d+ ")
_GCS_REQUEST = re.compile(r'\\"(\w+) (\S+) HTTP/1.1\\" (\d{3}) ')
_GCS_OBJECT = re.compile(r"/b/[^/?]+/o/[^?]")


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server with one empty bucket.

    Attributes:
        url: of the bucket.
        environment: what a client on this machine needs of it.
        log: what the server says of requests.
        pid: of its process.
    """

    url: str
    environment: dict[str, str]
    log: pathlib.Path
    pid: int
    kind: Callable[[str], tuple[str, int] | None]

    def cpu_seconds(self) -> float:
        """Seconds of cores that the server has used so far."""
        text = pathlib.Path(f"/proc/{self.pid}/stat").read_text("utf-8")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def num_requests(self) -> int:
        """Requests so far, of all kinds."""
        return self.log.read_bytes().count(b"\n")

    def requests(self) -> collections.Counter[str]:
        """Requests so far by kind, in the words of the store's API."""
        counts = collections.Counter()
        with self.log.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                found = self.kind(line)
                if found:
                    kind, status = found
                    # A lost race and a missing file are answers as well.
                    suffix = f" {status}" if status >= 400 else ""
                    counts[kind + suffix] += 1
        return counts


@contextlib.contextmanager
def s3(folder: pathlib.Path | None = None) -> Iterator[Server]:
    """Runs versitygw as long as the context.

    Args:
        folder: for its files; None: a temporary one.

    Raises:
        go_programs.UnavailableError: if it can't be had, or does not start.
    """
    program = go_programs.fetch(*VERSITYGW)
    with _folder(folder) as folder:
        port = _free_port()
        log = folder / "access.log"
        log.touch()
        command = [program, f"--port=127.0.0.1:{port}", "--quiet"]
        command += [f"--access-log={log}", "posix", folder / "objects"]
        environment = {
            "ROOT_ACCESS_KEY": _KEY,
            "ROOT_SECRET_KEY": _SECRET,
        }
        # Folders within are its buckets.
        (folder / "objects" / BUCKET).mkdir(parents=True)
        with _running(command, folder / "log", port, environment) as pid:
            yield Server(
                f"s3://{BUCKET}",
                {
                    "AWS_ACCESS_KEY_ID": _KEY,
                    "AWS_SECRET_ACCESS_KEY": _SECRET,
                    "AWS_REGION": "us-east-1",
                    "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                    "AWS_METADATA_ENDPOINT": f"http://{NOWHERE}",
                    "AWS_EC2_METADATA_DISABLED": "true",
                },
                log,
                pid,
                _s3_kind,
            )


@contextlib.contextmanager
def gcs(folder: pathlib.Path | None = None) -> Iterator[Server]:
    """Runs fake-gcs-server as long as the context.

    Args:
        folder: for its files; None: a temporary one.

    Raises:
        go_programs.UnavailableError: if it can't be had, or does not start.
    """
    program = go_programs.fetch(*FAKE_GCS)
    with _folder(folder) as folder:
        port = _free_port()
        command = [program, "-scheme=http", "-host=127.0.0.1"]
        command += [f"-port={port}", f"-public-host=127.0.0.1:{port}"]
        # Uploads in pieces go on at an address that it tells.
        command += [f"-external-url=http://127.0.0.1:{port}"]
        command += ["-backend=filesystem"]
        command += [f"-filesystem-root={folder / 'objects'}"]
        (folder / "objects" / BUCKET).mkdir(parents=True)
        log = folder / "log"
        with _running(command, log, port, {}) as pid:
            yield Server(
                f"gs://{BUCKET}",
                {
                    "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
                    "GOOGLE_CLOUD_PROJECT": "loopback",
                    "GCE_METADATA_HOST": NOWHERE,
                    "NO_GCE_CHECK": "true",
                },
                log,
                pid,
                _gcs_kind,
            )


@contextlib.contextmanager
def _folder(given: pathlib.Path | None) -> Iterator[pathlib.Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


@contextlib.contextmanager
def _running(
    command: list[str | pathlib.Path],
    log: pathlib.Path,
    port: int,
    environment: dict[str, str],
) -> Iterator[int]:
    # Nothing of this process's own: a server might take its keys for its own.
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_port(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(
    process: subprocess.Popen, port: int, log: pathlib.Path
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise go_programs.UnavailableError(
        f"{process.args[0]} did not start:\n{log.read_text('utf-8')}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _s3_kind(line: str) -> tuple[str, int] | None:
    found = _S3_REQUEST.search(line)
    return (found[1], int(found[2])) if found else None


def _gcs_kind(line: str) -> tuple[str, int] | None:
    found = _GCS_REQUEST.search(line)
    if not found:
        return None
    method, path, status = found.groups()
    if "/upload/" in path:
        # The first request of an upload in pieces holds no bytes.
        name = "start of upload" if "resumable" in path else "upload"
        kind = name if method == "POST" else "piece of upload"
    elif "/download/" in path or "alt=media" in path:
        kind = "download"
    elif _GCS_OBJECT.search(path):
        kind = {"GET": "metadata", "DELETE": "delete"}.get(method, method)
    elif method == "GET" and path.partition("?")[0].endswith("/o"):
        kind = "list"
    else:
        kind = f"{method} of the bucket"
    return kind, int(status)
