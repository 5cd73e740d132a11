"""Tests of the accuracies and their intervals."""

import json

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from sicot_tf.evaluation import metrics

# Four classes with 9, 5, 1 and 0 training images; head from 5 on, so classes
# 0 and 1 are head. Class 0 has four test records, 1 and 2 have two, 3 one.
_TRAIN_COUNTS = np.array([9, 5, 1, 0])
_LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3])
_TOP_LABELS = np.array(
    [
        [0, 1, 2],  # right
        [0, 2, 3],  # right
        [0, 1, 3],  # right
        [1, 2, 3],  # wrong, not in the first three
        [1, 0, 2],  # right
        [0, 2, 1],  # right at the third place
        [0, 2, 1],  # right at the second place
        [1, 0, 3],  # wrong
        [0, 1, 3],  # right at the third place
    ]
)


def _table(**changes):
    arguments = {
        "labels": _LABELS,
        "top_labels": _TOP_LABELS,
        "train_counts": _TRAIN_COUNTS,
        "head_threshold": 5,
        "num_resamples": 200,
    }
    return metrics.accuracy_table(**(arguments | changes))


def _value(table, group, metric, average):
    return table["groups"][group][metric][average]["value"]


def _interval(cell):
    return cell["low"], cell["high"]


class AccuracyTableTest(parameterized.TestCase):
    @parameterized.parameters(
        # Right at top-1: class 0 3/4, 1 1/2, 2 0/2, 3 0/1.
        ("overall", "top1", "micro", 4 / 9),
        ("overall", "top1", "macro", (3 / 4 + 1 / 2 + 0 + 0) / 4),
        ("head", "top1", "micro", 4 / 6),
        ("head", "top1", "macro", (3 / 4 + 1 / 2) / 2),
        ("tail", "top1", "micro", 0.0),
        ("tail", "top1", "macro", 0.0),
        # Right at top-3: class 0 3/4, 1 2/2, 2 1/2, 3 1/1.
        ("overall", "top3", "micro", 7 / 9),
        ("overall", "top3", "macro", (3 / 4 + 1 + 1 / 2 + 1) / 4),
        ("head", "top3", "micro", 5 / 6),
        ("head", "top3", "macro", (3 / 4 + 1) / 2),
        ("tail", "top3", "micro", 2 / 3),
        ("tail", "top3", "macro", (1 / 2 + 1) / 2),
    )
    def test_values(self, group, metric, average, expected):
        """Every number of the results page rests on these."""
        self.assertAlmostEqual(
            _value(_table(), group, metric, average), expected, places=9
        )

    def test_counts(self):
        """A reader could not tell on how many classes a number stands."""
        groups = _table()["groups"]
        counted = {
            group: (groups[group]["num_records"], groups[group]["num_classes"])
            for group in groups
        }
        self.assertEqual(
            counted, {"overall": (9, 4), "head": (6, 2), "tail": (3, 2)}
        )
        # Class 3 was never trained and is reported with the tail.
        self.assertEqual(
            groups["tail"]["num_classes_without_training_images"], 1
        )

    def test_boundary_is_head(self):
        """Table 4's ranges start at the boundary: exactly 5 is head."""
        self.assertEqual(_table()["groups"]["head"]["num_classes"], 2)
        above = _table(head_threshold=6)
        self.assertEqual(above["groups"]["head"]["num_classes"], 1)

    def test_classes_without_records_do_not_count(self):
        """Macro accuracy would sink with every class that has no test."""
        table = _table(train_counts=np.array([9, 5, 1, 0, 8]))
        self.assertEqual(
            table["groups"]["head"],
            _table()["groups"]["head"] | {"num_classes_without_records": 1},
        )

    def test_empty_group_is_none(self):
        """NaN is not JSON, and 0 would read as a bad result."""
        table = _table(head_threshold=100)
        head = table["groups"]["head"]
        self.assertEqual(head["num_records"], 0)
        nothing = {"value": None, "low": None, "high": None}
        self.assertEqual(head["top1"], {"micro": nothing, "macro": nothing})
        json.dumps(table, allow_nan=False)

    def test_no_records_at_all(self):
        """An empty test split must be reported, not crash."""
        table = _table(
            labels=np.zeros([0], np.int64),
            top_labels=np.zeros([0, 3], np.int64),
        )
        self.assertIsNone(_value(table, "overall", "top1", "micro"))
        self.assertIsNone(table["reference"]["largest_classes"]["top1"])

    def test_single_class_has_no_interval(self):
        """[0.75, 0.75] from one class would claim certainty."""
        table = _table(head_threshold=6)
        cell = table["groups"]["head"]["top1"]["macro"]
        self.assertEqual(cell, {"value": 0.75, "low": None, "high": None})

    def test_reference(self):
        """Accuracy means little without what needs no picture."""
        reference = _table()["reference"]
        self.assertEqual(reference["chance"], {"top1": 0.25, "top3": 0.75})
        # Class 0 has the most training images and 4 of 9 test records;
        # classes 0, 1 and 2 have 8 of 9.
        self.assertAlmostEqual(reference["largest_classes"]["top1"], 4 / 9)
        self.assertAlmostEqual(reference["largest_classes"]["top3"], 8 / 9)

    @parameterized.parameters(
        ({"head_threshold": 0}, "head_threshold of at least 1"),
        ({"labels": np.array([0, 4])}, "labels from 0 to 3, received 0 to 4"),
        ({"labels": _LABELS[:3]}, r"top_labels of shape \[3, 3 or more\]"),
        ({"top_labels": _TOP_LABELS[:, :2]}, r"received \(9, 2\)"),
        ({"top_labels": _TOP_LABELS - 1}, "top_labels from 0 to 3"),
        ({"labels": _LABELS / 1.0}, "labels as integers"),
        ({"train_counts": np.array([3, -1, 0, 0])}, "zero or more"),
    )
    def test_errors(self, changes, message):
        """Shifted or mixed-up inputs would give plausible wrong numbers."""
        with self.assertRaisesRegex(ValueError, message):
            _table(**changes)

    def test_two_classes_need_two_columns(self):
        """There is no third best of two classes."""
        table = metrics.accuracy_table(
            np.array([0, 1]), np.array([[0, 1], [0, 1]]), np.array([5, 1]), 5
        )
        self.assertEqual(_value(table, "overall", "top3", "micro"), 1.0)


