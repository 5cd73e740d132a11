"""A worker process on this machine, without what Beam says of itself.

FnApiRunner starts it as `python -m beam_jobs.pipelines.worker`; what goes
wrong in it is raised where the pipeline runs.
"""

import logging
import signal
import sys
from multiprocessing import sharedctypes

from sicot_tf import command_line

# In a process of a pool: how many inputs all processes have taken.
num_taken: sharedctypes.Synchronized | None = None


def import_beam() -> None:
    """Imports Beam without its warning that Google's client is not there."""
    logging.disable(logging.WARNING)
    try:
        import apache_beam  # noqa: F401
    finally:
        logging.disable(logging.NOTSET)


def arguments() -> tuple[str, str]:
    """What `start` needs for a process like this one."""
    level = logging.getLogger("beam_jobs").getEffectiveLevel()
    needed = "tensorflow" if "tensorflow" in sys.modules else "no-tensorflow"
    return logging.getLevelName(level).lower(), needed


def start(verbosity: str, needed: str) -> None:
    """Logs and imports as the process that starts this one."""
    # Ctrl-C ends this one as well: without a traceback of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command_line.set_up_logging(verbosity)
    if verbosity != "debug":
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    import_beam()
    if needed == "tensorflow":
        command_line.import_tensorflow()


def start_in_pool(
    counter: sharedctypes.Synchronized, verbosity: str, needed: str
) -> None:
    """`start` for a process of `process_pool`."""
    global num_taken
    num_taken = counter
    start(verbosity, needed)


if __name__ == "__main__":
    start(*sys.argv[1:])
    from apache_beam.runners.worker import sdk_worker
    from apache_beam.runners.worker import sdk_worker_main

    # It prints a traceback that it also sends.
    sdk_worker.print = lambda *_, **__: None
    sdk_worker_main.main([])
