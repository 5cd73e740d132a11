"""Tests of the vocabulary rules and of word2vec."""

import unittest

import numpy as np

from beam_jobs.words import word_vectors


class SelectVocabularyTest(unittest.TestCase):
    def test_order_is_by_count_then_code_point(self):
        """If it fails, ids of equally frequent words differ between runs."""
        vocabulary, _ = word_vectors.select_vocabulary(
            {"pear": 2, "fig": 3, "apple": 2, "葡萄": 2}
        )
        self.assertEqual(vocabulary, ["fig", "apple", "pear", "葡萄"])

    def test_types_are_cut_by_whole_numbers(self):
        """If it fails, the paper's 5 percent drop another number of words."""
        # w00 is the most frequent of 39: floor(39 * 5 / 100) = 1 at each end.
        counts = {f"w{i:02}": 100 - i for i in range(39)}
        vocabulary, statistics = word_vectors.select_vocabulary(
            counts, drop_frequent_percent=5.0, drop_rare_percent=5.0
        )
        self.assertEqual(vocabulary, [f"w{i:02}" for i in range(1, 38)])
        # The sum of 100 down to 62 is 39 * 81; 100 and 62 are gone.
        self.assertEqual(
            statistics,
            {
                "distinct_words": 39,
                "dropped_frequent": 1,
                "dropped_rare": 1,
                "dropped_below_min_word_count": 0,
                "vocabulary_size": 37,
                "occurrences": 3159,
                "occurrences_kept": 2997,
                "share_of_occurrences_kept": 0.948718,
            },
        )

    def test_percent_is_taken_as_written(self):
        """If it fails, binary rounding drops a word too few."""
        # 0.29 * 100 is 28.999999999999996 in binary floating point.
        counts = {f"w{i:05}": 1 for i in range(10_000)}
        _, statistics = word_vectors.select_vocabulary(
            counts, drop_rare_percent=0.29
        )
        self.assertEqual(statistics["dropped_rare"], 29)

    def test_token_mass(self):
        """If it fails, `token_mass` counts words instead of occurrences."""
        # Of 20 occurrences 50 percent are 10: "a" (10) fits at the top; at
        # the end 25 percent are 5: "e", "d" (1 + 2) fit, with "c" it is 6.
        vocabulary, _ = word_vectors.select_vocabulary(
            {"a": 10, "b": 4, "c": 3, "d": 2, "e": 1},
            drop_frequent_percent=50.0,
            drop_rare_percent=25.0,
            drop_by="token_mass",
        )
        self.assertEqual(vocabulary, ["b", "c"])

    def test_min_word_count(self):
        """If it fails, words seen once stay although they should not."""
        vocabulary, statistics = word_vectors.select_vocabulary(
            {"a": 2, "b": 1}, min_word_count=2
        )
        self.assertEqual(vocabulary, ["a"])
        self.assertEqual(statistics["dropped_below_min_word_count"], 1)

    def test_no_words_at_all(self):
        """If it fails, a set without titles can't be built."""
        vocabulary, statistics = word_vectors.select_vocabulary({})
        self.assertEqual(vocabulary, [])
        self.assertEqual(statistics["share_of_occurrences_kept"], 0)

    def test_shares_that_leave_nothing_are_refused(self):
        """If it fails, the two cuts overlap in silence."""
        for frequent, rare in [(60, 40), (-1, 0)]:
            with self.assertRaisesRegex(ValueError, "drop_frequent_percent"):
                word_vectors.select_vocabulary(
                    {"a": 1},
                    drop_frequent_percent=frequent,
                    drop_rare_percent=rare,
                )


class TrainWord2vecTest(unittest.TestCase):
    def test_shape_and_padding_row(self):
        """If it fails, ids and rows are shifted, or padding has a meaning."""
        vectors = word_vectors.train_word2vec(
            [["a", "b", "unknown"], [], ["b"]],
            ["b", "a"],
            {"a": 1, "b": 2},
            dim=4,
            epochs=1,
            seed=0,
        )
        self.assertEqual((vectors.shape, vectors.dtype), ((3, 4), np.float32))
        self.assertFalse(vectors[0].any())
        self.assertTrue(vectors[1].any() and vectors[2].any())

    def test_no_vocabulary_gives_the_padding_row_alone(self):
        """If it fails, a set without words has no word_vectors.npy."""
        vectors = word_vectors.train_word2vec(
            [["a"]], [], {}, dim=4, epochs=1, seed=0
        )
        self.assertEqual(vectors.tolist(), [[0, 0, 0, 0]])

    def test_long_titles_are_taken_in_pieces_of_32_known_words(self):
        """If it fails, the cost is the square of a title's words: one of
        10,000 never ends."""
        words = [f"w{i}" for i in range(33)]
        counts = dict.fromkeys(words, 1)
        whole, pieces = (
            word_vectors.train_word2vec(
                titles, words, counts, dim=4, epochs=2, seed=0
            )
            for titles in (
                [["unknown", *words, "unknown"]],
                [words[:32], words[32:]],
            )
        )
        self.assertEqual(whole.tobytes(), pieces.tobytes())

    def test_words_of_one_context_are_neighbours(self):
        """If it fails, training did not happen or rows are mixed up."""
        titles = [["cat", "pet"], ["dog", "pet"]] * 300
        titles += [["car", "road"], ["bus", "road"]] * 300
        vocabulary = ["pet", "road", "bus", "car", "cat", "dog"]
        counts = {word: 300 for word in vocabulary}
        vectors = word_vectors.train_word2vec(
            titles, vocabulary, counts, dim=16, epochs=20, seed=0
        )[1:]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cat, dog, car = (
            vectors[vocabulary.index(word)] for word in ("cat", "dog", "car")
        )
        self.assertGreater(cat @ dog, cat @ car + 0.2)


if __name__ == "__main__":
    unittest.main()