class IntervalTest(absltest.TestCase):
    def test_same_seed_same_interval(self):
        """metrics.json would change with every evaluation."""
        self.assertEqual(_table(seed=1), _table(seed=1))

    def test_all_right(self):
        """Nothing but 1 can be drawn from ones."""
        table = _table(top_labels=np.stack([_LABELS] * 3, axis=1))
        for group in metrics.GROUPS:
            for average in metrics.AVERAGES:
                cell = table["groups"][group]["top1"][average]
                self.assertEqual(_interval(cell), (1.0, 1.0))

    def test_two_classes_by_hand(self):
        """The interval comes from drawing classes.

        Of two classes, one all right and one all wrong, a resample has 0, 1
        or 2 right ones with shares 1/4, 1/2, 1/4: 2.5 % and 97.5 % are the
        extremes.
        """
        table = metrics.accuracy_table(
            np.array([0, 0, 1]),
            np.array([[0, 1], [0, 1], [0, 1]]),
            np.array([5, 5]),
            5,
        )
        self.assertEqual(
            table["groups"]["head"]["top1"]["macro"],
            {"value": 0.5, "low": 0.0, "high": 1.0},
        )

    def test_duplicated_records_change_nothing(self):
        """More photos of the same classes say nothing about other classes.

        A bootstrap over records would shrink the interval by 1/sqrt(10).
        """
        many = _table(
            labels=np.repeat(_LABELS, 10),
            top_labels=np.repeat(_TOP_LABELS, 10, axis=0),
        )
        for group in metrics.GROUPS:
            for metric in metrics.METRICS:
                self.assertEqual(
                    many["groups"][group][metric],
                    _table()["groups"][group][metric],
                )

    def test_width_and_coverage(self):
        """The intervals hold the true accuracy about as often as they say.

        400 test sets of 50 classes with 8 records; a class's accuracy is
        drawn from Beta(2, 1), so the true mean is 2/3. With 50 classes a
        percentile interval covers slightly less than 95 %; an interval over
        records covers about 76 %.
        """
        generator = np.random.default_rng(0)
        labels = np.repeat(np.arange(50), 8)
        covered = 0
        for seed in range(400):
            right = generator.random(400) < np.repeat(
                generator.beta(2, 1, 50), 8
            )
            guesses = np.where(right, labels, (labels + 1) % 50)
            table = metrics.accuracy_table(
                labels,
                np.stack([guesses] * 3, axis=1),
                np.ones(50, np.int64),
                1,
                num_resamples=400,
                seed=seed,
            )
            cell = table["groups"]["overall"]["top1"]["macro"]
            covered += cell["low"] <= 2 / 3 <= cell["high"]
        self.assertBetween(covered / 400, 0.90, 0.98)

    def test_blocks_give_one_distribution(self):
        """Large inputs are resampled in blocks; none may be left unfilled."""
        labels = np.arange(6)
        guesses = np.stack([np.array([0, 1, 2, 0, 0, 0])] * 3, axis=1)
        block = metrics._BLOCK
        try:
            # Two distinct rows: blocks of 7 resamples, the last one smaller.
            metrics._BLOCK = 14
            table = metrics.accuracy_table(
                labels, guesses, np.ones(6, np.int64), 1, num_resamples=500
            )
        finally:
            metrics._BLOCK = block
        # Right in 3 of 6 classes: binomial(6, 1/2) / 6. P(0) = 0.0156 and
        # P(<= 1) = 0.109, so the 2.5 % quantile is 1/6, and 5/6 above.
        low, high = _interval(table["groups"]["overall"]["top1"]["macro"])
        np.testing.assert_allclose([low, high], [1 / 6, 5 / 6], atol=1e-9)


