"""The workers meet, then TensorFlow connects them."""

import contextlib
import faulthandler
import logging
import socket
import time

import tensorflow as tf

from sicot_tf import exit_codes
from sicot_tf.workers import cluster

_SECONDS_BETWEEN_MESSAGES = 10
_log = logging.getLogger(__name__)


def make_strategy(
    start_timeout: float = 300,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of every run; without `TF_CONFIG` it is one worker.

    Returns when all workers have started. Late ones are named every 10 s;
    after `start_timeout` seconds this process ends with
    `exit_codes.START_AGAIN`.

    Ring collectives over gRPC work on any machine, NCCL only between GPUs,
    so the choice is left to TensorFlow where there are GPUs.

    Raises:
        ValueError: if `TF_CONFIG` is broken or there are several GPUs.
        OSError: if this worker's port is taken.
    """
    gpus = tf.config.get_visible_devices("GPU")
    if len(gpus) > 1:
        raise ValueError(
            f"Expected one GPU a worker, this process sees {len(gpus)}. Start "
            "one worker for each GPU, with CUDA_VISIBLE_DEVICES=0, 1, ..."
        )
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.AUTO if gpus else implementation.RING
    )
    if cluster.num_workers() > 1:
        # TensorFlow 2.21 would wait for late workers without a word and
        # without an end (seen: 7 minutes), and holds Python's lock meanwhile:
        # no thread and no signal handler runs. So the workers meet here first.
        _meet(start_timeout)
        # Reached only if a worker is lost at this moment.
        faulthandler.dump_traceback_later(start_timeout, exit=True, file=2)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=options
        )
    finally:
        faulthandler.cancel_dump_traceback_later()


def _meet(start_timeout: float) -> None:
    """Returns when all workers listen, this one in place of its server."""
    started = said = time.monotonic()
    me = f"worker {cluster.worker_index()} of {cluster.num_workers()}"
    with _listen(cluster.addresses()[cluster.worker_index()]) as listener:
        listener.setblocking(False)
        while late := cluster.unreachable():
            with contextlib.suppress(BlockingIOError):
                # Otherwise the queue of the others' probes would fill up.
                while True:
                    listener.accept()[0].close()
            now = time.monotonic()
            waited = f"{now - started:.0f} of {start_timeout:.0f} s"
            names = cluster.named(late)
            if now - started >= start_timeout:
                _log.error(
                    "%s: gave up after %s: no answer from %s. Start all "
                    "workers again, or wait longer with --start_timeout. Ends "
                    "with exit code %d.",
                    *(me, waited, names, exit_codes.START_AGAIN),
                )
                raise SystemExit(exit_codes.START_AGAIN)
            if now - said >= _SECONDS_BETWEEN_MESSAGES:
                said = now
                _log.warning(
                    "%s: waiting, %s: no answer yet from %s", me, waited, names
                )
            time.sleep(0.2)


def _listen(address: str) -> socket.socket:
    """A socket that listens on the port of an address."""
    port = int(address.rsplit(":", 1)[1])
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
        )
    except OSError as error:
        raise OSError(
            f"Worker {cluster.worker_index()} cannot listen on port {port} "
            f"({error}). Does it run already, or does another worker have "
            "this index?"
        ) from error
