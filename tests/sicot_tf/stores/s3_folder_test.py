"""What S3 complains of, by real servers; connections that lead nowhere."""

import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

import boto3
import pytest
from moto import server

from sicot_tf.stores import folder
from sicot_tf.stores import opening
from sicot_tf.stores import s3_errors
from tests.helpers import object_stores

_REFUSED = "127.0.0.1:9"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_stores.s3_bucket() as url:
        yield url


def _message(call: object, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    # One sentence for people: obstore adds dozens of lines for its authors.
    assert "\n" not in message and len(message) < 400
    assert "Debug" not in message
    return message


def test_a_missing_bucket_is_no_missing_file(bucket: str) -> None:
    """Else a mistyped bucket makes a reject of every record."""
    store = opening.open_folder("s3://no-such-bucket/folder")
    for call in (
        lambda: store.get("a"),
        lambda: store.open("a"),
        lambda: store.put("a", b""),
        lambda: store.create("a", b""),
        lambda: list(store.list()),
        lambda: list(store.list("a", is_deep=False)),
    ):
        message = _message(call, folder.StoreRefusedError)
        assert "There is no bucket s3://no-such-bucket. Make it" in message


def test_a_server_that_is_down_is_told_in_seconds() -> None:
    """Beam's own client gives no error within 45 s."""
    with (
        object_stores.impatient(),
        object_stores.environment(
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_ENDPOINT_URL=f"http://{_REFUSED}",
        ),
    ):
        store = opening.open_folder("s3://bucket/folder")
        message = _message(lambda: store.get("a"), folder.StoreError)
    assert f"Could not reach http://{_REFUSED}" in message
    assert "s3://bucket/folder/a" in message
    assert "AWS_ENDPOINT_URL" in message


def test_a_server_that_never_answers_is_told() -> None:
    """Without a timeout a job hangs for ever."""
    with object_stores.impatient(), socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with object_stores.environment(
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{silent.getsockname()[1]}",
        ):
            store = opening.open_folder("s3://bucket/folder")
            message = _message(lambda: store.put("a", b"1"), folder.StoreError)
    assert "Could not reach http://127.0.0.1:" in message


def test_a_server_that_restarts_ends_no_job() -> None:
    """Hours of work should not be lost by a minute without the store."""
    first = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    first.start()
    host, port = first.get_host_and_port()
    again = server.ThreadedMotoServer(host, port, verbose=False)
    with (
        object_stores.impatient(),
        object_stores.environment(
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_REGION="us-east-1",
            AWS_ENDPOINT_URL=f"http://{host}:{port}",
        ),
    ):
        boto3.client("s3").create_bucket(Bucket="restarting")
        store = opening.open_folder("s3://restarting")
        store.put("a", b"1")
        first.stop()
        # Longer than a client waits that never had an answer.
        starter = threading.Timer(3, again.start)
        starter.start()
        assert store.get("a") == b"1"
        starter.join()
        again.stop()


def test_says_where_credentials_come_from() -> None:
    """Without any, the library asks a server that only clouds have."""
    with (
        object_stores.impatient(),
        object_stores.environment(
            AWS_ENDPOINT_URL=f"http://{_REFUSED}",
            AWS_SHARED_CREDENTIALS_FILE="/nowhere",
        ),
    ):
        store = opening.open_folder("s3://bucket/folder")
        message = _message(lambda: store.get("a"), folder.StoreRefusedError)
    assert "no credentials for s3://bucket/folder/a" in message
    assert "AWS_ACCESS_KEY_ID" in message


def test_takes_the_keys_of_a_profile(
    bucket: str, tmp_path: pathlib.Path
) -> None:
    """Boto's file of keys works, which obstore doesn't read itself."""
    path = tmp_path / "credentials"
    path.write_text(
        "[shop]\naws_access_key_id = a\naws_secret_access_key = b%c\n"
        "[role]\nrole_arn = arn\n"
    )
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    common = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_SHARED_CREDENTIALS_FILE": str(path),
    }
    with object_stores.environment(AWS_PROFILE="shop", **common):
        opening.open_folder(bucket).put("profile", b"1")
    with object_stores.environment(AWS_PROFILE="role", **common):
        store = opening.open_folder(bucket)
        message = _message(
            lambda: store.get("profile"), folder.StoreRefusedError
        )
    assert "profile 'role'" in message


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "No permission for s3://b/k"),
        (403, "SignatureDoesNotMatch", "does not accept the credentials"),
        (404, "XAdminUserNotFound", "does not accept the credentials"),
        (400, "ExpiredToken", "does not accept the credentials"),
        (301, "PermanentRedirect", "Set AWS_REGION"),
    ],
)
def test_tells_refusals(status: int, code: str, said: str) -> None:
    """Answers that no server at hand gives; as obstore words them."""
    error = Exception(
        "Generic S3 error: Error performing GET https://s3.example/b/k in 2ms "
        f"- Server returned non-2xx status code: {status} X: <?xml?>\n"
        f"<Error><Code>{code}</Code><Message>No.</Message></Error>\n\n"
        "Debug source:\nGeneric {"
    )
    told = s3_errors.told(error, "s3://b/k")
    assert isinstance(told, PermissionError)
    assert said in str(told) and f"({code}: No)" in str(told)


def test_tells_that_removing_is_not_allowed() -> None:
    """Objects are removed by a request for many, with an answer of its own."""
    error = Exception(
        "Generic S3 error: DeleteObjects request failed for key a: Access "
        "Denied. (code: AccessDenied)\n\nDebug source:\nGeneric {"
    )
    told = s3_errors.told(error, "s3://b/a")
    assert isinstance(told, folder.StoreRefusedError)
    assert "No permission for s3://b/a (AccessDenied)" in str(told)


def test_names_that_are_paths_are_refused(bucket: str) -> None:
    """S3 has objects of such names; the library can't ask for them."""
    for key in ("a//b", "../a", "./a"):
        with pytest.raises(ValueError, match="without empty parts"):
            opening.open_folder(bucket).get(key)
    with pytest.raises(ValueError, match="Expected a bucket in the URL"):
        opening.open_folder("s3://")


def test_a_file_that_changes_is_not_read_on(bucket: str) -> None:
    """Half of one version and half of the next is no record file."""
    store = opening.open_folder(bucket)
    store.put("changing", bytes(20 << 20))
    with store.open("changing") as file:
        file.read(1)
        store.put("changing", b"1" * (20 << 20))
        file.seek(15 << 20)
        message = _message(lambda: file.read(1), OSError)
    assert "changing has changed while it was read" in message


def test_an_upload_that_fails_leaves_nothing(
    bucket: str, tmp_path: pathlib.Path
) -> None:
    """Whole or not at all, as on a disk."""
    store = opening.open_folder(bucket)
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "missing", "uploaded")
    assert not store.exists("uploaded")


def test_does_not_hang_after_a_fork(bucket: str) -> None:
    """obstore would; a sentence says what to do instead."""
    store = opening.open_folder(bucket)
    store.put("a", b"1")
    child = os.fork()
    if not child:
        try:
            store.get("a")
        except RuntimeError as error:
            os._exit(7 if "spawn" in str(error) else 8)
        finally:
            os._exit(9)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended and os.waitstatus_to_exitcode(status) == 7
