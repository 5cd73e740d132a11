"""The TFRecord contract."""

import subprocess
import sys

import tensorflow as tf

from sicot_tf.data import records

_FIELDS = {
    "record_id": "shop/1",
    "image": b"\xff\xd8",
    "sku_id": "cola-330",
    "label": 7,
    "title": "Cola 330ml 包邮",
    "words": ["cola", "330ml", "包邮"],
    "word_ids": [4, 9, 0],
    "source": "shop",
}


class RecordsTest(tf.test.TestCase):
    def test_what_is_written_is_read(self):
        """Breaks if writer and readers disagree on a name or type."""
        example = records.encode_example(**_FIELDS)
        found = tf.io.parse_single_example(example, records.ALL_FEATURES)
        self.assertEqual(found["record_id"], b"shop/1")
        self.assertEqual(found["image"], b"\xff\xd8")
        self.assertEqual(found["sku_id"], b"cola-330")
        self.assertAllEqual(found["label"], 7)
        self.assertEqual(found["title"].numpy().decode(), "Cola 330ml 包邮")
        self.assertAllEqual(found["word_ids"], [4, 9, 0])
        self.assertEqual(
            [word.decode() for word in found["words"].numpy()],
            _FIELDS["words"],
        )

    def test_evaluation_features_hold_no_text(self):
        """Breaks if a title could reach evaluation."""
        self.assertEqual(
            set(records.EVALUATION_FEATURES),
            {"record_id", "image", "sku_id", "label"},
        )

    def test_a_title_without_words(self):
        """Breaks if an empty list is not read back as an empty list."""
        example = records.encode_example(
            **{**_FIELDS, "title": "", "words": [], "word_ids": []}
        )
        found = tf.io.parse_single_example(example, records.TRAINING_FEATURES)
        self.assertAllEqual(found["word_ids"], [])

    def test_equal_bytes_in_any_process(self):
        """Breaks if map order follows the hash seed of the process."""
        program = (
            "from sicot_tf.data import records; import sys; "
            f"sys.stdout.buffer.write(records.encode_example(**{_FIELDS!r}))"
        )
        found = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        self.assertEqual(found, {records.encode_example(**_FIELDS)})

    def test_words_and_ids_must_agree(self):
        """Breaks if a word without id is written."""
        with self.assertRaisesRegex(ValueError, "3 words and 1 ids"):
            records.encode_example(**{**_FIELDS, "word_ids": [1]})


if __name__ == "__main__":
    tf.test.main()
