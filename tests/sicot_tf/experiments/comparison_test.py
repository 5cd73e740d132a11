"""Statistics over seeds, against NumPy."""

import numpy as np
import tensorflow as tf

from sicot_tf.experiments import comparison

# Four classes, the first two head; two records of each.
_LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
_COUNTS = np.array([10, 8, 2, 1])


def _top_labels(right):
    """`[seeds, records, 3]`: the label where right, else a wrong one."""
    best = np.where(np.array(right, bool), _LABELS, (_LABELS + 1) % 4)
    others = [
        np.broadcast_to((_LABELS + more) % 4, best.shape) for more in (2, 3)
    ]
    return np.stack([best, *others], axis=-1)


class ComparisonTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.arms = {
            # Class means 1, 0.5, 0, 0 and 1, 1, 0, 0.5.
            "base": _top_labels(
                [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 1]]
            ),
            # Class means 1, 1, 0.5, 0 and 1, 1, 1, 0.5.
            "arm": _top_labels(
                [[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 1]]
            ),
        }
        self.found = comparison.resample(
            _LABELS, self.arms, _COUNTS, 5, num_resamples=400
        )

    def test_points(self):
        """Breaks if a mean is not over classes, then over seeds.

        base: (1.5 / 4 + 2.5 / 4) / 2 = 0.5; arm: (2.5 / 4 + 3.5 / 4) / 2 =
        0.75. In the tail (0 + 0.25) / 2 and (0.25 + 0.75) / 2.
        """
        for group, base, arm in (
            ("overall", 0.5, 0.75),
            ("head", 0.875, 1.0),
            ("tail", 0.125, 0.5),
        ):
            members = self.found[group]
            for name, expected in (("base", base), ("arm", arm)):
                cell = comparison.accuracy(members[name], "macro", "top1")
                self.assertAllClose(cell["value"], expected)
            cell = comparison.difference(
                members["arm"], members["base"], "macro", "top1"
            )
            self.assertAllClose(cell["value"], arm - base)
        self.assertAllClose(
            comparison.accuracy(self.found["overall"]["arm"], "macro", "top1")[
                "seeds"
            ],
            [2.5 / 4, 3.5 / 4],
        )

    def test_intervals(self):
        """Breaks if classes or seeds are not drawn with replacement, or arms
        are not drawn together; against a plain loop over 20,000 draws."""
        found = comparison.resample(
            _LABELS, self.arms, _COUNTS, 5, num_resamples=20_000
        )["overall"]
        right = {
            name: (each[:, :, 0] == _LABELS).reshape(2, 4, 2).mean(axis=2)
            for name, each in self.arms.items()
        }
        generator = np.random.default_rng(1)
        differences, accuracies = [], []
        for _ in range(20_000):
            classes = generator.integers(4, size=4)
            seeds = generator.integers(2, size=2)
            arm, base = (
                right[name][seeds][:, classes].mean()
                for name in ("arm", "base")
            )
            accuracies.append(arm)
            differences.append(arm - base)
        cell = comparison.accuracy(found["arm"], "macro", "top1")
        drawn = found["arm"].drawn[:, 1, 0]
        self.assertAllClose(drawn.mean(), np.mean(accuracies), atol=0.005)
        self.assertAllClose(drawn.std(), np.std(accuracies), atol=0.005)
        self.assertAllClose(
            [cell["low"], cell["high"]],
            np.quantile(accuracies, [0.025, 0.975]),
            atol=0.07,
        )
        drawn = drawn - found["base"].drawn[:, 1, 0]
        self.assertAllClose(drawn.std(), np.std(differences), atol=0.005)
        cell = comparison.difference(
            found["arm"], found["base"], "macro", "top1"
        )
        expected = 2 * np.mean(np.round(differences, 12) <= 0)
        self.assertAllClose(cell["two_sided"], expected, atol=0.02)

    def test_surviving_share(self):
        """Breaks if the share is not that of the gain over the control.

        The gain is 0.25. A control that is as good as the baseline leaves all
        of it, one as good as the arm nothing.
        """
        members = self.found["overall"]
        arm, base = members["arm"], members["base"]
        # Classes 0 and 1 alone have gained nothing in seed 1: give all classes
        # the same gain, so that its interval is above 0.
        sure = comparison.Resampled(base.points + 0.25, base.drawn + 0.25)
        share = comparison.surviving_share(sure, base, base, "macro", "top1")
        self.assertAllClose(list(share.values()), [1, 1, 1])
        share = comparison.surviving_share(sure, base, sure, "macro", "top1")
        self.assertAllClose(list(share.values()), [0, 0, 0])
        # A gain that may be none has no share.
        self.assertIsNone(
            comparison.surviving_share(base, base, arm, "macro", "top1")[
                "value"
            ]
        )

    def test_coverage(self):
        """Breaks if intervals leave out that seeds differ.

        80 experiments with 200 classes of 5 records; runs of an arm scatter
        by 2 points around its accuracy. 95 % intervals of three seeds covered
        the true gain of 5 points in 74 of them, of one seed in 52.
        """
        generator = np.random.default_rng(0)
        labels = np.repeat(np.arange(200), 5)
        counts = np.repeat([50, 3], [40, 160])

        def run(chances):
            shift = generator.normal(scale=0.02)
            right = generator.random(1000) < np.repeat(chances + shift, 5)
            best = np.where(right, labels, (labels + 1) % 200)
            return np.stack(
                [best, (labels + 2) % 200, (labels + 3) % 200], axis=1
            )

        covered = dict.fromkeys((1, 3), 0)
        for _ in range(80):
            chances = generator.uniform(0.1, 0.8, size=200)
            for num_seeds in covered:
                arms = {
                    name: np.stack(
                        [run(chances + gain) for _ in range(num_seeds)]
                    )
                    for name, gain in (("base", 0), ("arm", 0.05))
                }
                found = comparison.resample(
                    labels, arms, counts, 40, num_resamples=300
                )["overall"]
                cell = comparison.difference(
                    found["arm"], found["base"], "macro", "top1"
                )
                covered[num_seeds] += cell["low"] <= 0.05 <= cell["high"]
        self.assertGreaterEqual(covered[3], 70)
        self.assertLess(covered[1], 62)

    def test_one_class_has_no_interval(self):
        """Breaks if a group of one class looks certain."""
        members = comparison.resample(
            _LABELS, self.arms, _COUNTS, 9, num_resamples=10
        )["head"]
        cell = comparison.difference(
            members["arm"], members["base"], "macro", "top1"
        )
        self.assertEqual(cell["value"], 0)
        self.assertIsNone(cell["low"])
        self.assertIsNone(cell["two_sided"])

    def test_blocks(self):
        """Breaks if many classes, drawn in blocks, give other numbers of
        resamples or NaN."""
        with self.subTest("one resample a block"):
            block, comparison._BLOCK = comparison._BLOCK, 4
            self.addCleanup(setattr, comparison, "_BLOCK", block)
            found = comparison.resample(
                _LABELS, self.arms, _COUNTS, 5, num_resamples=50
            )
            self.assertEqual(found["overall"]["arm"].drawn.shape, (50, 2, 2))
            self.assertFalse(np.isnan(found["overall"]["arm"].drawn).any())


if __name__ == "__main__":
    tf.test.main()
