"""What a generation is made of, and what its making may take."""

import dataclasses
from collections.abc import Sequence

from sicot_tf.stores import locations

# About 15 seconds of work on one core, for pictures of 800 x 600.
PART_RECORDS = 1000
MEMORY_MEGABYTES = 2048


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a generation is made of, apart from its settings.

    Attributes:
        record_files: paths or globs.
        frozen_test: file of record ids, one a line, that are in the test set.
        keep_labels: an older generation, or its folder, whose classes keep
            their labels.
        word_vectors: file of word vectors to take instead of training them.
    """

    record_files: Sequence[str]
    frozen_test: locations.Location | None = None
    keep_labels: locations.Location | None = None
    word_vectors: locations.Location | None = None