class CompareTest(absltest.TestCase):
    def _compare(self, top_labels_a, top_labels_b, **changes):
        arguments = {
            "name_a": "baseline",
            "name_b": "co-training",
            "num_resamples": 500,
        }
        return metrics.compare(
            _LABELS,
            top_labels_a,
            top_labels_b,
            _TRAIN_COUNTS,
            5,
            **(arguments | changes),
        )

    def test_with_itself(self):
        """Equal runs must never look different."""
        result = self._compare(_TOP_LABELS, _TOP_LABELS)
        cell = result["groups"]["overall"]["top1"]["macro"]
        self.assertEqual(
            cell,
            {
                "a": 0.3125,
                "b": 0.3125,
                "difference": 0.0,
                "low": 0.0,
                "high": 0.0,
                "share_not_above_zero": 1.0,
                "two_sided_share": 1.0,
            },
        )

    def test_difference_and_sign(self):
        """b - a: a gain of run b is positive, and swapping turns it round."""
        better = _TOP_LABELS.copy()
        better[3] = [0, 1, 2]
        better[5] = [1, 0, 2]
        # Class 0 from 3/4 to 1, class 1 from 1/2 to 1: 3/8 on average. Both
        # head classes gain, so every resample does.
        result = self._compare(_TOP_LABELS, better)
        cell = result["groups"]["head"]["top1"]["macro"]
        self.assertAlmostEqual(cell["difference"], 0.375)
        # Two classes: a quarter of the resamples draws either one twice.
        self.assertEqual(_interval(cell), (0.25, 0.5))
        self.assertEqual(cell["share_not_above_zero"], 0.0)
        self.assertEqual(cell["two_sided_share"], 0.0)
        back = self._compare(better, _TOP_LABELS)
        cell = back["groups"]["head"]["top1"]["macro"]
        self.assertEqual(_interval(cell), (-0.5, -0.25))
        self.assertEqual(cell["share_not_above_zero"], 1.0)
        self.assertEqual(cell["two_sided_share"], 0.0)
        # The tail is untouched.
        cell = result["groups"]["tail"]["top1"]["macro"]
        self.assertEqual((cell["difference"], cell["low"]), (0.0, 0.0))

    def test_values_equal_the_tables(self):
        """The comparison and the tables stand on the same page."""
        other = _TOP_LABELS[::-1].copy()
        result = self._compare(_TOP_LABELS, other)
        for name, top_labels in (("a", _TOP_LABELS), ("b", other)):
            table = _table(top_labels=top_labels)
            for group in metrics.GROUPS:
                for metric in metrics.METRICS:
                    for average in metrics.AVERAGES:
                        self.assertEqual(
                            result["groups"][group][metric][average][name],
                            _value(table, group, metric, average),
                        )

    def test_paired_is_narrower_than_unpaired(self):
        """Classes are equally hard for both runs; pairing removes that.

        40 classes, half all right and half all wrong in run a; run b gets one
        more record right in each wrong class. The difference is 0 or 1/10 a
        class, while the accuracy of a run swings between 0 and 1.
        """
        labels = np.repeat(np.arange(40), 10)
        wrong = (labels + 1) % 40
        first = np.arange(400) % 10 == 0
        right_a = labels < 20
        guesses = [
            np.stack([np.where(right, labels, wrong)] * 3, axis=1)
            for right in (right_a, right_a | first)
        ]
        counts = np.ones(40, np.int64)
        result = metrics.compare(
            labels, *guesses, counts, 1, name_a="a", name_b="b"
        )
        cell = result["groups"]["overall"]["top1"]["macro"]
        self.assertAlmostEqual(cell["difference"], 0.05)
        self.assertLess(cell["high"] - cell["low"], 0.04)
        table = metrics.accuracy_table(labels, guesses[0], counts, 1)
        low, high = _interval(table["groups"]["overall"]["top1"]["macro"])
        self.assertGreater(high - low, 0.2)

    def test_cancelling_gain_and_loss_is_zero(self):
        """0.1 + 0.2 is not 0.3 in floating point; here it must be.

        Three classes with ten records: run b gains 1 and 2 records in the
        first two and loses 3 in the last.
        """
        labels = np.repeat(np.arange(3), 10)
        place = np.tile(np.arange(10), 3)
        guesses = [
            np.where(place < np.repeat(right, 10), labels, (labels + 1) % 3)
            for right in ([0, 0, 3], [1, 2, 0])
        ]
        result = metrics.compare(
            labels,
            *(np.stack([guess] * 3, axis=1) for guess in guesses),
            np.array([3, 3, 3]),
            1,
            name_a="a",
            name_b="b",
            num_resamples=4000,
        )
        cell = result["groups"]["overall"]["top1"]["macro"]
        self.assertEqual(cell["difference"], 0.0)
        # Of 27 draws, 10 lose (the last class three times, twice, or once
        # beside the first twice), 6 have each class once: zero. The rest, 11,
        # gains, so the two-sided share is capped: 2 * min(16, 17) / 27 > 1.
        np.testing.assert_allclose(
            cell["share_not_above_zero"], 16 / 27, atol=0.03
        )
        self.assertEqual(cell["two_sided_share"], 1.0)

    def test_empty_group(self):
        """No tail photos: no difference, and valid JSON."""
        result = metrics.compare(
            np.array([0, 1]),
            np.array([[0, 1], [1, 0]]),
            np.array([[0, 1], [0, 1]]),
            np.array([5, 5]),
            5,
            name_a="a",
            name_b="b",
        )
        cell = result["groups"]["tail"]["top1"]["micro"]
        self.assertEqual(set(cell.values()), {None})
        json.dumps(result, allow_nan=False)


