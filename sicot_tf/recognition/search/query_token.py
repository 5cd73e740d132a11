"""What was looked for, as a text: every replica can go on without memory.

A tag of the model that embedded it, the category that its results were
narrowed to, and the embedding in float16, as URL-safe base64.
"""

import base64
import binascii
import dataclasses
import math
import struct

import numpy as np

_TAG_BYTES = 8
_LENGTH = struct.Struct("<H")
_HALF = np.dtype("<f2")
# The largest embedding that is expected: 4,096 numbers, and a category.
MAX_CHARACTERS = 14_000
# float16 moves a length of 1 by less.
_TOLERANCE = 0.01


class TokenError(ValueError):
    """A token that is not answered.

    Attributes:
        status: code of HTTP: 409 for one of another model, 422 for none.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        vector: `[dim]` float32 of length 1.
        category: what the results were narrowed to; None: to nothing.
    """

    vector: np.ndarray
    category: str | None


def rounded(vector: np.ndarray) -> np.ndarray:
    """The vector that `decode` gives for this one: `[dim]` of length 1."""
    told = vector.astype(_HALF).astype(np.float32)
    return told / np.float32(_length(told))


def direction(vector: np.ndarray | None) -> np.ndarray | None:
    """`rounded` of a vector of any length; None for one without direction."""
    length = 0.0 if vector is None else _length(vector)
    if not 0 < length < math.inf:
        return None
    return rounded(np.float32(vector / length))


def _length(vector: np.ndarray) -> float:
    # Squares of numbers that are no embedding leave float32.
    return float(np.linalg.norm(vector.astype(np.float64)))


def encode(query: Query, model_sha256: str) -> str:
    """The token of a query; `decode` gives the vector but for its rounding."""
    category = (query.category or "").encode("utf-8", "surrogatepass")
    data = (
        _tag(model_sha256)
        + _LENGTH.pack(len(category))
        + category
        + query.vector.astype(_HALF).tobytes()
    )
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode(token: str, model_sha256: str, dim: int) -> Query:
    """What a token says.

    Args:
        model_sha256: of the model whose embeddings are searched.
        dim: of these.

    Raises:
        TokenError: if it is none, or one of another model.
    """
    if len(token) > MAX_CHARACTERS or not token.isascii():
        raise _no_token()
    try:
        padded = token + "=" * (-len(token) % 4)
        data = base64.b64decode(padded, b"-_", validate=True)
        tag, rest = data[:_TAG_BYTES], data[_TAG_BYTES:]
        (length,) = _LENGTH.unpack_from(rest)
        end = _LENGTH.size + length
        category = rest[_LENGTH.size : end].decode("utf-8", "surrogatepass")
        vector = np.frombuffer(rest[end:], _HALF).astype(np.float32)
    except (binascii.Error, struct.error, ValueError) as error:
        raise _no_token() from error
    if tag != _tag(model_sha256):
        raise TokenError(
            409,
            "The query is of another model than the one in use now. Send the "
            "photo again.",
        )
    length = _length(vector)
    if len(vector) != dim or not abs(length - 1) < _TOLERANCE:
        raise _no_token()
    return Query(vector / np.float32(length), category or None)


def _tag(model_sha256: str) -> bytes:
    return bytes.fromhex(model_sha256)[:_TAG_BYTES].ljust(_TAG_BYTES, b"\0")


def _no_token() -> TokenError:
    return TokenError(
        422,
        "Expected query as an answer's search.query gives it, received "
        "something else. Send the photo again.",
    )
