"""Where evaluations lie; needs no TensorFlow."""

import pathlib

from sicot_tf import config


def evaluation_folder(
    run_dir: pathlib.Path, split: str, changes: config.PostHocConfig
) -> pathlib.Path:
    """Those that differ in the changes after training lie beside each other."""
    given = [f"{name}-{value}" for name, value in changes.given().items()]
    return run_dir / "-".join(["evaluation", split, *given])
