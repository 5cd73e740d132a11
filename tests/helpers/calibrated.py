"""A calibration and what it does, without a run."""

import numpy as np

from sicot_tf.evaluation.calibration import reliability
from sicot_tf.training.calibrations import Calibration

CALIBRATION = Calibration(
    temperature=2.0,
    threshold=0.5,
    wanted_precision=0.9,
    confidence=0.95,
    num_records=40,
    num_accepted=30,
    num_right=30,
    coverage=0.75,
    precision=1.0,
    precision_low=0.905,
    split="val",
    generation="0123456789ab",
    step=60,
    weights_sha256="0" * 32,
)


def measure(**records: np.ndarray) -> dict:
    """`reliability.measure`; classes 0 and 1 are head."""
    return reliability.measure(
        CALIBRATION, is_head=records["labels"] < 2, **records
    )
