"""The record contracts: raw records in, TFRecord examples out, defined once.

A raw record is one picture with its title. The Beam job checks it with
`parse_raw_record` and writes it with `encode_example`; training reads it
with `TRAINING_FEATURES`, evaluation with `EVALUATION_FEATURES`, which know
no text.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from sicot_tf.data import generations

REQUIRED_FIELDS = ("record_id", "image", "sku_id", "title")
OPTIONAL_FIELDS = (
    "sku_name",
    "description",
    "tags",
    "category",
    "box",
    "split",
    "group",
    "source",
    "lang",
    "license",
)
SPLITS = generations.SPLITS

# Id 0 pads short titles and stands for words outside the vocabulary: both
# are masked out, so neither moves the global context nor takes attention.
PADDING_ID = 0

EVALUATION_FEATURES = {
    "record_id": tf.io.FixedLenFeature([], tf.string),
    # Encoded JPEG.
    "image": tf.io.FixedLenFeature([], tf.string),
    "sku_id": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
TRAINING_FEATURES = EVALUATION_FEATURES | {
    "word_ids": tf.io.RaggedFeature(tf.int64),
}
ALL_FEATURES = TRAINING_FEATURES | {
    # The title as it came, before normalisation.
    "title": tf.io.FixedLenFeature([], tf.string),
    # The normalised title: one word for each id.
    "words": tf.io.RaggedFeature(tf.string),
    "source": tf.io.FixedLenFeature([], tf.string),
}


class RecordError(ValueError):
    """A record that can't be used; `reason` is the code it is counted by."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Beam passes it from worker to worker."""
        return type(self), (self.reason, str(self))


def encode_example(
    *,
    record_id: str,
    image: bytes,
    sku_id: str,
    label: int,
    title: str,
    words: Sequence[str],
    word_ids: Sequence[int],
    source: str,
) -> bytes:
    """Serialises one record as a `tf.train.Example`; equal input, equal bytes.

    Raises:
        ValueError: if `words` and `word_ids` differ in length.
    """
    if len(words) != len(word_ids):
        raise ValueError(
            f"Record {record_id}: expected one id for each word, received "
            f"{len(words)} words and {len(word_ids)} ids."
        )
    values: Mapping[str, list[Any]] = {
        "record_id": [record_id],
        "image": [image],
        "sku_id": [sku_id],
        "label": [label],
        "title": [title],
        "words": list(words),
        "word_ids": list(word_ids),
        "source": [source],
    }
    feature = {}
    for name, items in values.items():
        if name in ("label", "word_ids"):
            feature[name] = tf.train.Feature(
                int64_list=tf.train.Int64List(value=items)
            )
        else:
            encoded = [
                item if isinstance(item, bytes) else item.encode("utf-8")
                for item in items
            ]
            feature[name] = tf.train.Feature(
                bytes_list=tf.train.BytesList(value=encoded)
            )
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Map order follows PYTHONHASHSEED unless asked for otherwise.
    return example.SerializeToString(deterministic=True)
