"""A folder on Cloud Storage.

Credentials as Google's own tools have them: GOOGLE_APPLICATION_CREDENTIALS,
those of `gcloud auth application-default login`, or of the machine. With
STORAGE_EMULATOR_HOST none are needed.
"""

import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import storage
from google.cloud.storage import retry as retries

from sicot_tf.stores import folder
from sicot_tf.stores import gcs_errors
from sicot_tf.stores import object_folder

_Result = TypeVar("_Result")
# As of S3: until there was one answer, then; seconds to connect, for the next
# bytes, and for all tries.
_HURRIED = ((4, 5), 6)
_PATIENT = ((10, 30), 90)
# Of a job, and some more.
_NUM_THREADS = 64
_ERRORS = (
    exceptions.GoogleAPIError,
    auth_exceptions.GoogleAuthError,
    requests.RequestException,
    OSError,
)


class GcsFolder(object_folder.ObjectFolder):
    """Objects of a bucket of Cloud Storage. Safe in threads."""

    @functools.cached_property
    def _client(self) -> "_Client":
        # Tests have one environment after the other.
        return _client(
            self._bucket,
            os.environ.get("STORAGE_EMULATOR_HOST"),
            os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"),
        )

    def _ask(
        self, name: str, request: Callable[[storage.Bucket, dict], _Result]
    ) -> _Result:
        """What the store answers; what it complains of in a sentence."""
        url = self._url(name)
        try:
            return self._client.ask(request)
        except exceptions.NotFound as error:
            if not self._client.has_bucket():
                raise gcs_errors.no_bucket(url) from error
            raise gcs_errors.missing(url) from error
        except _ERRORS as error:
            raise gcs_errors.told(error, url) from error

    def get(self, key: str) -> bytes:
        """The content of a file."""
        return self._download(self._name(key))

    def _download(self, name: str, **what: Any) -> bytes:
        return self._ask(
            name,
            lambda bucket, patience: bucket.blob(name).download_as_bytes(
                # As stored, also where it is said to be packed.
                raw_download=True,
                **what,
                **patience,
            ),
        )

    def _begin(self, name: str) -> bytes | tuple[int, str]:
        begin = self._read(name, 0, object_folder.SMALL, None)
        if len(begin) < object_folder.SMALL:
            return begin
        blob = self._blob(name)
        if blob is None:
            raise gcs_errors.missing(self._url(name))
        return blob.size, str(blob.generation)

    def _read(
        self, name: str, start: int, length: int, version: str | None
    ) -> bytes:
        what = {"start": start, "end": start + length - 1}
        if version:
            what["if_generation_match"] = int(version)
        try:
            return self._download(name, **what)
        except gcs_errors.NothingInRangeError:
            return b""
        except gcs_errors.OtherVersionError as error:
            raise OSError(
                f"{self._url(name)} has changed while it was read. Start again."
            ) from error

    def put(self, key: str, content: bytes) -> None:
        """Writes a file."""
        self._put(key, content)

    def create(self, key: str, content: bytes) -> bool:
        """Writes a file that is not there yet."""
        return self._put(key, content, if_generation_match=0)

    def replace(self, key: str, content: bytes, version: str) -> bool:
        """Writes a file if its version is still the one given."""
        return self._put(key, content, if_generation_match=int(version))

    def _put(self, key: str, content: bytes, **condition: int) -> bool:
        name = self._name(key)
        try:
            self._ask(
                name,
                lambda bucket, patience: bucket.blob(name).upload_from_string(
                    content, **condition, **patience
                ),
            )
        except gcs_errors.OtherVersionError:
            try:
                return self.get(key) == content
            except FileNotFoundError:
                return False
        return True

    def version(self, key: str) -> str | None:
        """The generation."""
        blob = self._blob(self._name(key))
        return None if blob is None else str(blob.generation)

    def _blob(self, name: str) -> storage.Blob | None:
        return self._ask(
            name,
            lambda bucket, patience: bucket.get_blob(name, **patience),
        )

    def _objects(
        self, prefix: str, is_deep: bool
    ) -> Iterator[tuple[str, folder.Entry]]:
        pages = self._ask(
            prefix,
            lambda bucket, patience: (
                bucket.list_blobs(
                    prefix=prefix,
                    delimiter=None if is_deep else "/",
                    fields="items(name,size,updated,generation),nextPageToken",
                    **patience,
                ).pages
            ),
        )
        while page := self._ask(prefix, lambda *_: next(pages, None)):
            for blob in page:
                yield (
                    blob.name,
                    folder.Entry(
                        blob.name,
                        blob.size,
                        blob.updated.timestamp(),
                        str(blob.generation),
                    ),
                )

    def delete(self, key: str) -> None:
        """Removes a file."""
        name = self._name(key)
        try:
            self._ask(
                name,
                lambda bucket, patience: bucket.blob(name).delete(**patience),
            )
        except FileNotFoundError:
            pass

    def delete_all(self, prefix: str = "") -> None:
        """Removes all files whose key starts with `prefix`, many at once."""
        with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
            for _ in pool.map(
                self.delete, [each.key for each in self.list(prefix)]
            ):
                pass

    def upload(self, path: pathlib.Path, key: str) -> None:
        """Writes a file; it is there once all of it has arrived."""
        name = self._name(key)
        self._ask(
            name,
            lambda bucket, patience: bucket.blob(name).upload_from_filename(
                str(path), **patience
            ),
        )


class _Client:
    """Asks a bucket."""

    def __init__(self, bucket: str):
        # The project matters only to who makes buckets.
        client = storage.Client(project=None)
        adapter = requests.adapters.HTTPAdapter(
            pool_connections=_NUM_THREADS, pool_maxsize=_NUM_THREADS
        )
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, adapter)
        self._bucket = client.bucket(bucket)
        self._has_bucket = False
        self._patience = _HURRIED

    def ask(
        self, request: Callable[[storage.Bucket, dict], _Result]
    ) -> _Result:
        """What a request gives; gets how long to wait as well."""
        try:
            result = request(self._bucket, self._how_long())
        except exceptions.ClientError:
            self._patience = _PATIENT
            raise
        except exceptions.ServerError:
            if self._patience is _PATIENT:
                raise
            self._patience = _PATIENT
            return request(self._bucket, self._how_long())
        self._patience = _PATIENT
        return result

    def _how_long(self) -> dict[str, Any]:
        timeout, tries = self._patience
        # Also what changes something: to do it twice does no harm here.
        return {
            "timeout": timeout,
            "retry": retries.DEFAULT_RETRY.with_delay(
                initial=0.2, maximum=5
            ).with_timeout(tries),
        }

    def has_bucket(self) -> bool:
        """Whether there is one: not all answers tell."""
        if not self._has_bucket:
            try:
                self.ask(
                    lambda bucket, patience: list(
                        bucket.list_blobs(max_results=1, **patience)
                    )
                )
                self._has_bucket = True
            except exceptions.NotFound:
                return False
            except _ERRORS:  # Who may read need not be allowed to list.
                return True
        return True


@functools.lru_cache(maxsize=64)
def _client(bucket: str, *environment: str | None) -> _Client:
    return _Client(bucket)
