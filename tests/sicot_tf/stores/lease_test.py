"""Leases between processes, on an S3 server."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing import process

import pytest

from sicot_tf.stores import lease
from sicot_tf.stores import object_folder
from sicot_tf.stores import opening
from tests.helpers import object_stores

_KEY = "out/.work.lock"
# As short as a server that tells whole seconds allows.
_EXPIRES = 5.0


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_stores.s3_bucket() as url:
        yield url


@pytest.fixture
def store(
    bucket: str, request: pytest.FixtureRequest
) -> object_folder.ObjectFolder:
    return opening.open_folder(f"{bucket}/{request.node.name}")


def _hurry(seconds: float) -> None:
    lease.EXPIRES = seconds
    lease._RENEWED_EVERY = seconds / 10


@pytest.fixture
def hurried() -> Iterator[None]:
    kept = lease.EXPIRES, lease._RENEWED_EVERY
    _hurry(_EXPIRES)
    yield
    lease.EXPIRES, lease._RENEWED_EVERY = kept


def _hold(
    url: str, seconds: float, is_far: bool, told: connection.Connection
) -> None:
    """A builder: tells that it has the lease, and how its work has ended."""
    _hurry(seconds)
    if is_far:
        lease._machine = lambda: "another machine"
    with lease.hold(opening.open_folder(url), _KEY, "works in x") as held:
        told.send("holds")
        told.recv()
        try:
            held.check()
            told.send("well")
        except OSError as error:
            told.send(str(error))


def _start(
    store: object_folder.ObjectFolder, seconds: float, is_far: bool
) -> tuple[process.BaseProcess, connection.Connection]:
    ours, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(store), seconds, is_far, theirs), daemon=True
    )
    holder.start()
    assert ours.poll(60) and ours.recv() == "holds"
    return holder, ours


def test_a_second_builder_is_refused(
    store: object_folder.ObjectFolder, hurried: None
) -> None:
    """It is told who is at it; once that one has ended, it may begin."""
    holder, pipe = _start(store, _EXPIRES, is_far=True)
    # Longer than the lease lasts: it has to be renewed meanwhile.
    for _ in range(7):
        assert lease.is_held(store, _KEY)
        with (
            pytest.raises(lease.HeldError) as caught,
            lease.hold(store, _KEY, "works in x"),
        ):
            pass
        time.sleep(1)
    message = str(caught.value)
    assert message.startswith(
        f"Another process works in x (host {os.uname()[1]}"
    )
    assert f"process {holder.pid}," in message
    assert message.endswith("Wait until it has finished, or end it.")
    pipe.send("end")
    assert pipe.poll(60) and pipe.recv() == "well"
    holder.join(60)
    assert not lease.is_held(store, _KEY)
    with lease.hold(store, _KEY, "works in x") as held:
        held.check()
    # Nothing but the lease: no clocks.
    assert [each.key for each in store.list()] == [_KEY]


def test_a_killed_builder_of_this_machine_is_replaced_at_once(
    store: object_folder.ObjectFolder,
) -> None:
    """Whoever starts again after a kill should not wait for a minute."""
    holder, _ = _start(store, lease.EXPIRES, is_far=False)
    assert lease.is_held(store, _KEY)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(60)
    assert not lease.is_held(store, _KEY)
    with lease.hold(store, _KEY, "works in x"):
        assert lease.is_held(store, _KEY)


def test_a_killed_builder_of_another_machine_is_replaced_when_it_expires(
    store: object_folder.ObjectFolder, hurried: None
) -> None:
    """Of it nothing is known but its last sign of life."""
    holder, _ = _start(store, _EXPIRES, is_far=True)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(60)
    assert lease.is_held(store, _KEY)
    until = time.monotonic() + 30
    while lease.is_held(store, _KEY) and time.monotonic() < until:
        time.sleep(0.2)
    with lease.hold(store, _KEY, "works in x") as held:
        held.check()


def test_a_builder_that_was_stopped_learns_of_its_successor(
    store: object_folder.ObjectFolder, hurried: None
) -> None:
    """Else it removes, at its end, what its successor works with."""
    holder, pipe = _start(store, _EXPIRES, is_far=True)
    os.kill(holder.pid, signal.SIGSTOP)
    until = time.monotonic() + 30
    while lease.is_held(store, _KEY) and time.monotonic() < until:
        time.sleep(0.2)
    with lease.hold(store, _KEY, "works in x") as held:
        os.kill(holder.pid, signal.SIGCONT)
        pipe.send("end")
        assert pipe.poll(60)
        message = pipe.recv()
        assert "was taken over by another process" in message
        assert f"process {os.getpid()}" in message
        holder.join(60)
        # Nor has it released what was not its own any more.
        held.check()


def test_one_of_many_that_start_at_once(
    store: object_folder.ObjectFolder,
) -> None:
    """Create, and compare and swap, each let one win."""
    all_have_tried = threading.Barrier(6)

    def try_to_hold() -> bool:
        try:
            with lease.hold(store, _KEY, "works in x"):
                all_have_tried.wait(60)
                return True
        except lease.HeldError:
            all_have_tried.wait(60)
            return False

    for _ in range(2):  # The lease is absent first, then released.
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            tries = [pool.submit(try_to_hold) for _ in range(6)]
        assert sum(each.result() for each in tries) == 1
