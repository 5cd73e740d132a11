"""What goes wrong on Cloud Storage, as one sentence that says what to do."""

import errno
import os

import requests
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions

from sicot_tf.stores import folder


class NothingInRangeError(OSError):
    """The file ends before the bytes that were asked for."""


class OtherVersionError(OSError):
    """The file is not, or not as, the request demands."""


def missing(url: str) -> FileNotFoundError:
    """As of a disk."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)


def no_bucket(url: str) -> folder.StoreRefusedError:
    """For a bucket that is not there."""
    return folder.StoreRefusedError(
        f"There is no bucket {'/'.join(url.split('/')[:3])}. Make it first, or "
        "name another one."
    )


def told(error: Exception, url: str) -> OSError:
    """An error of the library as one of ours, for whoever reads it.

    Args:
        error: what the library raised.
        url: of what was asked for.
    """
    said = " ".join(str(getattr(error, "message", "") or error).split())
    said = said.rstrip(". ")[:300]
    if isinstance(error, exceptions.PreconditionFailed):
        return OtherVersionError(f"{url}: {said}.")
    if isinstance(error, exceptions.RequestRangeNotSatisfiable):
        return NothingInRangeError(f"{url}: {said}.")
    if isinstance(error, auth_exceptions.DefaultCredentialsError):
        return folder.StoreRefusedError(
            f"There are no credentials for {url}. Set "
            "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, "
            "run `gcloud auth application-default login`, or run where the "
            "machine has a service account."
        )
    if isinstance(
        error,
        exceptions.Unauthorized
        | auth_exceptions.RefreshError
        | auth_exceptions.MalformedError,
    ):
        return folder.BadKeysError(
            f"Google does not accept the credentials for {url} ({said}). Check "
            "GOOGLE_APPLICATION_CREDENTIALS, or log in again."
        )
    if isinstance(error, exceptions.Forbidden):
        return folder.StoreRefusedError(
            f"No permission for {url} ({said}). Allow these credentials to "
            "list the bucket and to read there, and to write and to delete "
            "where the output goes."
        )
    if isinstance(error, exceptions.ClientError) and not isinstance(
        error, exceptions.TooManyRequests
    ):
        return folder.StoreError(
            f"Cloud Storage can't do what was asked for {url} ({said})."
        )
    if isinstance(error, OSError) and not isinstance(
        error, requests.RequestException | ConnectionError | TimeoutError
    ):
        return error  # Of a file on this machine.
    server = os.environ.get("STORAGE_EMULATOR_HOST", "Cloud Storage")
    return folder.StoreError(
        f"Could not reach {server} for {url} ({said}). Check that it runs, the "
        "network and STORAGE_EMULATOR_HOST, then start again."
    )
