"""Our TFRecord writer and reader against TensorFlow's."""

import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf.data import tfrecords

_EXAMPLES = [b"", b"a", b"x" * 1000]


class TfrecordsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.get_temp_dir()) / "ours"
        self.offsets = tfrecords.write(self.path, _EXAMPLES)

    def test_equals_tensorflows_writer(self):
        """Breaks if TensorFlow can't read our shards.

        16 bytes of lengths and checksums stand around each record.
        """
        self.assertEqual(self.offsets, [0, 16, 33])
        theirs = self.path.with_name("theirs")
        with tf.io.TFRecordWriter(str(theirs)) as writer:
            for example in _EXAMPLES:
                writer.write(example)
        self.assertEqual(self.path.read_bytes(), theirs.read_bytes())

    def test_random_access(self):
        """Breaks if offset and length are read from the wrong bytes."""
        content = np.memmap(self.path, np.uint8, mode="r")
        found = [tfrecords.read(content, offset) for offset in self.offsets]
        self.assertEqual(found, _EXAMPLES)

    def test_damage_is_an_error(self):
        """Breaks if a flipped bit or a cut file is read as data."""
        content = np.fromfile(self.path, np.uint8)
        flipped = content.copy()
        flipped[50] ^= 1
        with self.assertRaisesRegex(ValueError, "byte 33"):
            tfrecords.read(flipped, 33)
        with self.assertRaisesRegex(ValueError, "byte 33"):
            tfrecords.read(content[:500], 33)


if __name__ == "__main__":
    tf.test.main()
