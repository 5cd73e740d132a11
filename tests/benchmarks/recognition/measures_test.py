import unittest

from benchmarks.recognition import measures
from sicot_tf.recognition import answers


def _object(sku_id, recognised=True, box=(0, 0, 10, 10)):
    return answers.RecognisedObject(
        box=box,
        box_from="photo",
        sku_id=sku_id,
        score=0.5,
        recognised=recognised,
        product=None,
        alternatives=[],
        similar_pictures=[],
        words=[],
    )


def _answer(*objects, category=None):
    return answers.Answer(
        request_id="a",
        recognised=any(each.recognised for each in objects),
        photo=answers.Photo(width=100, height=100),
        category=category,
        objects=objects,
        model_version=1,
        index_generation="g",
        variant="",
        milliseconds={},
    )


class MeasuresTest(unittest.TestCase):
    def test_wilson(self):
        """Breaks if intervals are too narrow or leave 0 to 1: 8 of 10 is an
        example of Newcombe (1998) but for rounding, 0 of 10 the rule 1 -
        z^2/(n + z^2)."""
        found = measures.wilson(8, 10)
        self.assertAlmostEqual(found["low"], 0.4902, 4)
        self.assertAlmostEqual(found["high"], 0.9433, 4)
        found = measures.wilson(0, 10)
        self.assertEqual(found["rate"], 0)
        self.assertAlmostEqual(found["low"], 0)
        self.assertAlmostEqual(found["high"], 0.2775, 4)
        self.assertIsNone(measures.wilson(0, 0)["rate"])

    def test_pictures(self):
        """Breaks if coverage and accuracy get mixed up, or a picture whose
        category nobody told counts."""
        category = answers.Category(
            name="fruit",
            score=0.6,
            by_model={"drink": 0.7, "fruit": 0.3},
            by_search={"fruit": 1.0},
        )
        found = measures.of_pictures(
            [
                (
                    {"sku_id": "a", "category": "fruit"},
                    _answer(_object("a"), category=category),
                ),
                ({"sku_id": "a"}, _answer(_object("b"))),
                ({"sku_id": "a"}, _answer(_object("a", recognised=False))),
            ]
        )
        counts = {
            name: (each["count"], each["of"]) for name, each in found.items()
        }
        self.assertEqual(
            counts,
            {
                "recognised": (2, 3),
                "right among the recognised": (1, 2),
                "right of all (top 1)": (2, 3),
                "category by the model": (0, 1),
                "category by the search": (1, 1),
                "category by both": (1, 1),
            },
        )

    def test_scenes(self):
        """Breaks if a box that is elsewhere covers an object, or a SKU counts
        that is not on the scene."""
        row = {
            "objects": [
                {"sku_id": "a", "box": [0, 0, 10, 10]},
                {"sku_id": "b", "box": [50, 50, 60, 60]},
            ]
        }
        found = measures.of_scenes(
            [
                (row, _answer(_object("a"), _object("x", box=(0, 0, 5, 5)))),
                (row, _answer(_object("a", False, box=(50, 50, 60, 60)))),
            ]
        )
        counts = {
            name: (each["count"], each["of"])
            for name, each in found.items()
            if isinstance(each, dict)
        }
        self.assertEqual(
            counts,
            {
                "main SKU is on the scene": (2, 2),
                # Under the box of the second answer there is b.
                "main SKU is the object under its box": (1, 2),
                "main object recognised": (1, 2),
                "right among the recognised": (1, 1),
                "SKUs of the scenes that are found": (2, 4),
                "objects with a box of IoU 0.5": (2, 4),
            },
        )
        self.assertEqual(found["mean IoU of the objects' best boxes"], 0.5)
        self.assertEqual(found["mean IoU of the main boxes"], 1)
        self.assertEqual(found["boxes a scene"], 1.5)


if __name__ == "__main__":
    unittest.main()
