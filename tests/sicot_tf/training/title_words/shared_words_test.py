"""Which words classes share: counted by hand, by one worker and by two."""

import numpy as np
import tensorflow as tf

from sicot_tf.data.annotations import Annotations
from sicot_tf.training.title_words import shared_words
from tests.helpers import worker_processes


def _annotations(*records):
    """Of (label, title) pairs."""
    titles = [title for _, title in records]
    return Annotations(
        np.array([label for label, _ in records], np.int64),
        np.array(sum(titles, []), np.int32),
        np.cumsum([0] + [len(title) for title in titles]),
    )


# Word 1 is of classes 0 and 2, word 2 of class 2 alone (twice in a title),
# word 3 of class 0 alone, word 4 of classes 0 and 2 unless titles are cut at
# 3 words, word 5 of none.
_RECORDS = (
    (0, [1, 3]),
    (2, [2, 2, 1, 4]),
    (0, [3, 1, 4]),
    (1, []),
    (2, [2]),
)


def counts_of_worker(collectives, strategy):
    """Counts of records `index::2`; see `worker_processes`."""
    del strategy
    return shared_words.count_words(
        _annotations(*_RECORDS[collectives.worker_index :: 2]),
        5,
        max_words=4,
        collectives=collectives,
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

    def test_two_workers_with_records_of_their_own(self):
        """Breaks if a word that is of one class on each worker is not shared.

        Words 1 and 4 are of class 0 on one worker and of class 2 on the
        other, word 2 is of class 2 on both.
        """
        whole = shared_words.count_words(
            _annotations(*_RECORDS), 5, max_words=4
        )
        for found in worker_processes.run_workers(
            2, f"{__name__}:counts_of_worker"
        ):
            self.assertAllEqual(found.num_records, whole.num_records)
            self.assertAllEqual(found.is_shared, whole.is_shared)
            self.assertEqual(found.num_titles, whole.num_titles)


class ChoosePredictedTest(tf.test.TestCase):
    def test_the_most_frequent(self):
        """Breaks if columns belong to other words, or log-odds are infinite.

        Of 8 titles words 2 and 4 are in 2, word 3 in all, word 1 in 5 of one
        class: the share of word 3 counts as 7.5 / 8.
        """
        counts = shared_words.WordCounts(
            np.array([0, 5, 2, 8, 2]), np.array([0, 0, 1, 1, 1], bool), 8
        )
        found = shared_words.choose_predicted(counts, most=10)
        self.assertAllEqual(found.ids, [3, 2, 4])
        self.assertAllEqual(found.columns, [-1, -1, 1, 0, 2])
        self.assertAllClose(found.log_odds, np.log([15, 1 / 3, 1 / 3]))
        found = shared_words.choose_predicted(counts, most=2)
        self.assertAllEqual(found.columns, [-1, -1, 1, 0, -1])
        self.assertLen(found.log_odds, 2)

    def test_no_shared_word(self):
        """Breaks if titles of which nothing can be learned pass silently."""
        counts = shared_words.count_words(
            _annotations((0, [1]), (1, [2]), (1, [2])), 2, max_words=4
        )
        with self.assertRaisesRegex(
            ValueError, "none among 2 words.*without --word_loss_weight"
        ):
            shared_words.choose_predicted(counts, most=10)


if __name__ == "__main__":
    tf.test.main()
