"""Record files cut into ranges that workers read independently.

JSON Lines are cut at line ends, Parquet between row groups. CSV can't be cut,
as a quoted cell may hold line ends, and what gzip or a text of 16-bit units
holds neither: one worker reads such a file.
"""

import codecs
import collections
import concurrent.futures
import dataclasses
import io
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

from beam_jobs.records import parquet_rows
from beam_jobs.records import raw_records
from beam_jobs.records import record_files

# Of a file of JSON Lines, and of the row groups of a Parquet file.
RANGE_BYTES = 64 << 20
_NUM_THREADS = 16
_BUFFER_BYTES = 1 << 20
# A line end in them may be part of something else.
_NOT_CUT = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")


@dataclasses.dataclass(frozen=True)
class FileRange:
    """A piece of a record file.

    Attributes:
        number: its place among all ranges of all files.
        file: the record file.
        start: first byte, or row group.
        stop: the byte, or row group, behind it; None for the end.
    """

    number: int
    file: record_files.RecordFile
    start: int = 0
    stop: int | None = None


def plan(
    files: Sequence[record_files.RecordFile],
    encoding: str,
    range_bytes: int = RANGE_BYTES,
) -> list[FileRange]:
    """The ranges of all files, in the order of their rows.

    Raises:
        ValueError: if a file can't be opened.
    """
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        cuts = list(
            pool.map(lambda file: _cuts(file, encoding, range_bytes), files)
        )
    pieces = [
        (file, start, stop)
        for file, of_file in zip(files, cuts, strict=True)
        for start, stop in zip(of_file[:-1], of_file[1:], strict=True)
    ]
    return [FileRange(i, *piece) for i, piece in enumerate(pieces)]


def _cuts(
    file: record_files.RecordFile, encoding: str, range_bytes: int
) -> list[int | None]:
    """Where the ranges of a file begin, and the end of the last one."""
    with (
        record_files.naming(file.path),
        record_files.open_file(file.path) as stream,
    ):
        if file.path.endswith(".parquet"):
            metadata = parquet_rows.open_file(stream).metadata
            cuts, size = [0], 0
            for group in range(metadata.num_row_groups):
                if size >= range_bytes:
                    cuts.append(group)
                    size = 0
                size += metadata.row_group(group).total_byte_size
            return [*cuts, metadata.num_row_groups]
        if file.path.endswith(".jsonl") and _can_be_cut(encoding):
            num_bytes = stream.seek(0, io.SEEK_END)
            return [*range(0, max(1, num_bytes), range_bytes), None]
    return [0, None]


def _can_be_cut(encoding: str) -> bool:
    name = codecs.lookup(encoding).name.replace("_", "-")
    return not name.replace("-jp", "").startswith(_NOT_CUT)


class RowReader:
    """Reads the rows of a range, and counts as it goes.

    Attributes:
        num_lines: lines (in Parquet: rows) of the range, once it is read.
        unknown_fields: in how many rows each field outside `fields` stands.
    """

    def __init__(
        self, file_range: FileRange, *, encoding: str, fields: Collection[str]
    ):
        self.num_lines = 0
        self.unknown_fields = collections.Counter()
        self._range = file_range
        self._encoding = encoding
        self._fields = fields

    def __iter__(self) -> Iterator[tuple[int, Any, str]]:
        """As `raw_records.read_rows`, with lines counted from the range's."""
        file = self._range.file
        with (
            record_files.naming(file.path),
            record_files.open_file(file.path) as stream,
        ):
            groups = lines = None
            if file.path.endswith(".parquet"):
                groups = range(self._range.start, self._range.stop)
            elif self._range.start or self._range.stop is not None:
                lines = _Lines(stream, self._range.start, self._range.stop)
                stream = io.BufferedReader(lines, _BUFFER_BYTES)
            rows = raw_records.read_rows(
                stream,
                file.name,
                encoding=self._encoding,
                fields=self._fields,
                needed=raw_records.NEEDED,
                unknown=self.unknown_fields,
                row_groups=groups,
            )
            for line, row, content in rows:
                # Blank lines at the end count where something follows.
                self.num_lines = line
                yield line, row, content
            if lines is not None:
                self.num_lines = lines.num_lines


class _Lines(io.RawIOBase):
    """The lines of a stream that begin in a range of its bytes.

    Attributes:
        num_lines: of those read so far.
    """

    def __init__(self, stream: BinaryIO, start: int, stop: int | None):
        super().__init__()
        self.num_lines = 0
        self._stream = stream
        self._stop = stop
        self._at = 0
        self._rest = b""
        if start:
            # The line that the byte before the range belongs to.
            stream.seek(start - 1)
            self._at = start - 1 + len(stream.readline())

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Part of reading."""
        if not self._rest:
            self._rest = self._read(len(buffer))
            self.num_lines += self._rest.count(b"\n")
        piece = self._rest[: len(buffer)]
        self._rest = self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def _read(self, size: int) -> bytes:
        if self._stop is None:
            return self._stream.read(size)
        left = self._stop - self._at
        if left <= 0:
            return b""
        piece = self._stream.read(min(size, left))
        self._at += len(piece)
        # A line that begins in the range belongs to it as a whole.
        if self._at == self._stop and not piece.endswith(b"\n"):
            piece += self._stream.readline()
        return piece
