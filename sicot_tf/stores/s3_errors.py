"""What goes wrong on S3, as one sentence that says what to do."""

import errno
import os
import re

from sicot_tf.stores import folder

_KEYS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if "
    "they are temporary)"
)
# Of AWS, and of versitygw.
_BAD_KEYS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidClientTokenId",
    "XAdminUserNotFound",
)
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
_OTHER_REGION = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
# Where the library looks for keys if the environment has none.
_KEY_SERVERS = ("/latest/api/token", "/latest/meta-data", "169.254.170.")


class NothingInRangeError(OSError):
    """The file ends before the bytes that were asked for."""


class OtherVersionError(OSError):
    """The file is not, or not as, the request demands."""


def told(error: Exception, url: str) -> OSError:
    """An error of the library as one of ours, for whoever reads it.

    Args:
        error: what the library raised: the first line tells, dozens more are
            meant for its authors.
        url: of what was asked for.
    """
    text = str(error).partition("\n\nDebug source")[0]
    status = int(_found(r"status code: (\d+)", text) or 0)
    # In brackets where one of many objects could not be removed.
    code = _found(r"<Code>(\w+)</Code>", text) or _found(
        r"\(code: (\w+)\)", text
    )
    message = _found(r"<Message>(.*?)</Message>", text)
    said = ": ".join(filter(None, (code, message)))
    said = said or (f"status {status}" if status else _last_words(text))
    said = said.rstrip(". ")
    server = _found(r"Error performing [\w ]+? (\w+://[^/\s]+)", text)
    bucket = "/".join(url.split("/")[:3])
    if any(each in text for each in _KEY_SERVERS):
        return folder.StoreRefusedError(
            f"There are no credentials for {url}. Set {_KEYS}, name a profile "
            "by AWS_PROFILE, or run where the machine has a role."
        )
    if code in _NO_BUCKET:
        return folder.StoreRefusedError(
            # Stands in rejects, which are equal for all names of a server.
            f"There is no bucket {bucket}. Make it first, name another one, "
            "or check AWS_ENDPOINT_URL."
        )
    if code in _BAD_KEYS:
        return folder.BadKeysError(
            f"{server} does not accept the credentials for {url} ({said}). "
            f"Check {_KEYS}."
        )
    if code in _OTHER_REGION or status in (301, 307):
        return folder.StoreRefusedError(
            f"The bucket {bucket} seems to be in another region ({said}). Set "
            "AWS_REGION to it."
        )
    if status in (401, 403) or code == "AccessDenied":
        # Answers without a body don't tell one from the other.
        check = "" if code else f"Check {_KEYS}. "
        return folder.StoreRefusedError(
            f"No permission for {url} ({said}). {check}Allow these "
            "credentials to list the bucket and to read there, and to write "
            "and to delete where the output goes."
        )
    if status == 412 or type(error).__name__ in (
        "AlreadyExistsError",
        "PreconditionError",
    ):
        return OtherVersionError(f"{url}: {said}.")
    if status == 416:
        return NothingInRangeError(f"{url}: {said}.")
    if status == 404 and code in ("", "NoSuchKey"):
        # As of a disk.
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    if isinstance(error, OSError) and not server:
        return error  # Of a file on this machine.
    if status and status < 500:
        return folder.StoreError(
            f"{server} can't do what was asked for {url} ({said})."
        )
    where = server or "the server"
    return folder.StoreError(
        f"Could not reach {where} for {url} ({said}). Check that it runs, the "
        "network and AWS_ENDPOINT_URL, then start again."
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    return match[1] if match else ""


def _last_words(text: str) -> str:
    return text.partition("\n")[0].rpartition(" - ")[2].strip()[:200]
