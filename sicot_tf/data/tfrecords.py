"""The TFRecord format, with the offset of each record.

A record is its length (uint64), the length's checksum, the data, the data's
checksum; checksums are masked CRC-32C (tensorflow/core/lib/io/record_writer.h).
TensorFlow's own writer tells no offsets, and its readers need none.
"""

import pathlib
import struct
from collections.abc import Iterable

import google_crc32c
import numpy as np

_HEADER_BYTES = 12
_CHECKSUM_BYTES = 4


def write(path: pathlib.Path, examples: Iterable[bytes]) -> list[int]:
    """Writes a file; returns the byte offset of each record."""
    offsets = []
    with path.open("wb") as file:
        for example in examples:
            offsets.append(file.tell())
            length = struct.pack("<Q", len(example))
            file.write(length + _checksum(length))
            file.write(example)
            file.write(_checksum(example))
    return offsets


def read(content: np.ndarray, offset: int) -> bytes:
    """The record that starts at `offset`.

    Args:
        content: the file as uint8, usually a `np.memmap`.

    Raises:
        ValueError: if the checksum does not match.
    """
    (length,) = struct.unpack("<Q", content[offset : offset + 8])
    begin = offset + _HEADER_BYTES
    end = begin + length
    data = content[begin:end].tobytes()
    if content[end : end + _CHECKSUM_BYTES].tobytes() != _checksum(data):
        raise ValueError(f"The checksum of the record at byte {offset} is off.")
    return data


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)
