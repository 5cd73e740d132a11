"""Vectors of classes by hand, in parts, and turned back."""

from unittest import mock

import numpy as np
import tensorflow as tf

from sicot_tf.data.annotations import Annotations
from sicot_tf.training.title_words import class_word_vectors
from sicot_tf.training.title_words import shared_words

# Words 1 and 2 are of two classes each, word 3 of class 0 alone, word 4 of
# class 3 alone, word 5 is cut off, word 6 is in all titles.
_RECORDS = (
    (2, [2, 6]),
    (0, [1, 3, 6]),
    (1, [1, 2, 6, 5]),
    (3, [4]),
    (1, []),
    (0, [1, 3, 6]),
)
_VECTORS = np.array(
    [[0, 0], [1, 0], [0, 2], [5, 5], [7, 0], [9, 9], [3, 3]], np.float32
)


def _annotations(records):
    titles = [title for _, title in records]
    return Annotations(
        np.array([label for label, _ in records], np.int64),
        np.array(sum(titles, []), np.int32),
        np.cumsum([0] + [len(title) for title in titles]),
    )


def _make(records=_RECORDS, classes=(0, 5), counts=None, **arguments):
    annotations = _annotations(records)
    counts = counts or shared_words.count_words(annotations, 6, max_words=3)
    return class_word_vectors.make(
        annotations,
        counts,
        _VECTORS,
        classes,
        num_classes=5,
        max_words=3,
        **arguments,
    )


class MakeTest(tf.test.TestCase):
    def test_by_hand(self):
        """Breaks if words of one class count, or common ones as rare ones.

        Five titles; words 1 and 2 are in 3 and 2 of them, word 3 in 2, word
        6 in 4: weights a = log(5 / 3), b = log(5 / 2), b, c = log(5 / 4).
        """
        a, b, c = np.log([5 / 3, 5 / 2, 5 / 4])
        expected = []
        for x, y, gate in (
            # Twice words 1, 3 and 6; word 3 is its own.
            (a + 3 * c, 3 * c, (a + c) / (a + b + c)),
            (a + 3 * c, 2 * b + 3 * c, 1.0),
            (3 * c, 2 * b + 3 * c, 1.0),
        ):
            expected.append(gate * np.array([x, y]) / np.hypot(x, y))
        # Class 3 has a word of its own alone, class 4 has no record.
        expected += [[0, 0], [0, 0]]
        found = _make()
        self.assertEqual(found.dtype, np.float32)
        self.assertAllClose(found, expected, 1e-6, 1e-6)

    def test_parts(self):
        """Breaks if vectors depend on how classes or words are divided."""
        whole = _make()
        with (
            mock.patch.object(class_word_vectors, "_CLASSES", 2),
            mock.patch.object(class_word_vectors, "_WORDS", 1),
        ):
            parts = [_make(classes=each) for each in ((0, 1), (1, 3), (3, 5))]
        self.assertAllEqual(np.concatenate(parts), whole)

    def test_workers_with_records_of_their_own(self):
        """Breaks if a worker leaves out what others know of its classes."""
        counts = shared_words.count_words(
            _annotations(_RECORDS), 6, max_words=3
        )
        others = []
        _make(
            _RECORDS[1::2],
            (3, 5),
            counts,
            sum_over_workers=lambda sums: others.append(sums) or sums,
        )
        found = _make(
            _RECORDS[::2],
            (0, 3),
            counts,
            sum_over_workers=lambda sums: sums + others.pop(0),
        )
        self.assertAllClose(found, _make()[:3], 1e-6, 1e-6)
        self.assertEmpty(others)

    def test_no_shared_words(self):
        """Breaks if a run trains on zeros without a word."""
        with self.assertRaisesRegex(ValueError, "of 6 words .* 0 are shared"):
            _make([(0, [1, 2]), (1, [3])])


class AlignTest(tf.test.TestCase):
    def test_turned_vectors(self):
        """Breaks if new words miss what P has learned of the old ones.

        word2vec found the same vectors again, turned by 90 degrees and with
        the words in another order; word 4 is new.
        """
        old = np.array([[0, 0], [1, 2], [3, 1], [0, 4]], np.float32)
        both = np.array([[0, 0], [3, 1], [1, 2], [0, 4], [2, 5]], np.float32)
        turn = np.array([[0, 1], [-1, 0]], np.float32)
        aligned = class_word_vectors.align(
            both @ turn, old, np.array([0, 2, 1, 3, -1])
        )
        self.assertAllClose(aligned, both, 1e-5, 1e-5)
        self.assertAllEqual(aligned[:4], both[:4])


if __name__ == "__main__":
    tf.test.main()
