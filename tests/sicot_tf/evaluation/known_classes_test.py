"""Labels of a dataset joined to those of a run."""

import tensorflow as tf

from sicot_tf.evaluation import known_classes


class KnownClassesTest(tf.test.TestCase):
    def test_one_out_one_in(self):
        """Breaks if a label is taken for the class at its place.

        The run knows a, b, c as 0, 1, 2. In the dataset 0 is new, and b is
        gone: a is 1 there and c is 2.
        """
        found = known_classes.KnownClasses.join("abc", ["0", "a", "c"])
        self.assertAllEqual(found.run_labels, [-1, 0, 2])
        self.assertEqual(found.unknown, ["0"])
        self.assertEqual(found.absent, ["b"])
        self.assertEqual(found.facts()["known"], 2)
        note = found.note(num_records=7, num_left_out=2)
        self.assertIn("2 of 7 records", note)
        self.assertIn("(1: 0)", note)
        self.assertIn("lacks 1 classes of the run: b", note)

    def test_the_same(self):
        """Breaks if a run on its own dataset is told of differences."""
        found = known_classes.KnownClasses.join("abc", "abc")
        self.assertAllEqual(found.run_labels, [0, 1, 2])
        self.assertEqual(found.note(5, 0), "")

    def test_nothing_in_common(self):
        """Breaks if accuracies of no class at all are reported."""
        with self.assertRaisesRegex(ValueError, "none of the 1 classes.*: x"):
            known_classes.KnownClasses.join("abc", "x")

    def test_difference(self):
        """Breaks if a refusal does not say what differs."""
        self.assertEqual(
            known_classes.difference("abc", "bcd"),
            "only the first has 1: a; only the second has 1: d",
        )
        self.assertIn("same SKUs", known_classes.difference("ab", "ba"))


if __name__ == "__main__":
    tf.test.main()
