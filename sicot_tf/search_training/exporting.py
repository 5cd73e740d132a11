"""The trained network of a search run, for `sicot_tf.export`."""

import dataclasses
import hashlib
import pathlib

import keras

from sicot_tf.checkpoints import checkpoints
from sicot_tf.model.search import network
from sicot_tf.search_training import runs


@dataclasses.dataclass(frozen=True)
class RestoredSearch:
    """The network of a run's last checkpoint.

    model: see `model.search.network.build`. info: what `export.json` says.
    """

    model: keras.Model
    info: dict[str, str | int | bool]


def restore(run_dir: pathlib.Path) -> RestoredSearch:
    """Reads the last checkpoint of a search run.

    Raises:
        ValueError: if there is no run, or no checkpoint.
    """
    run = runs.load(run_dir)
    model = runs.build_network(run.model, run.search)
    step = checkpoints.restore_variables(
        run_dir / "checkpoints", model.variables
    )
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return RestoredSearch(
        network.served(model),
        {
            "weights_sha256": digest.hexdigest()[:16],
            "step": step,
            "triplets": run.triplets,
            "embedding_dim": run.search.embedding_dim,
            "with_box": not run.search.without_box,
        },
    )
