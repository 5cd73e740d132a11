"""Keeps a sample of the requests and their answers as TFRecords.

The records are `tensorflow.serving.PredictionLog`, the form of warm-up
files: a handful of them, put into a version's `assets.extra`, warms up the
next version with real requests.
"""

import logging
import pathlib
import queue
import random
import re
import threading
import time
from collections.abc import Callable

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

_log = logging.getLogger(__name__)
# Photos of some megabytes wait here while the disk is slow.
_MAX_PENDING_RECORDS = 1000
_MAX_PENDING_BYTES = 256 * 2**20
_MAX_FILE_BYTES = 64 * 2**20
_MAX_FILES = 100
# A crash in native code loses no more than this.
_FLUSH_SECONDS = 1.0
_SECONDS_BETWEEN_MESSAGES = 60.0


class RequestLog:
    """Writes in a thread of its own; a request neither waits nor fails.

    Files are `requests-000001.tfrecord` and so on, in a folder of this server
    alone. The one that is written to has a name that starts with a dot. After
    100 files of 64 MiB the oldest is removed.

    Args:
        directory: made if it isn't there; OSError if it can't be.
        sampling_rate: share of the requests that is kept, 0 to 1.
        record: called with model name and status code name for each record
            that was written (`OK`), or not: `RESOURCE_EXHAUSTED` if too many
            wait, `UNKNOWN` if the disk is to blame.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        sampling_rate: float,
        record: Callable[[str, str], None] = lambda *_: None,
    ):
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._sampling_rate = sampling_rate
        self._record = record
        self._queue = queue.Queue()
        self._lock = threading.Lock()
        self._pending_bytes = 0
        self._writer = None
        self._num_bytes = 0
        self._last_message = -_SECONDS_BETWEEN_MESSAGES
        self._next_flush = 0.0
        self._keep_unfinished_files()
        self._thread = threading.Thread(
            target=self._run, name="request_log", daemon=True
        )
        self._thread.start()

    def sample(self) -> bool:
        """Whether this request is one to keep; ask before making a log."""
        return random.random() < self._sampling_rate

    def write(self, log: prediction_log_pb2.PredictionLog) -> None:
        """Takes `log`, which nobody may change from now on; never waits.

        Its `log_metadata.model_spec` names the model.
        """
        num_bytes = log.ByteSize()
        with self._lock:
            is_full = (
                self._queue.qsize() >= _MAX_PENDING_RECORDS
                or self._pending_bytes + num_bytes > _MAX_PENDING_BYTES
            )
            if not is_full:
                self._pending_bytes += num_bytes
                self._queue.put((log, num_bytes))
        if is_full:
            self._record(_model_name(log), "RESOURCE_EXHAUSTED")

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Writes what waits, at most for this time, and ends the file."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        """Body of the thread."""
        while True:
            try:
                item = self._queue.get(timeout=_FLUSH_SECONDS)
            except queue.Empty:
                self._attempt(self._flush)
                continue
            if item is None:
                self._attempt(self._end_file)
                return
            log, num_bytes = item
            code_name = self._attempt(lambda: self._write_record(log))
            with self._lock:
                self._pending_bytes -= num_bytes
            self._record(_model_name(log), code_name)

    def _attempt(self, action: Callable[[], None]) -> str:
        """Runs `action`; a full disk is told now and then, and survived."""
        try:
            action()
        except (OSError, tf.errors.OpError) as error:
            self._writer = None
            now = time.monotonic()
            if now - self._last_message >= _SECONDS_BETWEEN_MESSAGES:
                self._last_message = now
                _log.error(
                    "Can't write the request log %s: %s Requests are served "
                    "all the same.",
                    self._directory,
                    error,
                )
            return "UNKNOWN"
        return "OK"

    def _write_record(self, log: prediction_log_pb2.PredictionLog) -> None:
        log.log_metadata.sampling_config.sampling_rate = self._sampling_rate
        record = log.SerializeToString()
        if self._writer is None:
            self._keep_unfinished_files()
            self._path = self._next_path()
            self._temporary = self._path.with_name(f".{self._path.name}")
            self._writer = tf.io.TFRecordWriter(str(self._temporary))
            self._num_bytes = 0
        self._writer.write(record)
        self._num_bytes += len(record)
        if self._num_bytes >= _MAX_FILE_BYTES:
            self._end_file()
        elif time.monotonic() >= self._next_flush:
            self._flush()

    def _flush(self) -> None:
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        if self._writer is not None:
            self._writer.flush()

    def _end_file(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        writer.close()
        self._temporary.rename(self._path)
        for path in self._complete_files()[:-_MAX_FILES]:
            path.unlink(missing_ok=True)

    def _complete_files(self) -> list[pathlib.Path]:
        """The oldest first."""
        paths = self._directory.iterdir()
        return sorted(filter(_number, paths), key=_number)

    def _next_path(self) -> pathlib.Path:
        number = max(map(_number, self._directory.iterdir()), default=0) + 1
        return self._directory / f"requests-{number:06d}.tfrecord"

    def _keep_unfinished_files(self) -> None:
        """Names what a server that crashed left; its last record may be cut."""
        for path in sorted(self._directory.glob(".requests-*.tfrecord")):
            path.rename(self._next_path())


def _number(path: pathlib.Path) -> int:
    """Of a complete file; 0 for any other."""
    match = re.fullmatch(r"requests-(\d{6,})\.tfrecord", path.name)
    return int(match[1]) if match else 0


def _model_name(log: prediction_log_pb2.PredictionLog) -> str:
    return log.log_metadata.model_spec.name
