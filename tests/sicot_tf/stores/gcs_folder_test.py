"""What Cloud Storage complains of; connections that lead nowhere."""

import pathlib
import socket

import pytest

from sicot_tf.stores import folder
from sicot_tf.stores import opening
from tests.helpers import object_stores


def _message(call: object, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_a_missing_bucket_is_no_missing_file() -> None:
    """Else a mistyped bucket makes a reject of every record."""
    with object_stores.gcs_bucket():
        store = opening.open_folder("gs://no-such-bucket/folder")
        for call in (
            lambda: store.get("a"),
            lambda: store.open("a"),
            lambda: store.put("a", b""),
            lambda: store.create("a", b""),
            lambda: list(store.list()),
        ):
            message = _message(call, folder.StoreRefusedError)
            assert "There is no bucket gs://no-such-bucket." in message


def test_a_server_that_is_down_is_told_in_seconds() -> None:
    """A job should not wait for a server that never was there."""
    host = "http://127.0.0.1:9"
    with (
        object_stores.impatient(),
        object_stores.environment(STORAGE_EMULATOR_HOST=host),
    ):
        store = opening.open_folder("gs://bucket/folder")
        message = _message(lambda: store.get("a"), folder.StoreError)
    assert "Could not reach http://127.0.0.1:9 for gs://bucket/folder/a" in (
        message
    )


def test_a_server_that_never_answers_is_told() -> None:
    """Without a timeout a job hangs for ever."""
    with object_stores.impatient(), socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with object_stores.environment(STORAGE_EMULATOR_HOST=host):
            store = opening.open_folder("gs://bucket/folder")
            message = _message(lambda: store.put("a", b"1"), folder.StoreError)
    assert f"Could not reach {host}" in message


def test_says_where_credentials_come_from(tmp_path: pathlib.Path) -> None:
    """None anywhere, or a file that is none."""
    home = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)}
    with object_stores.environment(**home):
        store = opening.open_folder("gs://bucket/folder")
        message = _message(lambda: store.get("a"), folder.StoreRefusedError)
    assert "no credentials for gs://bucket/folder/a" in message
    (tmp_path / "key.json").write_text("{}")
    for name in ("key.json", "none.json"):
        path = str(tmp_path / name)
        with object_stores.environment(
            GOOGLE_APPLICATION_CREDENTIALS=path, **home
        ):
            store = opening.open_folder("gs://bucket/folder")
            message = _message(lambda: store.get("a"), PermissionError)
        assert "GOOGLE_APPLICATION_CREDENTIALS" in message
