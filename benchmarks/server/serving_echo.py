"""A bare grpcio server that answers every call with the bytes of a file.

examples:
  python -m benchmarks.server.serving_echo response.bin 8600
"""

import pathlib
import sys
from concurrent import futures

import grpc


class _Echo(grpc.GenericRpcHandler):
    """Takes and gives bytes; nothing is parsed."""

    def __init__(self, response: bytes):
        self._handler = grpc.unary_unary_rpc_method_handler(
            lambda request, context: response
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        """The same for every method."""
        return self._handler


def main() -> None:
    """Serves until it is stopped."""
    path, port = sys.argv[1:]
    server = grpc.server(
        futures.ThreadPoolExecutor(16),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ],
    )
    server.add_generic_rpc_handlers([_Echo(pathlib.Path(path).read_bytes())])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
