"""What a stranger may ask of the service: keys, rate, size, number at a time.

A refusal is an `HTTPException` with the right code and one sentence.
"""

import asyncio
import contextlib
import hashlib
import hmac
import pathlib
from collections.abc import Iterator

import limits
from starlette import exceptions
from starlette import formparsers
from starlette import requests

from sicot_tf.recognition.stages import photos

# Of a form: its boundaries and its other fields.
_FORM_BYTES = 64 * 1024
_MAX_FIELDS = 20
_MIN_KEY = 16
_PHOTO_FIELD = "image"


def refusal(
    status: int, sentence: str, retry_after: int | None = None
) -> exceptions.HTTPException:
    """An exception that becomes an `answers.Refusal`."""
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return exceptions.HTTPException(status, sentence, headers)


class ApiKeys:
    """Keys that open /v1; none at all: it is open to everybody."""

    def __init__(self, keys: list[str]):
        # Of equal length, whatever the keys are.
        self._digests = [_digest(key) for key in keys]

    @property
    def secret(self) -> bytes:
        """The same in all processes that have the same keys."""
        return hashlib.sha256(b"".join(sorted(self._digests))).digest()

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, request: requests.HTTPConnection) -> str | None:
        """A name of the key that came, for its rate; None without keys.

        Raises:
            HTTPException: 401 if no key came or another one.
        """
        if not self._digests:
            return None
        given = request.headers.get("x-api-key")
        scheme, _, token = request.headers.get("authorization", "").partition(
            " "
        )
        if given is None and scheme.lower() == "bearer":
            given = token.strip()
        if given is None:
            raise refusal(
                401,
                "Expected an API key in the header X-Api-Key or as "
                "Authorization: Bearer KEY.",
            )
        digest = _digest(given)
        # All are compared: the time tells nothing of the place.
        if not sum(hmac.compare_digest(digest, each) for each in self._digests):
            raise refusal(401, "The API key is not known here.")
        return digest.hex()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_api_keys(path: pathlib.Path) -> ApiKeys:
    """A key a line; empty lines and those that start with # are none.

    Raises:
        ValueError: if there is none, or one that can be guessed.
        OSError: if the file can't be read.
    """
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(
            f"Expected a key a line in {path}, received none. Make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    for key in keys:
        if len(key) < _MIN_KEY or not key.isascii() or " " in key:
            raise ValueError(
                f"Expected keys of {_MIN_KEY} or more ASCII characters without "
                f"spaces in {path}, received one of {len(key)}."
            )
    return ApiKeys(keys)


class RateLimit:
    """So many requests a minute for each key or, without keys, each peer."""

    def __init__(self, requests_per_minute: int):
        """0: no limit."""
        self._limit = None
        if requests_per_minute:
            self._limit = limits.RateLimitItemPerMinute(requests_per_minute)
            self._limiter = limits.strategies.SlidingWindowCounterRateLimiter(
                limits.storage.MemoryStorage()
            )

    def check(self, request: requests.HTTPConnection, key: str | None) -> None:
        """Counts a request.

        Raises:
            HTTPException: 429 if there were too many.
        """
        if self._limit is None:
            return
        who = key or (request.client.host if request.client else "")
        if not self._limiter.hit(self._limit, who):
            raise refusal(
                429,
                f"Expected at most {self._limit.amount} requests a minute, "
                "received more. Wait and try again.",
                retry_after=60 // self._limit.amount + 1,
            )


class Queue:
    """Photos that are worked on at a time; their bytes are in memory."""

    def __init__(self, max_length: int):
        self._max_length = max_length
        self.length = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Held while a request is under way.

        Raises:
            HTTPException: 503 if all places are taken.
        """
        if self.length >= self._max_length:
            raise refusal(
                503,
                f"{self.length} photos are being recognised, as many as at "
                "most may. Try again in a moment.",
                retry_after=1,
            )
        self.length += 1
        try:
            yield
        finally:
            self.length -= 1


async def read_upload(
    request: requests.Request, *, max_bytes: int, timeout_seconds: float
) -> tuple[bytes, dict[str, str]]:
    """The photo and the other fields of a form; of a raw body there are none.

    A body that is too long is refused as it arrives, also if it does not say
    its length or lies about it.

    Raises:
        HTTPException: 400 for a form that is none or has no photo, 408 if it
            comes too slowly, 413 if it is too long, 422 for a field twice.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            kind = request.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() == "multipart/form-data":
                return await _read_form(request, max_bytes)
            return await read_body(request, max_bytes), {}
    except TimeoutError as error:
        raise refusal(
            408,
            f"Expected the whole photo within {timeout_seconds:g} s. Send a "
            "smaller one, or try again.",
        ) from error


async def read_body(request: requests.Request, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413 if it is too long.
    """
    stream = _bounded(request, max_bytes, max_bytes)
    return b"".join([part async for part in stream])


async def _read_form(
    request: requests.Request, max_bytes: int
) -> tuple[bytes, dict[str, str]]:
    most = max_bytes + _FORM_BYTES
    parser = formparsers.MultiPartParser(
        request.headers,
        _bounded(request, most, max_bytes),
        max_files=1,
        max_fields=_MAX_FIELDS,
        max_part_size=_FORM_BYTES,
    )
    # In memory: the file system may be read-only.
    parser.spool_max_size = most
    try:
        form = await parser.parse()
    except (formparsers.MultiPartException, KeyError) as error:
        reason = getattr(error, "message", "it has no boundary")
        raise refusal(
            400, f"The form can't be read: {reason.rstrip('.')}."
        ) from error
    photo, fields = None, {}
    for name, value in form.multi_items():
        if name in fields or (name == _PHOTO_FIELD and photo is not None):
            raise refusal(422, f"Expected {name!r} once, received it twice.")
        if name != _PHOTO_FIELD:
            if not isinstance(value, str):
                raise refusal(
                    422,
                    f"Expected the photo in the field {_PHOTO_FIELD!r}, "
                    f"received a file in {name!r:.60}.",
                )
            fields[name] = value
        else:
            is_text = isinstance(value, str)
            photo = value.encode() if is_text else await value.read()
    await form.close()
    if photo is None:
        raise refusal(
            400,
            f"Expected the photo in the field {_PHOTO_FIELD!r} of the form.",
        )
    return photo, fields


async def _bounded(request: requests.Request, most: int, told: int):  # noqa: ANN202
    """The parts of a body, as long as they are not too many."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_long(told)
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise _too_long(told)
        yield part


def _too_long(max_bytes: int) -> exceptions.HTTPException:
    error = photos.too_many_bytes(max_bytes)
    return refusal(error.status, str(error))
