"""Sends one request's bytes to a gRPC server, again and again.

Each caller sends the next request when it has the answer. Prints one JSON
object: for each answer when it was asked for (CLOCK_MONOTONIC) and how long
it took, the failures by code, and the CPU time of this process.

examples:
  python -m benchmarks.server.serving_load 127.0.0.1:8500 \\
      /tensorflow.serving.PredictionService/Predict request.bin 8
"""

import collections
import json
import pathlib
import sys
import threading
import time

import grpc


def main() -> None:
    """Starts when a line comes in on stdin, stops at the next."""
    target, method, path, num_callers = sys.argv[1:]
    request = pathlib.Path(path).read_bytes()
    channel = grpc.insecure_channel(
        target, options=[("grpc.max_receive_message_length", -1)]
    )
    grpc.channel_ready_future(channel).result(60)
    call = channel.unary_unary(method)
    stop = threading.Event()
    answers = []
    failures = collections.Counter()

    def ask_again() -> None:
        while not stop.is_set():
            start = time.monotonic()
            try:
                call(request)
            except grpc.RpcError as error:
                failures[error.code().name] += 1
                # A server that sheds answers at once; no busy loop.
                time.sleep(0.01)
            else:
                answers.append((start, time.monotonic() - start))

    print("ready", flush=True)
    sys.stdin.readline()
    start, cpu_start = time.monotonic(), time.process_time()
    callers = [
        threading.Thread(target=ask_again) for _ in range(int(num_callers))
    ]
    for caller in callers:
        caller.start()
    sys.stdin.readline()
    stop.set()
    for caller in callers:
        caller.join()
    print(
        json.dumps(
            {
                "answers": answers,
                "failures": failures,
                "seconds": time.monotonic() - start,
                "cpu_seconds": time.process_time() - cpu_start,
            }
        )
    )


if __name__ == "__main__":
    main()
