"""The client of an S3 bucket: one for each process.

Of the environment alone, as the store's own tools have it:

- AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; or a web
  identity, or the role of a container or a machine; or the keys of a profile
  (AWS_PROFILE) in AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials.
- AWS_REGION, AWS_DEFAULT_REGION.
- AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL for other servers than Amazon's.
"""

import configparser
import datetime
import functools
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any
from typing import TypeVar

from obstore import exceptions
from obstore import store

from sicot_tf.stores import folder

_Result = TypeVar("_Result")
# Until a server has answered once it may be one that never will: tell soon.
# Later, wait until it is there again: a long job should not end by it.
_HURRIED = {"connect": 4, "read": 5, "retry": 6}
_PATIENT = {"connect": 10, "read": 30, "retry": 90}
_KEYS_ELSEWHERE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Client:
    """Asks a bucket."""

    def __init__(self, bucket: str):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(
            "AWS_ENDPOINT_URL", ""
        )
        self._make = functools.partial(
            _store, bucket, endpoint.startswith("http://"), _profile_keys()
        )
        self._store = self._make(_HURRIED)
        self._is_patient = False
        self._lock = threading.Lock()
        self._process = os.getpid()

    def ask(self, request: Callable[[store.S3Store], _Result]) -> _Result:
        """What a request to the store gives.

        Raises:
            RuntimeError: in a process that was forked, where it would hang.
        """
        if os.getpid() != self._process:
            raise RuntimeError(
                "S3 was used before this process was forked, which its client "
                "doesn't survive. Start processes by spawn."
            )
        try:
            result = request(self._store)
        except (exceptions.BaseError, OSError) as error:
            if self._is_patient or "status code:" not in str(error):
                raise
            self._be_patient()
            if "status code: 5" not in str(error):
                raise
            return request(self._store)
        if not self._is_patient:
            self._be_patient()
        return result

    def _be_patient(self) -> None:
        with self._lock:
            if not self._is_patient:
                self._store = self._make(_PATIENT)
                self._is_patient = True


def client(bucket: str) -> Client:
    """The client of a bucket, which is kept."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("AWS_")
    }
    # Tests have one environment after the other.
    return _client(bucket, tuple(sorted(environment.items())))


@functools.lru_cache(maxsize=64)
def _client(bucket: str, environment: tuple[tuple[str, str], ...]) -> Client:
    return Client(bucket)


def _store(
    bucket: str,
    allow_http: bool,
    keys: dict[str, str],
    seconds: dict[str, int],
) -> store.S3Store:
    return store.S3Store(
        bucket,
        config=keys,
        client_options={
            "allow_http": allow_http,
            "connect_timeout": f"{seconds['connect']}s",
            # Of a request that gets no further; a long file may take long.
            "read_timeout": f"{seconds['read']}s",
            "timeout": "1h",
        },
        retry_config={
            "max_retries": 100,
            "retry_timeout": datetime.timedelta(seconds=seconds["retry"]),
            "backoff": {
                "init_backoff": datetime.timedelta(seconds=0.1),
                "max_backoff": datetime.timedelta(seconds=3),
                "base": 2,
            },
        },
    )


def _profile_keys() -> dict[str, str]:
    """Keys of a profile, which the library does not look for.

    Raises:
        StoreRefusedError: if the profile that is named has none.
    """
    if any(os.environ.get(name) for name in _KEYS_ELSEWHERE):
        return {}
    named = os.environ.get("AWS_PROFILE")
    place = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    path = pathlib.Path(place or "~/.aws/credentials").expanduser()
    profiles = configparser.RawConfigParser()
    try:
        profiles.read(path, encoding="utf-8")
    except (configparser.Error, OSError, ValueError) as error:
        raise folder.StoreRefusedError(
            f"Expected profiles in {path}, it can't be read: "
            f"{str(error).splitlines()[0]}. Mend it, or set AWS_ACCESS_KEY_ID."
        ) from error
    profile: Any = {}
    if profiles.has_section(named or "default"):
        profile = profiles[named or "default"]
    if "aws_access_key_id" in profile:
        token = profile.get("aws_session_token")
        return {
            "access_key_id": profile["aws_access_key_id"],
            "secret_access_key": profile.get("aws_secret_access_key", ""),
        } | ({"session_token": token} if token else {})
    if named:
        raise folder.StoreRefusedError(
            f"Expected aws_access_key_id of the profile {named!r} in {path}, "
            "found none; other kinds of profiles are not read. Set the keys: "
            "eval $(aws configure export-credentials --format env)."
        )
    return {}
