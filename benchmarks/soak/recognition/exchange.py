"""A request, byte by byte, and what may answer it."""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

# May stand for "closed without an answer" among the allowed statuses.
CLOSED = 0
MAX_BYTES = 200_000
BOUNDARY = b"2f7c1e"
FORM = b"multipart/form-data; boundary=" + BOUNDARY
RECOGNIZE = b"/v1/recognize"
SEARCH = b"/v1/search"


@dataclasses.dataclass(frozen=True)
class World:
    """What the service knows.

    Attributes:
        photos: good ones.
        sku_ids: of the catalogue.
        pictures: URLs that the service gave out.
        queries: of results that it gave out.
    """

    photos: Sequence[bytes]
    sku_ids: Sequence[str]
    pictures: Sequence[str]
    queries: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Bytes to send, and the statuses that may answer them.

    Attributes:
        kind: for the table.
        is_http: whether it is a request that reaches the application; others
            may be answered by the server in front of it, in its own words.
        half_close: the client stops sending at once.
        check: gets the body of a 200.
    """

    kind: str
    request: bytes
    statuses: frozenset[int]
    is_http: bool = True
    half_close: bool = False
    check: Callable[[bytes], None] | None = None

    @property
    def method(self) -> str:
        """For the reader of the answer: HEAD has no body."""
        return self.request.partition(b" ")[0].decode("latin-1")


def http(method=b"POST", path=RECOGNIZE, body=b"", headers=()):
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: localhost"]
    names = {name.lower() for name, _ in headers}
    if not names & {b"content-length", b"transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def part(header: bytes, content: bytes) -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + header + b"\r\n\r\n" + content + b"\r\n"


def field(name: bytes, content: bytes, filename: bytes | None = None):
    header = b'Content-Disposition: form-data; name="' + name + b'"'
    if filename is not None:
        header += b'; filename="' + filename + b'"'
    return part(header, content)


def form(*parts: bytes, end: bytes = b"--" + BOUNDARY + b"--\r\n") -> bytes:
    body = b"".join(parts) + end
    return http(body=body, headers=[(b"Content-Type", FORM)])


def chunked(body: bytes, path: bytes = RECOGNIZE, headers=()) -> bytes:
    size = max(1, len(body) // 3)
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (
            body[start : start + size] for start in range(0, len(body), size)
        )
    )
    headers = [(b"Transfer-Encoding", b"chunked"), *headers]
    return http(path=path, headers=headers) + chunks + b"0\r\n\r\n"
