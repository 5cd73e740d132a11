"""Several workers of a training on this machine, started by its command."""

import pathlib
import sys
from collections.abc import Sequence

from sicot_tf.checkpoints import step_folders
from sicot_tf.workers import cluster
from sicot_tf.workers import local_workers


def run_if_asked(
    num_workers: int,
    module: str,
    argv: Sequence[str] | None,
    run_dir: pathlib.Path,
) -> None:
    """Starts the workers of --num_workers and ends with their exit code.

    Returns if there are none to start: one is asked for, or this process is
    one of them, which get the same arguments and TF_CONFIG.

    Args:
        module: the command.
        argv: its arguments; None for those of this process.
    """
    if num_workers > 1 and cluster.num_workers() == 1:
        code = local_workers.run(
            num_workers,
            module,
            sys.argv[1:] if argv is None else argv,
            log_dir=run_dir / "worker_logs",
            progress=lambda: (
                step_folders.latest_step(run_dir / "checkpoints") or 0
            ),
        )
        raise SystemExit(code)
