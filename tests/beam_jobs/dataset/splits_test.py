"""Which units go to training, validation and test."""

import dataclasses
import unittest

import duckdb

from beam_jobs.dataset import splits
from sicot_tf import config


def _by_class(units, **settings):
    """Splits of units without one: class, unit, size, split, by their hash."""
    dataset_config = dataclasses.replace(config.DatasetConfig(), **settings)
    connection = duckdb.connect()
    connection.execute(
        """create table units (sku_id varchar, unit bigint, size bigint,
        split varchar, hash ubigint)"""
    )
    connection.executemany(
        "insert into units values (?, ?, ?, ?, ?)",
        [(*unit, place) for place, unit in enumerate(units)],
    )
    candidates = connection.execute(
        splits.class_candidates("units", dataset_config)
    ).fetchall()
    chosen = dict(splits.choose_by_class(candidates))
    return {
        unit: chosen.get(unit, "train")
        for _, unit, _, split in units
        if split is None
    }


class SplitsTest(unittest.TestCase):
    def test_by_percent(self):
        """If it fails, splits have the wrong size, or move."""
        dataset_config = dataclasses.replace(
            config.DatasetConfig(), val_percent=10, test_percent=20
        )
        found = duckdb.sql(
            f"""select {splits.percent_split("hash", dataset_config)}
            from (values (9), (110), (129), (230), (399)) as units (hash)"""
        ).fetchall()
        # By hash % 100: 9 | 10, 29 | 30, 99.
        self.assertEqual(
            [split for (split,) in found],
            ["val", "test", "test", "train", "train"],
        )

    def test_an_equal_number_of_each_class(self):
        """If it fails, tail classes weigh less in the test than head ones."""
        units = [("A", i, 1, None) for i in range(6)]
        units += [("B", i, 1, None) for i in range(6, 9)]
        units += [("C", 9, 1, None)]
        found = _by_class(units, test_per_class=2, val_per_class=1)
        # B keeps one for training, so it has none for validation; C only
        # that one.
        expected = ["test", "test", "val", "train", "train", "train"]
        expected += ["test", "test", "train", "train"]
        self.assertEqual([found[i] for i in range(10)], expected)

    def test_units_stay_together(self):
        """If it fails, nearly equal pictures are in training and test."""
        units = [("A", 1, 3, None), ("A", 2, 2, None), ("A", 3, 4, None)]
        # Three are too many for a test of two.
        self.assertEqual(
            _by_class(units, test_per_class=2),
            {1: "train", 2: "test", 3: "train"},
        )

    def test_small_units_fill_what_large_ones_leave(self):
        """If it fails, a class has fewer test records than it could."""
        units = [("A", i, 2, None) for i in range(4)]
        units += [("A", i, 1, None) for i in range(4, 7)]
        units += [("A", 7, 4, None)]
        # Test of three: 0 and, as 1 to 3 are too large, 4. Validation of
        # three: 1 and 5.
        self.assertEqual(
            _by_class(units, test_per_class=3, val_per_class=3),
            {0: "test", 1: "val", 2: "train", 3: "train", 4: "test", 5: "val",
             6: "train", 7: "train"},
        )  # fmt: skip

    def test_what_is_given_counts(self):
        """If it fails, frozen tests grow with every delivery."""
        units = [("A", 1, 1, None), ("A", 2, 1, "test"), ("A", 3, 1, None)]
        self.assertEqual(
            _by_class(units, test_per_class=2), {1: "test", 3: "train"}
        )
        # A given training record is enough of a guard.
        units = [("A", 1, 1, None), ("A", 2, 1, "train")]
        self.assertEqual(_by_class(units, test_per_class=1), {1: "test"})
        self.assertEqual(
            _by_class(units, test_per_class=1, min_train_per_class=2),
            {1: "train"},
        )

    def test_new_units_move_few(self):
        """If it fails, every delivery shuffles the test set."""
        before = _by_class(
            [("A", i, 1, None) for i in range(0, 40, 2)], test_per_class=3
        )
        # In the order of hashes: unit 1 comes second, unit 41 last.
        after = _by_class(
            [("A", i, 1, None) for i in [0, 1, *range(2, 40, 2), 41]],
            test_per_class=3,
        )
        moved = [i for i in before if before[i] != after[i]]
        # 0, 2, 4 before; 0, 1, 2 after.
        self.assertEqual(moved, [4])


if __name__ == "__main__":
    unittest.main()
