import unittest

from sicot_tf.recognition import settings
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.tuning import category_choice

CATEGORIES = {
    "cola": {"drink": 1.0},
    "tea": {"drink": 1.0},
    "pan": {"kitchen": 1.0},
    "cup": {"kitchen": 1.0},
    "odd": {},
}


def picture(sku_id, scores, near):
    """The model gives `scores`, the search finds one picture of `near`; the
    threshold is 0.6."""
    return category_choice.AnsweredPicture(
        sku_id,
        list(scores),
        list(scores.values()),
        max(scores.values()) >= 0.6,
        [nearest_pictures.Neighbour("shop/1", "any", near, 0, 0.5)],
    )


def choose(pictures):
    return category_choice.choose(
        pictures, CATEGORIES.__getitem__, settings.RecognitionSettings()
    )


class CategoryChoiceTest(unittest.TestCase):
    def test_model_alone(self):
        """Broken: a search that adds nothing gets a weight."""
        pictures = [
            picture("cola", {"cola": 0.9, "pan": 0.1}, "drink"),
            picture("pan", {"pan": 0.9, "cola": 0.1}, "kitchen"),
        ]
        chosen, measured = choose(pictures)
        self.assertEqual(chosen, settings.RecognitionSettings(0.0))
        self.assertEqual(measured["category"]["by_model"]["right"], 1.0)
        self.assertEqual(measured["sku"]["candidates"][0]["right"], 1.0)
        self.assertEqual(len(measured["category"]["candidates"]), 1 + 10 * 7)

    def test_search_helps(self):
        """Broken: the category that the search knows better is not used, or
        does not reach the SKU."""
        # The model takes every pan for a cola, 0.6 to 0.4; from a weight of
        # 0.2 on its category is right: 0.2 + 0.8 * 0.4 = 0.52.
        pictures = [
            picture("pan", {"cola": 0.6, "pan": 0.4}, "kitchen"),
            picture("pan", {"cola": 0.6, "pan": 0.4}, "kitchen"),
            picture("tea", {"tea": 1.0}, "drink"),
            picture("odd", {"odd": 1.0}, "drink"),
        ]
        chosen, measured = choose(pictures)
        self.assertEqual(chosen.category_search_weight, 0.2)
        self.assertEqual(chosen.category_sharpness, 0.0)
        by_category = measured["category"]
        self.assertEqual(by_category["num_pictures"], 3)
        self.assertAlmostEqual(by_category["by_model"]["right"], 1 / 3)
        self.assertEqual(by_category["by_search"]["right"], 1.0)
        self.assertEqual(by_category["fused"]["right"], 1.0)
        candidates = {
            each["influence"]: each for each in measured["sku"]["candidates"]
        }
        self.assertEqual(candidates[0.0]["right"], 0.5)
        self.assertEqual(candidates[0.0]["num_recognised"], 4)
        self.assertEqual(candidates[0.0]["num_recognised_right"], 2)
        # What the category has changed did not reach the threshold.
        self.assertEqual(candidates[1.0]["num_recognised"], 2)
        self.assertEqual(candidates[1.0]["num_recognised_right"], 2)
        # cola 0.48 and pan 0.52, as Jeffrey's rule has it.
        self.assertEqual(candidates[1.0]["right"], 1.0)
        self.assertAlmostEqual(
            candidates[1.0]["mean_score"], (0.52 + 0.52 + 1 + 1) / 4
        )

    def test_influence_within_one_error(self):
        """Broken: scores are changed for a gain that may be chance."""
        pictures = [
            picture("pan", {"cola": 0.6, "pan": 0.4}, "kitchen"),
            picture("cup", {"cola": 0.6, "cup": 0.4}, "kitchen"),
            picture("cola", {"cola": 1.0}, "drink"),
        ]
        # Two of three gain: 2/3 at an error of sqrt(2/9 * 3) / 3 = 0.27.
        self.assertEqual(choose(pictures)[0].category_influence, 1.0)
        pictures.append(picture("tea", {"tea": 0.6, "pan": 0.4}, "kitchen"))
        # Two gain, one loses: 1/4 at an error of sqrt(2.75) / 4 = 0.41.
        self.assertEqual(choose(pictures)[0].category_influence, 0.0)

    def test_without_categories(self):
        """Broken: an index of another shop gives settings of nothing."""
        with self.assertRaisesRegex(ValueError, "received 1 without"):
            choose([picture("odd", {"odd": 1.0}, "drink")])


if __name__ == "__main__":
    unittest.main()
