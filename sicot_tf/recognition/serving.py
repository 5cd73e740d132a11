"""The recognition service as one process: its parts, its start, its end."""

import argparse
import asyncio
import contextlib
import logging
import signal
import socket

import PIL.Image
import uvicorn

from sicot_tf.recognition import embedded_server
from sicot_tf.recognition import model_server
from sicot_tf.recognition import release_sources
from sicot_tf.recognition import settings
from sicot_tf.recognition import upkeep
from sicot_tf.recognition.http import app
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.http import visitors
from sicot_tf.recognition.http.service import Limits
from sicot_tf.recognition.http.service import Service
from sicot_tf.recognition.stages import pictures
from sicot_tf.recognition.visits import events
from sicot_tf.recognition.visits import variants

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
# An idle connection of a load balancer: longer than the 600 s of Google Cloud.
_KEEP_ALIVE_SECONDS = 620
_HEADER_BYTES = 32 * 1024
_LOOPBACK = ("localhost", "::1", "127.")


async def run(arguments: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        arguments: the parsed flags of `sicot_tf.recognize`.

    Raises:
        OSError: if the port is taken or a file can't be read.
        ValueError: if model, index or keys are none.
    """
    # Pillow's own limit; photos are checked by --max_pixels.
    PIL.Image.MAX_IMAGE_PIXELS = None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        keys = limits.ApiKeys([])
        if arguments.api_keys:
            keys = limits.read_api_keys(arguments.api_keys)
        elif not arguments.host.startswith(_LOOPBACK):
            _log.warning(
                "--host %s: whoever reaches this machine may ask. Give "
                "--api_keys, or see that only a proxy reaches it.",
                arguments.host,
            )
        listener = stack.enter_context(_listen(arguments.host, arguments.port))
        queue = limits.Queue(arguments.max_queue)
        counters = metrics.Metrics(lambda: queue.length)
        change_versions, address = None, arguments.model_server
        if not address:
            embedded = embedded_server.EmbeddedServer(
                on_death=counters.count_restart
            )
            stack.push_async_callback(embedded.stop)
            change_versions, address = embedded.serve, embedded.address
        server = model_server.ModelServer(
            address, timeout=arguments.timeout_seconds
        )
        stack.push_async_callback(server.close)
        people = _make_visitors(arguments, stack)
        live = await release_sources.find(
            arguments, people.shares, server, counters, change_versions
        )
        stack.callback(live.close)
        parts = Service(
            live=live,
            server=server,
            pictures=pictures.Pictures(arguments.catalogue_root, keys.secret),
            keys=keys,
            limits=Limits(
                max_bytes=arguments.max_bytes,
                max_pixels=arguments.max_pixels,
                max_queue=arguments.max_queue,
                timeout_seconds=arguments.timeout_seconds,
                requests_per_minute=arguments.requests_per_minute,
            ),
            queue=queue,
            counters=counters,
            visitors=people,
            by_quality=not arguments.by_similarity,
        )
        await _serve(parts, listener, stop, arguments)


def _make_visitors(
    arguments: argparse.Namespace, stack: contextlib.AsyncExitStack
) -> visitors.Visitors:
    """Raises ValueError for variants that are none."""
    log = None
    if arguments.events:
        log = events.EventLog(
            arguments.events, keep_days=arguments.keep_event_days or None
        )
        stack.callback(log.close)
    shares = visitors.ONLY_VARIANT
    if arguments.variants:
        shares = variants.parse_shares(arguments.variants)
    changed = {}
    for text in arguments.variant_settings:
        name, _, path = text.partition("=")
        if name not in shares or not path:
            raise ValueError(
                "Expected --variant_settings VARIANT=FILE of one of the "
                f"--variants {sorted(shares)}, received {text!r}."
            )
        changed[name] = settings.read(path)
    return visitors.Visitors(log, shares, arguments.variant_salt, changed)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(
            (host, port), family=family, backlog=2048
        )
        # Its connections take this over. asyncio sets it only where a socket
        # names its protocol, which those of `create_server` do not; without
        # it a body waits up to 40 ms for the ACK of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise OSError(
            f"{host} port {port} can't be listened on: {error.strerror}. Give "
            "another --port; 0 takes a free one."
        ) from error


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to `run`, which has more to end."""

    @contextlib.contextmanager
    def capture_signals(self):  # noqa: ANN201
        yield


async def _serve(
    service: Service,
    listener: socket.socket,
    stop: asyncio.Event,
    arguments: argparse.Namespace,
) -> None:
    http = _Uvicorn(
        uvicorn.Config(
            app.make(service),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            # An upload and its answer.
            timeout_graceful_shutdown=int(2 * arguments.timeout_seconds) + 1,
        )
    )
    following = asyncio.create_task(service.live.follow())
    keeping = asyncio.create_task(
        upkeep.run(service.live, service.visitors.log)
    )
    serving = asyncio.create_task(http.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not service.live.is_ready and not stop.is_set():
            if service.live.fault:
                raise ValueError(service.live.fault)
            await asyncio.wait({stopping, serving}, timeout=_POLL_SECONDS)
        if not stop.is_set():
            host, port = listener.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            print(f"Open http://{host}:{port}/", flush=True)
        await asyncio.wait(
            {stopping, serving}, return_when=asyncio.FIRST_COMPLETED
        )
        service.is_draining = True
        if stop.is_set():
            # A second signal ends the wait.
            stop.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), arguments.drain_seconds)
    finally:
        http.should_exit = True
        await serving
        tasks = {following, keeping, stopping}
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
