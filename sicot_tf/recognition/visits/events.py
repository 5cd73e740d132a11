"""What visitors did: the contract of an event, and a log of JSON Lines.

Nothing that tells who a visitor is has a field: no address, no user agent, no
picture (section 4.4.4 of the paper counts visitors, and needs no more).
"""

import dataclasses
import datetime
import json
import logging
import os
import pathlib
import re
import threading
import time as clocks
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from sicot_tf.recognition.visits import event_files

_log = logging.getLogger(__name__)
KINDS = ("visit", "impression", "click", "trade")
# Ids and variants: without `@`, `:` and `/` no e-mail, IPv6 address or URL.
NAME = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
# An IPv4 address, also with other signs for its dots.
_ADDRESS = re.compile(r"(\d{1,3}[-_.~]){3}\d{1,3}")
_MAX_TEXT = 256
# Of one page of results.
_MAX_SHOWN = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that one visitor did, or was shown, at one time.

    Attributes:
        event_id: unique; what is sent twice is counted once.
        time: when it happened, in UTC.
        event: `visit` (opened the page), `impression` (was shown an answer),
            `click` (on a product of an answer) or `trade` (bought).
        visitor: an opaque id, see `variants.new_visitor`.
        variant: what the visitor was given, see `variants.assign`.
        request_id: of the answer; None if there is none.
        sku_id: shown, clicked or bought.
        recognised: whether the answer was sure; None if unknown.
        model_version: of the answer.
        index_generation: of the answer.
        product_id: clicked or bought.
        position: place of the product among the similar ones, from 1; of an
            impression, that of the first of `shown`.
        shown: product ids of similar products, as they stood there; another
            page of them is another impression.
        robot: whether it seems to be none of a person's.
    """

    event_id: str
    time: datetime.datetime
    event: str
    visitor: str
    variant: str
    request_id: str | None = None
    sku_id: str | None = None
    recognised: bool | None = None
    model_version: int | None = None
    index_generation: str | None = None
    product_id: str | None = None
    position: int | None = None
    shown: tuple[str, ...] | None = None
    robot: bool = False

    def to_json(self) -> str:
        """One line without its end; what is None is left out."""
        row = {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        row["time"] = self.time.isoformat().replace("+00:00", "Z")
        return json.dumps(row, ensure_ascii=True, separators=(",", ":"))


def parse(row: Mapping[str, Any]) -> Event:
    """Checks a JSON object; fields outside of the contract are dropped.

    Raises:
        ValueError: in one sentence, which never repeats the visitor.
    """
    if not isinstance(row, Mapping):
        raise ValueError(
            "Expected an event as a JSON object, received "
            f"{type(row).__name__}."
        )
    if (kind := row.get("event")) not in KINDS:
        raise ValueError(
            f"Expected `event` to be one of {', '.join(KINDS)}, "
            f"received {kind!r:.40}."
        )
    return Event(
        event_id=_name(row, "event_id"),
        time=_time(row.get("time")),
        event=kind,
        visitor=_visitor(row),
        variant=_name(row, "variant"),
        request_id=_optional(row, "request_id", str),
        sku_id=_optional(row, "sku_id", str),
        recognised=_optional(row, "recognised", bool),
        model_version=_optional(row, "model_version", int),
        index_generation=_optional(row, "index_generation", str),
        product_id=_optional(row, "product_id", str),
        position=_position(row),
        shown=_shown(row),
        robot=_optional(row, "robot", bool) or False,
    )


def _time(value: Any) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(value)
        # Without an offset nobody knows which day it was.
        if time.tzinfo is not None:
            return time.astimezone(datetime.UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(
        "Expected `time` in ISO 8601 with its offset, as "
        f"2026-11-27T22:04:05.678Z, received {value!r:.40}."
    )


def _visitor(row: Mapping[str, Any]) -> str:
    value = row.get("visitor")
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(
            "Expected `visitor` to be an opaque id of 1 to 64 letters, digits, "
            "_, -, . and ~, received something else (an e-mail or network "
            "address is none); send a random id instead."
        )
    if _ADDRESS.fullmatch(value):
        raise ValueError(
            "Expected `visitor` to be an opaque id, received what looks like "
            "a network address; send a random id instead."
        )
    return value


def _name(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(
            f"Expected `{field}` of 1 to 64 letters, digits, _, -, . and ~, "
            f"received {value!r:.40}."
        )
    return value


def _position(row: Mapping[str, Any]) -> int | None:
    position = _optional(row, "position", int)
    if position is None or position >= 1:
        return position
    raise ValueError(
        f"Expected `position` to be 1 or more, or absent, received {position}."
    )


def _shown(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = row.get("shown")
    if value is None or (
        isinstance(value, list)
        and 0 < len(value) <= _MAX_SHOWN
        and all(
            isinstance(each, str) and 0 < len(each) <= _MAX_TEXT
            for each in value
        )
    ):
        return None if value is None else tuple(value)
    raise ValueError(
        f"Expected `shown` to be a list of 1 to {_MAX_SHOWN} product ids of 1 "
        f"to {_MAX_TEXT} characters or absent, received {value!r:.40}."
    )


def _optional(row: Mapping[str, Any], field: str, kind: type) -> Any:
    value = row.get(field)
    # Not `isinstance`: True is an int.
    if value is None or (
        type(value) is kind
        and (kind is not str or 0 < len(value) <= _MAX_TEXT)
        and (kind is not int or abs(value) < 2**63)
    ):
        return value
    expected = {
        str: f"a text of 1 to {_MAX_TEXT} characters",
        bool: "true or false",
        int: "a whole number of 64 bits",
    }
    raise ValueError(
        f"Expected `{field}` to be {expected[kind]} or absent, "
        f"received {value!r:.40}."
    )


class EventLog:
    """Appends events; for any number of threads, never fails a request.

    Args:
        folder: made if absent; several processes may share it.
        max_bytes: from which on a file is finished before its hour ends.
        keep_days: finished files of longer ago are removed; None keeps all.
        clock: seconds since 1970.

    Attributes:
        num_dropped: events that the disk did not take.

    Raises:
        OSError: if the folder can't be made or written.
        ValueError: for bytes or days below 1.
    """

    def __init__(
        self,
        folder: pathlib.Path | str,
        *,
        max_bytes: int = 64 << 20,
        keep_days: int | None = 30,
        clock: Callable[[], float] = clocks.time,
    ):
        if max_bytes < 1 or (keep_days is not None and keep_days < 1):
            raise ValueError(
                "Expected max_bytes and keep_days of 1 or more, received "
                f"{max_bytes} and {keep_days}."
            )
        self.num_dropped = 0
        self._folder = pathlib.Path(folder)
        self._max_bytes = max_bytes
        self._keep_days = keep_days
        self._clock = clock
        self._lock = threading.Lock()
        self._file, self._warned = None, ""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(
                "Expected a folder for events that this process may write, "
                f"received {self._folder}."
            )
        event_files.finish_left_open(self._folder)
        self._remove_old()

    def write(self, event: Event) -> bool:
        """Appends one line; False if the disk did not take it."""
        line = f"{event.to_json()}\n".encode("ascii")
        with self._lock:
            try:
                self._rotate()
                if self._file is None:
                    hour = event_files.hour_of(self._clock())
                    self._file = event_files.OpenFile(self._folder, hour)
                self._file.append(line)
            except OSError as error:
                self.num_dropped += 1
                self._warn(error)
                return False
        return True

    def rotate(self) -> None:
        """Finishes a file whose hour is over or that is full.

        Each `write` does; call it now and then where hours pass without one.
        """
        with self._lock:
            try:
                self._rotate()
            except OSError as error:
                self._warn(error)

    def close(self) -> None:
        """Finishes the file; a later `write` starts another one."""
        with self._lock:
            try:
                self._finish()
            except OSError as error:
                self._warn(error)

    def _rotate(self) -> None:
        hour = event_files.hour_of(self._clock())
        if self._file and (
            self._file.hour != hour or self._file.size >= self._max_bytes
        ):
            self._finish()
            self._remove_old()

    def _finish(self) -> None:
        if self._file:
            # If this fails, the next process finishes it.
            file, self._file = self._file, None
            file.finish()

    def _remove_old(self) -> None:
        if self._keep_days is not None:
            seconds = self._clock() - self._keep_days * 86_400
            hour = event_files.hour_of(seconds)
            event_files.remove_before(self._folder, hour)

    def _warn(self, error: OSError) -> None:
        hour = event_files.hour_of(self._clock())
        # One an hour: a full disk must not fill the log as well.
        if hour != self._warned:
            self._warned = hour
            _log.warning(
                "Events can't be written to %s, %d are dropped so far: %s",
                *(self._folder, self.num_dropped, error),
            )