class AccuracyByTrainingImagesTest(absltest.TestCase):
    def test_bins(self):
        """Bins double, join small neighbours, and break at the boundary."""
        # Training images 0 to 40, one class each, one test record each;
        # classes with even numbers are right.
        counts = np.arange(41)
        guesses = np.where(counts % 2 == 0, counts, (counts + 1) % 41)
        bins = metrics.accuracy_by_training_images(
            counts, np.stack([guesses] * 3, axis=1), counts, 20
        )
        # Doubling: 0, 1, 2, 3-4, 5-8, 9-16, 17-19 | 20-32, 33-40. The first
        # four hold 1, 1, 1 and 2 classes and become one of 5; 5-8 holds 4
        # and takes 9-16; the last of the tail holds 3 and joins that one.
        found = [
            (
                row["group"],
                row["min_images"],
                row["max_images"],
                row["num_classes"],
            )
            for row in bins
        ]
        self.assertEqual(
            found,
            [
                ("tail", 0, 4, 5),
                ("tail", 5, 19, 15),
                ("head", 20, 32, 13),
                ("head", 33, 40, 8),
            ],
        )
        # Even numbers: 3 of 0-4, 7 of 5-19, 7 of 20-32, 4 of 33-40.
        np.testing.assert_allclose(
            [row["value"] for row in bins], [3 / 5, 7 / 15, 7 / 13, 4 / 8]
        )
        for row in bins:
            self.assertBetween(row["value"], row["low"], row["high"])

    def test_powers_of_two_close_a_bin(self):
        """A count of 4 must not stand in the bin 5-8."""
        # The last class, with 50, has no test record and is left out.
        counts = np.append(np.repeat([0, 1, 2, 3, 4, 5, 8, 9], 5), 50)
        labels = np.arange(40)
        bins = metrics.accuracy_by_training_images(
            labels, np.stack([labels] * 3, axis=1), counts, 100
        )
        self.assertEqual(
            [(row["min_images"], row["max_images"]) for row in bins],
            [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 9)],
        )


if __name__ == "__main__":
    absltest.main()
