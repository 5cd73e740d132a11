"""What ends a training before its last epoch: a signal, or broken numbers."""

import signal
from typing import Any

# One step that is not finite may be a bad batch, ten in a row are the model.
_MAX_SKIPPED_STEPS = 10


class StopSignal:
    """Turns SIGTERM into a request to save and stop after this step."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


def expect_finite(num_skipped: int, step: int) -> None:
    """Ends a run that takes no step any more."""
    if num_skipped == _MAX_SKIPPED_STEPS:
        raise FloatingPointError(
            f"The {num_skipped} steps up to step {step} were skipped: loss or "
            "gradient was not finite. Start again from the last checkpoint "
            "with a lower --learning_rate, with --warmup_epochs 1, or with "
            "--clip_norm."
        )
