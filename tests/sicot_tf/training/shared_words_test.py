"""Which words classes share: counted by hand, by one worker and by two."""

import numpy as np
import tensorflow as tf

from sicot_tf.data.annotations import Annotations
from sicot_tf.training import shared_words


def _annotations(*records):
    """Of (label, title) pairs."""
    titles = [title for _, title in records]
    return Annotations(
        np.array([label for label, _ in records], np.int64),
        np.array(sum(titles, []), np.int32),
        np.cumsum([0] + [len(title) for title in titles]),
    )


# Word 1 is of classes 0 and 2, word 2 of class 2 alone (twice in a title),
# word 3 of class 0 alone, word 4 of classes 0 and 1 unless titles are cut at
# 3 words, word 5 of none.
_RECORDS = (
    (0, [1, 3]),
    (2, [2, 2, 1, 4]),
    (1, []),
    (0, [3, 1, 4]),
    (2, [2]),
)


class CountWordsTest(tf.test.TestCase):
    def test_one_worker(self):
        """Breaks if repeated or cut words count, or a class with itself."""
        found = shared_words.count_words(
            _annotations(*_RECORDS), 5, max_words=4
        )
        self.assertAllEqual(found.num_records, [0, 3, 2, 2, 2, 0])
        self.assertAllEqual(found.is_shared, [0, 1, 0, 0, 1, 0])
        self.assertEqual(found.num_titles, 4)
        cut = shared_words.count_words(_annotations(*_RECORDS), 5, max_words=3)
        self.assertAllEqual(cut.num_records, [0, 3, 2, 2, 1, 0])
        self.assertAllEqual(cut.is_shared, [0, 1, 0, 0, 0, 0])


if __name__ == "__main__":
    tf.test.main()
