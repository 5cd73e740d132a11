"""What makes a run's scores probabilities, and which of them are enough.

`calibration.json` in the run's folder; `sicot_tf.calibrate` writes it.
"""

import dataclasses
import hashlib
import logging
import pathlib

import keras

from sicot_tf import files
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.training import runs

FILE = "calibration.json"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Fitted on validation records for certain weights.

    Attributes:
        temperature: what logits are divided by.
        threshold: the least calibrated top-1 score that counts as recognised;
            None if none reaches the wanted precision.
        wanted_precision: share of the recognised that is to be right.
        confidence: of `precision_low`, one-sided.
        num_accepted: records that the threshold lets pass (0 without one).
        num_right: those of them that are right.
        coverage: share of the records that pass.
        precision: share of these that is right; None if there are none.
        precision_low: its lower bound, which is at least what was wanted.
        generation: of the dataset whose records of `split` it was fitted on.
        step: of the checkpoint.
        weights_sha256: of visual stream and classifier, see `weights_digest`.
    """

    temperature: float
    threshold: float | None
    wanted_precision: float
    confidence: float
    num_records: int
    num_accepted: int
    num_right: int
    coverage: float
    precision: float | None
    precision_low: float | None
    split: str
    generation: str
    step: int
    weights_sha256: str


def read(path: pathlib.Path) -> Calibration:
    """Reads a calibration.

    Raises:
        OSError: if there is no such file.
        ValueError: if it holds something else.
    """
    values = files.read_json(path)
    try:
        calibration = Calibration(**values)
        threshold = calibration.threshold
        is_sound = calibration.temperature > 0 and (
            threshold is None or 0 <= threshold <= 1
        )
    except TypeError:
        is_sound = False
    if not is_sound:
        raise ValueError(
            f"{path} holds no calibration of this version. Fit it again: "
            "python -m sicot_tf.calibrate --help"
        )
    return calibration


def find(
    run: runs.Run,
    visual_stream: keras.Model,
    classifier: ClassShardedDense,
    path: pathlib.Path | None = None,
) -> Calibration | None:
    """The calibration of these weights, if there is one.

    Args:
        path: a file; None for the run's own, which is left out with a warning
            if it was fitted on other weights.

    Raises:
        OSError: if `path` is not there.
        ValueError: if it was fitted on other weights, or holds no calibration.
    """
    own = run.path / FILE
    if path is None and not own.exists():
        return None
    calibration = read(path or own)
    if calibration.weights_sha256 == weights_digest(visual_stream, classifier):
        return calibration
    sentence = (
        f"{path or own} was fitted on other weights, those of step "
        f"{calibration.step} of a training. Fit it again: "
        f"python -m sicot_tf.calibrate --run_dir {run.path}"
    )
    if path:
        raise ValueError(sentence)
    _log.warning("Scores stay as they are. %s", sentence)
    return None


def weights_digest(
    visual_stream: keras.Model, classifier: ClassShardedDense
) -> str:
    """Short hashes of the values of both, in the order of their variables."""
    return _digest(visual_stream.variables) + _digest(classifier.variables)


def _digest(variables: list) -> str:
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()[:16]


def divide_logits(classifier: ClassShardedDense, temperature: float) -> None:
    """Changes the weights so that the logits come out divided."""
    for weights in classifier.blocks:
        for variable in weights:
            variable.assign(variable / temperature)
