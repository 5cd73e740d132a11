import unittest

from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.tuning import category_choice
from sicot_tf.recognition.tuning import search_choice
from sicot_tf.recognition.tuning.search_choice import Ranks

_SETTINGS = RecognitionSettings(category_search_weight=0.0)


def _query(true, model, score, near, *, recognised=False):
    return category_choice.AnsweredPicture(
        true,
        [model, "z"],
        [score, 0.01],
        recognised,
        [
            nearest_pictures.Neighbour("p", near, None, 0, 0.1),
            nearest_pictures.Neighbour("p", "far", None, 0, 0.9),
        ],
    )


class SearchChoiceTest(unittest.TestCase):
    def choose(self, queries, known=("a",)):
        return search_choice.choose(queries, known, lambda _: {}, _SETTINGS)

    def test_no_gain_no_weight(self):
        """Breaks if the search gets a weight that makes nothing right."""
        queries = [_query("a", "a", 0.9, "b", recognised=True)]
        chosen, found = self.choose(queries)
        self.assertEqual(chosen.sku_search_weight, 0.0)
        self.assertEqual(chosen.sku_search_threshold, 1.0)
        self.assertEqual(
            found["groups"]["all"]["recognised_by_fused"],
            {"num": 1, "num_right": 1},
        )
        self.assertNotIn("unknown", found["groups"])

    def test_honest_threshold(self):
        """Breaks if more of the recognised are wrong than by the recogniser
        alone."""
        queries = [
            # Right both ways, and surest.
            _query("a", "a", 0.9, "a", recognised=True),
            # New, and found by search.
            _query("n", "a", 0.1, "n"),
            _query("m", "a", 0.1, "m"),
            # Nobody knows this one: the search is wrong and as sure.
            _query("o", "a", 0.0, "x"),
        ]
        chosen, found = self.choose(queries)
        self.assertGreater(chosen.sku_search_weight, 0)
        by_fused = found["groups"]["all"]["recognised_by_fused"]
        # All that the recogniser recognises is right, so here, too.
        self.assertEqual(by_fused["num"], by_fused["num_right"])
        self.assertGreaterEqual(by_fused["num"], 1)
        self.assertEqual(found["groups"]["unknown"]["fused"]["right"], 2 / 3)

    def test_certainty(self):
        """Breaks if results are narrowed where that hides true products, or
        never although it shows more."""
        skus = [str(number) for number in range(40)]
        for ranks, expected in (
            # Sure categories show more; those of 0.6 are wrong.
            ([Ranks(30, 5)] * 20 + [Ranks(3, None)] * 20, 0.9),
            ([Ranks(3, None)] * 40, 1.0),
            ([Ranks(3, 1)] * 40, 1.0),
        ):
            with self.subTest(expected):
                chosen, _ = search_choice.choose_certainty(
                    ranks, [0.94] * 20 + [0.6] * 20, skus, _SETTINGS
                )
                self.assertEqual(chosen.search_certainty, expected)


if __name__ == "__main__":
    unittest.main()
