"""Serves SavedModels over TensorFlow Serving's gRPC and REST interfaces.

Versions under the base path of each model are loaded, tried with the warm-up
requests stored with them, and swapped while requests run. The ports open
once all models are available: a port that answers means models that are
ready. A parent process restarts the server if it dies in native code.
"""

import argparse
import faulthandler
import importlib.metadata
import os
import select
import signal
import socket
import sys
import time

import sicot_tf

# No TensorFlow up here: the supervisor lives in this module too, and must
# outlive it.
from sicot_tf.serving import flags
from sicot_tf.serving import supervisor

# Ctrl-C, and systemd, signal the supervisor and the server, which gets it from
# the supervisor again: a second signal is one that comes later.
_SAME_SIGNAL_SECONDS = 1.0
_EPILOG = """\
The flags are those of tensorflow_model_server. SIGTERM or Ctrl-C: health
checks answer NOT_SERVING and /readyz 503; requests are taken for
--drain_seconds more; running ones have 15 seconds to end; exit code 0. A
second signal ends the server at once.

examples:
  python -m sicot_tf.serve --model_name sicot \\
      --model_base_path $PWD/saved_models/sicot --rest_api_port 8501
  python -m sicot_tf.serve --model_config_file saved_models/models.config \\
      --enable_batching --batching_parameters_file saved_models/batching.config
  python -m sicot_tf.client photo.jpg --model_name sicot
"""


def main(argv: list[str] | None = None) -> None:
    """Starts the supervisor, which starts the server."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.serve",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A cut flag would mean another one in the next release.
        allow_abbrev=False,
    )
    flags.add(parser)
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.version:
        print(
            f"TensorFlow ModelServer: sicot_tf {sicot_tf.__version__}\n"
            f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"
        )
        return
    if arguments.supervise:
        flags.warn(arguments, unknown)
        raise SystemExit(supervisor.run(_make_command(argv)))
    if not arguments.supervisor_id:
        flags.warn(arguments, unknown)
    else:
        supervisor.end_with_parent(arguments.supervisor_id)
    _serve(arguments)


def _make_command(argv: list[str]) -> supervisor.MakeCommand:
    """The server itself, from the number of restarts."""

    def command(num_restarts: int) -> list[str]:
        return [
            *(sys.executable, "-m", "sicot_tf.serve", *argv),
            *("--supervise=false", f"--supervisor_id={os.getpid()}"),
            f"--num_restarts={num_restarts}",
        ]

    return command


def _serve(arguments: argparse.Namespace) -> None:
    """The server in this process, which ends here."""
    stop = _StopSignal()
    # Not in the supervisor, which stays small.
    from sicot_tf import command_line

    command_line.set_up_logging()
    # A fault in native code then tells the Python line it came from.
    faulthandler.enable()
    from sicot_tf.serving import server

    code = server.run(arguments, stop)
    sys.stdout.flush()
    sys.stderr.flush()
    # The end of the interpreter would wait for threads that still load a
    # model or run a request past its time, or crash in them.
    os._exit(code)


class _StopSignal:
    """Set by SIGTERM or SIGINT; a second one ends the process.

    Python runs handlers in the main thread only, and a signal that the kernel
    hands to another thread wakes no lock the main one sleeps on. The byte
    that the interpreter writes to a socket does, whichever thread it was.
    """

    def __init__(self):
        self._reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._is_set = False
        self._set_time = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)
        signal.set_wakeup_fd(writer.detach())

    def _set(self, number: int, _: object) -> None:
        if not self._is_set:
            self._is_set = True
            self._set_time = time.monotonic()
        elif time.monotonic() - self._set_time > _SAME_SIGNAL_SECONDS:
            print("A second signal: ended at once.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(128 + number)

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float | None = None) -> None:
        """Returns once a signal came, or after the time."""
        if not self._is_set:
            select.select([self._reader], [], [], seconds)


if __name__ == "__main__":
    main()
