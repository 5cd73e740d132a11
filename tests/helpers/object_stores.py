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
from collections.abc import Iterator
from unittest import mock

import pytest

from benchmarks import go_programs
from benchmarks.stores import servers
from sicot_tf.stores import gcs_folder
from sicot_tf.stores import opening
from sicot_tf.stores import s3_client

# No test may ask a cloud for keys.
_NOWHERE = "127.0.0.1:9"
_LOOPBACK_ONLY = {
    "AWS_METADATA_ENDPOINT": f"http://{_NOWHERE}",
    "AWS_EC2_METADATA_DISABLED": "true",
    "GCE_METADATA_HOST": _NOWHERE,
    "GCE_METADATA_IP": _NOWHERE,
    "NO_GCE_CHECK": "true",
}


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
def impatient() -> Iterator[None]:
    """Clients that give up after a second what has never answered yet."""
    with (
        mock.patch.object(
            s3_client, "_HURRIED", {"connect": 1, "read": 1, "retry": 1}
        ),
        mock.patch.object(gcs_folder, "_HURRIED", ((1, 1), 1)),
    ):
        s3_client._client.cache_clear()
        gcs_folder._client.cache_clear()
        yield


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
def versitygw_bucket() -> Iterator[str]:
    """URL of an empty bucket of versitygw, a server of S3.

    Skips the test where that is not built: `make store-test` does.
    """
    _skip_without(servers.VERSITYGW)
    with servers.s3() as server, environment(**server.environment):
        yield server.url


@contextlib.contextmanager
def gcs_bucket() -> Iterator[str]:
    """URL of an empty bucket of fake-gcs-server; skips as above."""
    _skip_without(servers.FAKE_GCS)
    with servers.gcs() as server, environment(**server.environment):
        yield server.url


def upload_folder(folder: pathlib.Path, url: str) -> None:
    """Copies all files of a folder, with those of its folders, to a store."""
    store = opening.open_folder(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def _skip_without(program: tuple[str, str]) -> None:
    if not go_programs.is_there(*program):
        pytest.skip(f"Needs {program[0]}, which make store-test builds.")
