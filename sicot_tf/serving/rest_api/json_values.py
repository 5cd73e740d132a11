"""JSON documents of TensorFlow Serving's REST interface, and single values.

Rules, codes and texts of errors are those of json_tensor.cc in TensorFlow
Serving.
"""

import binascii
import codecs
import contextlib
import json
import re
from typing import Any

import numpy as np
import orjson
import rapidjson
import tensorflow as tf
from tensorflow.core.framework import types_pb2

# A parser or printer that calls itself for each level runs out of stack on a
# document of nothing but brackets (CVE-2025-0649 of TensorFlow Serving).
MAX_DEPTH = 64
FLOATS = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)

_MAX_TEXT_BYTES = 256
# To the end of the document if the quotation mark is missing; nothing is
# tried twice, so that no document takes more than linear time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)(=*)")
_CPP_NAMES = {"float32": "float", "float64": "double", "float16": "half"}
_MORE_VALUES = "The document root must not be followed by other values."


class DoesNotFit(Exception):
    """A value can't be what is wanted; somebody else tells why."""


def invalid(text: str) -> tf.errors.InvalidArgumentError:
    """The error of almost everything that is wrong in a document."""
    return tf.errors.InvalidArgumentError(None, None, text)


def format_error(value: Any, text: str) -> tf.errors.InvalidArgumentError:
    """An error that begins with the value it is about."""
    return invalid(f"JSON Value: {to_text(value)} {text}")


def parse(body: bytes, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """The JSON object at the beginning of `body`, which is UTF-8.

    A byte order mark before it is skipped, as RapidJSON's EncodedInputStream
    does; bytes behind it are not looked at.

    Raises:
        tf.errors.InvalidArgumentError: if it is none, or has more than
            `max_depth` brackets open at a time.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    _check_depth(body, max_depth)
    try:
        # Exact, and three times as fast; but NaN is an error for it.
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_as_rapidjson(body)
    if type(document) is not dict:
        raise format_error(document, "Is not object")
    return document


def fill_signature_name(document: dict[str, Any], request: Any) -> None:
    """Writes the wanted signature, if there is one, to `model_spec`."""
    name = document.get("signature_name", "")
    if type(name) is not str:
        raise format_error(
            document,
            "not formatted correctly. 'signature_name' key must be a string "
            "value.",
        )
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

    Raises:
        DoesNotFit: if it is another object, or no base64.
    """
    if type(value) is str:
        return value.encode("utf-8")
    if not is_base64(value):
        raise DoesNotFit
    text = value["b64"]
    if len(text) % 4 == 0:
        with contextlib.suppress(ValueError):
            return binascii.a2b_base64(text, strict_mode=True)
    return _to_bytes_leniently(text)


def to_text(value: Any) -> str:
    """`value` for an error: printed, and cut to 256 bytes."""
    # In pieces: of a document of megabytes only the beginning is printed.
    pieces = json.JSONEncoder(ensure_ascii=False, indent=4).iterencode(value)
    text = ""
    for piece in pieces:
        text += piece[:_MAX_TEXT_BYTES]
        if len(text) >= _MAX_TEXT_BYTES:
            break
    return text.encode("utf-8")[:_MAX_TEXT_BYTES].decode("utf-8", "ignore")


def type_text(value: Any) -> str:
    """RapidJSON's name for the type of a value."""
    if value is None or type(value) is bool:
        return "Null" if value is None else str(value)
    return {dict: "Object", list: "Array", str: "String"}.get(
        type(value), "Number"
    )


def datatype_name(datatype: int) -> str:
    """The name of an element of DataType in TensorFlow's own errors."""
    name = tf.as_dtype(datatype).name
    return _CPP_NAMES.get(name, name)


def _check_depth(body: bytes, max_depth: int) -> None:
    """Raises if the document has more brackets open at a time than allowed."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = np.frombuffer(
        _STRING.sub(b"", body).translate(None, _ALL_BUT_BRACKETS), np.uint8
    )
    # One bit tells "]" and "}" from "[" and "{".
    steps = 1 - (brackets & 4).astype(np.int8) // 2
    depths = np.cumsum(steps, dtype=np.int64)
    ends = np.flatnonzero(depths <= 0)
    # Behind its last bracket nothing is parsed.
    if depths[: ends[0] if len(ends) else None].max(initial=0) > max_depth:
        raise invalid(
            f"JSON Parse error: The document is nested deeper than {max_depth} "
            "levels."
        )


def _parse_as_rapidjson(body: bytes) -> Any:
    """Any value, NaN and Infinity too; or TensorFlow Serving's error.

    TensorFlow Serving's own parser is RapidJSON with native numbers. Here they
    tell only whether all is well: a quarter of them is wrong in the last bits.
    """
    num_good_bytes = _num_good_bytes(body)
    document = body[:num_good_bytes]
    try:
        rapidjson.loads(
            document, number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN
        )
        return rapidjson.loads(document, number_mode=rapidjson.NM_NAN)
    except rapidjson.JSONDecodeError as error:
        # RapidJSON: "Parse error at offset 1: Invalid value."
        place, text = str(error).split(": ", 1)
        offset = int(place.rsplit(" ", 1)[1])
    if text == _MORE_VALUES:
        # Bytes, too; and once more only: what is left is a document.
        return _parse_as_rapidjson(document[:offset])
    if num_good_bytes < len(body):
        text = "Invalid encoding in string."
        offset = num_good_bytes
    raise invalid(f"JSON Parse error: {text} at offset: {offset}")


def _num_good_bytes(body: bytes) -> int:
    """The number of bytes before the first that is not UTF-8."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _to_bytes_leniently(text: str) -> bytes:
    """As absl::Base64Unescape: white space anywhere, padding or none."""
    match = _BASE64.fullmatch("".join(text.split()))
    if match is None or len(match[1]) % 4 == 1:
        raise DoesNotFit
    padding = -len(match[1]) % 4
    if len(match[2]) not in (0, padding):
        raise DoesNotFit
    return binascii.a2b_base64(match[1] + padding * "=")
