"""Buckets of real servers on loopback, and the environment that leads there.

    with object_stores.s3_bucket() as url:  # s3://bucket-...
        ...

Processes that a test starts inherit the environment.
"""

import contextlib
import logging
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from unittest import mock

from sicot_tf.stores import opening

# No test may ask a cloud for keys.
_NOWHERE = "127.0.0.1:9"
_LOOPBACK_ONLY = {
    "AWS_METADATA_ENDPOINT": f"http://{_NOWHERE}",
    "AWS_EC2_METADATA_DISABLED": "true",
    "GCE_METADATA_HOST": _NOWHERE,
    "GCE_METADATA_IP": _NOWHERE,
    "NO_GCE_CHECK": "true",
}
_BINARIES = pathlib.Path.home() / ".cache" / "sicot_tf" / "bin"


def binary(name: str) -> str | None:
    """The path of a server's program, of PATH or of the cache; None if absent.

    Args:
        name: such as `versitygw` or `fake-gcs-server`; in the cache with a
            version behind it.
    """
    found = sorted(_BINARIES.glob(f"{name}-[0-9]*"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Sets variables of stores; of those that are there, none stays."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "GOOGLE_", "STORAGE_"))
    }
    opening.folder_of.cache_clear()
    with mock.patch.dict(
        os.environ, kept | _LOOPBACK_ONLY | variables, clear=True
    ):
        yield
    opening.folder_of.cache_clear()


@contextlib.contextmanager
def s3_bucket() -> Iterator[str]:
    """URL of an empty bucket of an S3 server in this process."""
    import boto3
    from moto import server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    bucket = f"bucket-{secrets.token_hex(4)}"
    try:
        with environment(
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_REGION="us-east-1",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ENDPOINT_URL=f"http://{host}:{port}",
        ):
            boto3.client("s3").create_bucket(Bucket=bucket)
            yield f"s3://{bucket}"
    finally:
        moto.stop()


@contextlib.contextmanager
def gcs_bucket() -> Iterator[str]:
    """URL of an empty bucket of fake-gcs-server; ask `binary` for it first."""
    bucket = f"bucket-{secrets.token_hex(4)}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [binary("fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1"]
        + ["-port", str(port), "-backend", "memory", "-public-host"]
        + [f"127.0.0.1:{port}", "-log-level", "error"]
    )
    try:
        request = urllib.request.Request(
            f"{endpoint}/storage/v1/b?project=test",
            data=f'{{"name": "{bucket}"}}'.encode(),
            headers={"Content-Type": "application/json"},
        )
        _wait_for(port)
        urllib.request.urlopen(request, timeout=10).read()
        with environment(
            STORAGE_EMULATOR_HOST=endpoint, GOOGLE_CLOUD_PROJECT="test"
        ):
            yield f"gs://{bucket}"
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
