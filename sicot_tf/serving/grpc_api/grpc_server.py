"""The gRPC side of the model server: ports, TLS, health, reflection."""

import logging
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import errors
from sicot_tf.serving import server_core
from sicot_tf.serving.grpc_api import services

# Of each message that is none it logs a traceback: a client could fill a disk.
logging.getLogger("grpc._common").setLevel(logging.CRITICAL)

# Requests that wait for a thread; more are RESOURCE_EXHAUSTED, not memory.
_MAX_WAITING_CALLS = 1000
_MAX_UNSEEN_CALLS = 100_000
# Longer than the way to a client and back, also if either has no processor
# for a while; in all what a caller who ignores health may notice.
_QUIET_SECONDS = 0.1
_MAX_HOLD_SECONDS = 0.5
# "" stands for the whole server; the other two are TensorFlow Serving's.
_HEALTH_NAMES = ("", "ModelService", "PredictionService")
_SERVICE_NAMES = (
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
    health.SERVICE_NAME,
    reflection.SERVICE_NAME,
)


class GrpcServer:
    """TensorFlow Serving's services, health and reflection on gRPC.

    Args:
        core: answers the requests.
        num_threads: requests that run at the same time.
        channel_arguments: options of gRPC, before those set here.
    """

    def __init__(
        self,
        core: server_core.ServerCore,
        *,
        num_threads: int,
        channel_arguments: dict[str, int | str] | None = None,
    ):
        options = {
            "grpc.max_receive_message_length": -1,
            "grpc.max_send_message_length": -1,
            # A second server on the port is a mistake, not a load balancer.
            "grpc.so_reuseport": 0,
            # Above 1000 that Python has not seen yet gRPC ends calls with
            # CANCELLED; `maximum_concurrent_rpcs` says RESOURCE_EXHAUSTED.
            "grpc.server.max_pending_requests": _MAX_UNSEEN_CALLS,
            "grpc.server.max_pending_requests_hard_limit": _MAX_UNSEEN_CALLS,
        } | (channel_arguments or {})
        self._threads = _Threads(num_threads, "grpc")
        self._server = grpc.server(
            self._threads,
            options=list(options.items()),
            maximum_concurrent_rpcs=num_threads + _MAX_WAITING_CALLS,
        )
        servicer = services.Services(core)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            servicer, self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            servicer, self._server
        )
        self._streams = _Streams()
        self._health = _HealthService(self._streams)
        for name in _HEALTH_NAMES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            _ReflectionService(self._streams), self._server
        )

    def listen(
        self, address: str, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Binds an address; returns the port.

        Raises:
            RuntimeError: if it can't be had.
        """
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            # gRPC's own text asks for a debug log to tell the same.
            raise RuntimeError(
                f"Failed to bind to address {address}: another program has "
                "it, or this one may not."
            ) from error

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def drain(self) -> None:
        """Answers NOT_SERVING from now on; requests are still taken."""
        self._health.enter_graceful_shutdown()

    def stop(self, grace_seconds: float) -> Callable[[float], bool]:
        """Takes no more requests; returns what waits for running ones.

        A call that comes between the server's stop and the client's notice of
        it ends with CANCELLED (https://github.com/grpc/grpc/issues/41785). So
        answers are held meanwhile: who waits for one sends no other call, and
        reads the notice before the answer.
        """
        self._threads.hold()
        ended = self._server.stop(grace_seconds)
        time.sleep(_QUIET_SECONDS)
        self._threads.release()
        # Who watches would do so for ever.
        self._streams.cancel()
        return ended.wait


def parse_channel_arguments(text: str) -> dict[str, int | str]:
    """Reads `--grpc_channel_arguments`: `key=value,key=value`."""
    values = {}
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator or not key:
            raise errors.invalid(
                "Expected --grpc_channel_arguments of the form "
                f"key=value,key=value, received {text!r}"
            )
        is_integer = re.fullmatch("-?[0-9]+", value)
        values[key] = int(value) if is_integer else value
    return values


class _Threads(futures.ThreadPoolExecutor):
    """Threads that can be kept from beginning a call."""

    def __init__(self, num_threads: int, name: str):
        super().__init__(num_threads, name)
        self._may_begin = threading.Event()
        self._may_begin.set()
        self._last_call = 0.0

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> futures.Future:
        """As that of its base class."""
        self._last_call = time.monotonic()

        def run() -> Any:
            self._may_begin.wait()
            return function(*arguments, **options)

        return super().submit(run)

    def hold(self) -> None:
        """Calls wait from now on; returns when, perhaps, no more come.

        Those that have begun go on.
        """
        self._may_begin.clear()
        start = now = time.monotonic()
        while now < start + _MAX_HOLD_SECONDS and (
            now < max(start, self._last_call) + _QUIET_SECONDS
        ):
            time.sleep(0.01)
            now = time.monotonic()

    def release(self) -> None:
        """Those that wait begin."""
        self._may_begin.set()


class _Streams:
    """Calls that end when the caller wants; a server that stops can't wait."""

    def __init__(self):
        self._lock = threading.Lock()
        self._contexts = []

    def add(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            active = [each for each in self._contexts if each.is_active()]
            self._contexts = [*active, context]

    def cancel(self) -> None:
        for context in self._contexts:
            context.cancel()


class _HealthService(health.HealthServicer):
    """Watching clients take no thread."""

    def __init__(self, streams: _Streams):
        self._streams = streams
        super().__init__(
            experimental_non_blocking=True,
            experimental_thread_pool=futures.ThreadPoolExecutor(1, "health"),
        )

    def Watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: Callable[..., None],
    ) -> None:
        """Tells the state now and at each change."""
        self._streams.add(context)
        super().Watch(request, context, send_response_callback)


class _Pool:
    """All descriptors of the process, to be found by methods' names too.

    protobuf's C pool finds the file of everything but a method, so that
    `grpcurl describe` knew a service and not its calls.
    """

    def __init__(self):
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> object:
        """Raises KeyError if there is no such symbol."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            method = self._pool.FindMethodByName(symbol)
            return method.containing_service.file


class _ReflectionService(reflection.ReflectionServicer):
    """Descriptors of the services, for tools such as grpcurl."""

    def __init__(self, streams: _Streams):
        self._streams = streams
        super().__init__(_SERVICE_NAMES, _Pool())

    def ServerReflectionInfo(
        self,
        request_iterator: Iterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
        """Answers as long as the tool asks."""
        self._streams.add(context)
        yield from super().ServerReflectionInfo(request_iterator, context)
