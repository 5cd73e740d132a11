"""The recognition service as one process: its parts, its start, its end."""

import argparse
import asyncio
import contextlib
import functools
import io
import logging
import pathlib
import signal
import socket
from collections.abc import Callable

import PIL.Image
import uvicorn

from sicot_tf.data import generations
from sicot_tf.recognition import app
from sicot_tf.recognition import embedded_server
from sicot_tf.recognition import events
from sicot_tf.recognition import limits
from sicot_tf.recognition import live_release
from sicot_tf.recognition import metrics
from sicot_tf.recognition import model_server
from sicot_tf.recognition import open_release
from sicot_tf.recognition import pictures
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import release_check
from sicot_tf.recognition import settings
from sicot_tf.recognition import variants
from sicot_tf.recognition import visitors
from sicot_tf.recognition import wishes
from sicot_tf.recognition.service import Limits
from sicot_tf.recognition.service import Service

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
        live = await _make_live(arguments, server, counters, change_versions)
        stack.callback(live.close)
        parts = Service(
            live=live,
            server=server,
            pictures=pictures.Pictures(_catalogue_root(arguments), keys.secret),
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
            visitors=_make_visitors(arguments, stack),
        )
        await _serve(parts, listener, stop, arguments)


def _catalogue_root(arguments: argparse.Namespace) -> pathlib.Path | None:
    if arguments.catalogue_root or not arguments.product_index:
        return arguments.catalogue_root
    found = pictures.find_root(
        generations.resolve_generation(arguments.product_index)
    )
    if found:
        _log.info("Pictures of the catalogue are read from %s.", found)
    return found


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


async def _make_live(
    arguments: argparse.Namespace,
    server: model_server.ModelServer,
    counters: metrics.Metrics,
    change_versions: Callable[[open_release.Models], None] | None,
) -> live_release.LiveRelease:
    """The release that flags name, or the folder of releases."""

    def report(name: str, outcome: str) -> None:
        counters.count_release(outcome)
        if outcome == "live":
            with live.acquire() as release:
                counters.set_live(release)

    options = {
        "wait_until_available": functools.partial(_wait, server),
        "warm_up": functools.partial(_warm_up, server),
        "change_versions": change_versions,
        "report": report,
    }
    if arguments.releases:
        live = live_release.LiveRelease(arguments.releases, **options)
        return live
    base_path, name, version = await _find_model(arguments, server)
    chosen = settings.RecognitionSettings()
    if arguments.settings:
        chosen = settings.read(arguments.settings)
    live = live_release.fixed(
        generations.resolve_generation(arguments.product_index),
        model_base_path=base_path,
        model_version=version,
        model_name=name,
        settings=chosen,
        **options,
    )
    return live


async def _find_model(
    arguments: argparse.Namespace, server: model_server.ModelServer
) -> tuple[pathlib.Path, str, int]:
    """Base path, name and version of `--model`."""
    given = arguments.model
    if not arguments.model_server:
        folder = release_check.newest_version(given)
        return folder.parent, folder.resolve().parent.name, int(folder.name)
    if given.name.isdecimal():
        return given.parent, given.parent.name, int(given.name)
    versions = await server.versions(given.name)
    if not versions:
        raise ValueError(
            f"The model server {server.address} has no model {given.name!r}. "
            "Expected --model NAME or NAME/VERSION as the server names it."
        )
    return given, given.name, max(versions)


async def _wait(
    server: model_server.ModelServer, name: str, version: int, timeout: float
) -> None:
    """Returns once the model server has a version.

    Raises:
        TimeoutError: if it does not get it.
    """
    try:
        async with asyncio.timeout(timeout):
            while True:
                with contextlib.suppress(model_server.ModelServerError):
                    if version in await server.versions(name):
                        return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(
            f"The model server has no version {version} of {name} after "
            f"{timeout:g} s."
        ) from error


async def _warm_up(
    server: model_server.ModelServer, release: open_release.OpenRelease
) -> None:
    """Recognises a grey picture, through all stages."""
    output = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "grey").save(output, "JPEG")
    await pipeline.recognise(
        output.getvalue(),
        wishes.Wishes(),
        release=release,
        server=server,
        picture_url=lambda *_: None,
        request_id="warm-up",
        variant="",
    )


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
    serving = asyncio.create_task(http.serve([listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not service.live.is_ready and not stop.is_set():
            if not arguments.releases and service.live.fault:
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
        following.cancel()
        stopping.cancel()
        await asyncio.wait({following, stopping})
