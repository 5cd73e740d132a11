import math
import unittest

from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import nearest_pictures

CATEGORIES = {
    "cola": {"drink": 1.0},
    "tea": {"drink": 1.0},
    "pan": {"kitchen": 1.0},
    "cup": {"drink": 0.5, "kitchen": 0.5},
}


def categories_of(sku_id):
    return CATEGORIES.get(sku_id, {})


def neighbour(name, distance):
    return nearest_pictures.Neighbour("shop/1", "cola", name, 0, distance)


class CategoryTest(unittest.TestCase):
    def assert_shares(self, received, expected):
        self.assertEqual(list(received), list(expected))
        for name, share in expected.items():
            self.assertAlmostEqual(received[name], share)

    def test_by_model(self):
        """Broken: the category of a photo is not the sum of its SKUs."""
        shares = category.by_model(
            ["pan", "cola", "cup", "strange"],
            [0.3, 0.2, 0.2, 0.1],
            categories_of,
        )
        # drink 0.2 + 0.1, kitchen 0.3 + 0.1; 0.1 has no category.
        self.assert_shares(shares, {"kitchen": 4 / 7, "drink": 3 / 7})
        self.assertEqual(category.by_model(["odd"], [1.0], categories_of), {})
        self.assertEqual(category.by_model([], [], categories_of), {})
        self.assertEqual(category.by_model(["pan"], [0.0], categories_of), {})

    def test_by_search(self):
        """Broken: far pictures count as much as near ones."""
        neighbours = [
            neighbour("kitchen", 0.5),
            neighbour(None, 0.1),
            neighbour("drink", 1.0),
            neighbour("drink", 1.5),
        ]
        votes = [math.exp(-2 * d) for d in (0.5, 1.0, 1.5)]
        self.assert_shares(
            category.by_search(neighbours, 2.0),
            {
                "kitchen": votes[0] / sum(votes),
                "drink": (votes[1] + votes[2]) / sum(votes),
            },
        )
        self.assert_shares(
            category.by_search(neighbours, 0.0),
            {"drink": 2 / 3, "kitchen": 1 / 3},
        )
        # exp(-1000) is 0 in float64.
        self.assert_shares(
            category.by_search([neighbour("drink", 1.0)], 1000.0),
            {"drink": 1.0},
        )
        self.assertEqual(category.by_search([neighbour(None, 1.0)], 1.0), {})
        self.assertEqual(category.by_search([], 1.0), {})

    def test_fuse(self):
        """Broken: the weight is that of the other one, or a photo of which one
        of them knows nothing gets a category with half a share."""
        model = {"drink": 0.6, "kitchen": 0.4}
        search = {"kitchen": 0.9, "garden": 0.1}
        self.assert_shares(
            category.fuse(model, search, 0.25),
            # 0.75 * 0.4 + 0.25 * 0.9; 0.75 * 0.6; 0.25 * 0.1
            {"kitchen": 0.525, "drink": 0.45, "garden": 0.025},
        )
        self.assert_shares(category.fuse(model, search, 0.0), model)
        self.assert_shares(category.fuse(model, search, 1.0), search)
        self.assert_shares(category.fuse(model, {}, 1.0), model)
        self.assert_shares(category.fuse({}, search, 0.0), search)
        self.assertEqual(category.fuse({}, {}, 0.5), {})

    def test_equal_shares(self):
        """Broken: equal shares come in another order from run to run."""
        shares = category.fuse({"b": 0.5, "a": 0.5}, {}, 0.5)
        self.assertEqual(list(shares), ["a", "b"])

    def test_reweight(self):
        """Broken: a likely category moves its SKUs down, or by another
        amount than the documentation says."""
        given = (["pan", "cola", "cup", "odd"], [0.4, 0.3, 0.1, 0.1])
        shares = {"drink": 0.8, "kitchen": 0.2}
        # By the model: drink 0.35 and kitchen 0.45 of 0.8.
        drink, kitchen = 0.8 / (0.35 / 0.8), 0.2 / (0.45 / 0.8)
        products = {
            "cola": 0.3 * drink,
            "pan": 0.4 * kitchen,
            "cup": 0.1 * (drink + kitchen) / 2,
            "odd": 0.1,
        }
        sku_ids, scores = category.reweight(*given, categories_of, shares, 1.0)
        self.assertEqual(sku_ids, list(products))
        for score, product in zip(scores, products.values()):
            # The list keeps its sum.
            self.assertAlmostEqual(
                score, product * 0.9 / sum(products.values())
            )
        sku_ids, scores = category.reweight(*given, categories_of, shares, 0.5)
        # A ratio to the power of one half is its root.
        self.assertAlmostEqual(
            scores[sku_ids.index("cola")] / scores[sku_ids.index("pan")],
            3 / 4 * (drink / kitchen) ** 0.5,
        )

    def test_reweight_gives_the_categories_their_shares(self):
        """Broken: what the model says of the category is counted twice, and
        scores are surer than they are right."""
        given = (["pan", "cola", "tea"], [0.5, 0.3, 0.2])
        shares = {"drink": 0.7, "kitchen": 0.3}
        changed = category.reweight(*given, categories_of, shares, 1.0)
        self.assert_shares(category.by_model(*changed, categories_of), shares)
        model = category.by_model(*given, categories_of)
        sku_ids, scores = category.reweight(*given, categories_of, model, 1.0)
        self.assertEqual(sku_ids, given[0])
        for score, former in zip(scores, given[1]):
            self.assertAlmostEqual(score, former)

    def test_reweight_never_hides(self):
        """Broken: a wrong category takes the right SKU out of the answer."""
        sku_ids, scores = category.reweight(
            ["pan", "odd", "tea", "cola"],
            [0.96, 0.02, 0.02, 0.0],
            categories_of,
            {"drink": 1.0},
            1.0,
        )
        # tea 0.02 / (0.02 / 0.98), pan 0.01 in place of 0.
        products = {"tea": 0.98, "odd": 0.02, "pan": 0.0096, "cola": 0.0}
        self.assertEqual(sku_ids, list(products))
        for score, product in zip(scores, products.values()):
            self.assertAlmostEqual(score, product / sum(products.values()))

    def test_reweight_changes_nothing(self):
        """Broken: scores change though nobody asked for it."""
        for shares, influence in (({"drink": 1.0}, 0.0), ({}, 1.0)):
            self.assertEqual(
                category.reweight(
                    ["pan", "tea"], [0.6, 0.3], categories_of, shares, influence
                ),
                (["pan", "tea"], [0.6, 0.3]),
            )


if __name__ == "__main__":
    unittest.main()
