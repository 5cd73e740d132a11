"""Serves SavedModels over TensorFlow Serving's gRPC and REST interfaces.

Versions under the base path of each model are loaded, tried with the warm-up
requests stored with them, and swapped while requests run. The ports open
once all models are available: a port that answers means models that are
ready. systemd or Kubernetes restarts a server that dies in native code.
"""

import faulthandler
import importlib.metadata
import logging
import os
import select
import signal
import socket
import sys

import sicot_tf
from sicot_tf import command_line
from sicot_tf.serving import flags

_log = logging.getLogger(__name__)
_EXAMPLES = """\
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


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Serves until a signal comes; the process ends here."""
    parser = command_line.ArgumentParser("sicot_tf.serve", __doc__, _EXAMPLES)
    flags.add(parser)
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.version:
        print(
            f"TensorFlow ModelServer: sicot_tf {sicot_tf.__version__}\n"
            f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"
        )
        return
    flags.warn(arguments, unknown)
    stop = _StopSignal()
    command_line.import_tensorflow()
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
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)
        signal.set_wakeup_fd(writer.detach())

    def _set(self, number: int, _: object) -> None:
        if self._is_set:
            _log.warning("A second signal: ended at once.")
            os._exit(128 + number)
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float | None = None) -> None:
        """Returns once a signal came, or after the time."""
        if not self._is_set:
            select.select([self._reader], [], [], seconds)


if __name__ == "__main__":
    main()
