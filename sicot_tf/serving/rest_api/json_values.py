"""JSON documents of TensorFlow Serving's REST interface, and single values.

What is read, and the codes of errors, are those of its json_tensor.cc.
"""

import binascii
import codecs
import contextlib
import itertools
import json
import math
from typing import Any

import orjson
from tensorflow.core.framework import types_pb2

from sicot_tf.serving import errors

# What is nested deeper has crashed servers (CVE-2025-0649 of TensorFlow
# Serving).
MAX_DEPTH = 64
FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
# Range of the literals. As in TensorFlow Serving the narrow types take any
# int32, of which TensorFlow keeps the low bits.
_INT32 = (-(2**31), 2**31 - 1)
INTEGERS = {
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}

_MAX_TEXT_LENGTH = 256


def parse(body: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object at the beginning of `body`, which is UTF-8.

    A byte order mark before it is skipped; bytes behind it are not looked at.

    Raises:
        tf.errors.InvalidArgumentError: if it is none, or has more than
            `max_depth` brackets open at a time.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        # Three times as fast; but NaN is an error for it.
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            document = _parse_leniently(body)
        # Of orjson.dumps a TypeError.
        except (ValueError, TypeError) as error:
            raise errors.invalid(f"JSON Parse error: {error}") from None
        except RecursionError:
            raise _too_deep(max_depth) from None
    if type(document) is not dict:
        raise about(document, "Is not object")
    _check_depth(body, document, max_depth)
    return document


def about(value: Any, text: str) -> Exception:
    """The error of a value, which it begins with, cut to 256 characters."""
    # In pieces: of a document of megabytes only the beginning is printed.
    pieces = json.JSONEncoder(ensure_ascii=False).iterencode(value)
    start = "".join(itertools.islice(pieces, _MAX_TEXT_LENGTH))
    return errors.invalid(f"JSON Value: {start[:_MAX_TEXT_LENGTH]} {text}")


def fill_signature_name(document: dict[str, Any], request: Any) -> None:
    """Writes the wanted signature, if there is one, to `model_spec`."""
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise about(document, "'signature_name' key must be a string value.")
    request.model_spec.signature_name = name


def is_base64(value: Any) -> bool:
    """Whether `value` is `{"b64": "..."}` and nothing more."""
    return (
        type(value) is dict
        and len(value) == 1
        and type(value.get("b64")) is str
    )


def to_bytes(value: str | dict[str, Any]) -> bytes:
    """UTF-8 of a string; of base64 what it stands for.

    White space may be anywhere in base64, and padding may be left out.
    """
    if type(value) is str:
        return value.encode("utf-8")
    if not is_base64(value):
        raise about(value, "not formatted correctly for base64 data")
    text = value["b64"]
    with contextlib.suppress(ValueError):
        return binascii.a2b_base64(text, strict_mode=True)
    text = "".join(text.split()).rstrip("=")
    try:
        return binascii.a2b_base64(
            text + "=" * (-len(text) % 4), strict_mode=True
        )
    except ValueError:
        raise errors.invalid("Unable to base64 decode") from None


def _parse_leniently(body: bytes) -> Any:
    """With NaN and Infinity, and any bytes behind the document."""
    text = body.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    decoder = json.JSONDecoder(parse_float=_finite, parse_int=_integer)
    document, _ = decoder.raw_decode(text)
    # Refuses strings that were no UTF-8, and halves of characters.
    orjson.dumps(document)
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number too large: {text[:30]}")
    return value


def _integer(text: str) -> int | float:
    """As orjson: what 64 bits do not hold is a decimal."""
    if len(text) > 20:
        return _finite(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else float(value)


def _check_depth(body: bytes, document: Any, max_depth: int) -> None:
    """Raises if the document has more brackets open at a time than allowed."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    level = [document]
    for _ in range(max_depth):
        children = list(
            itertools.chain.from_iterable(
                each.values() if type(each) is dict else each for each in level
            )
        )
        if {dict, list}.isdisjoint(map(type, children)):
            return
        level = [child for child in children if type(child) in (dict, list)]
    raise _too_deep(max_depth)


def _too_deep(max_depth: int) -> Exception:
    return errors.invalid(
        f"JSON Parse error: The document is nested deeper than {max_depth} "
        "levels."
    )
