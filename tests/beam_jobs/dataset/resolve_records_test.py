"""The stage over all records, on facts written by hand."""

import contextlib
import dataclasses
import hashlib
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.dataset import resolve_records
from beam_jobs.dataset.steps import parts
from sicot_tf import config

_CONFIG = dataclasses.replace(
    config.DatasetConfig(), val_percent=0, test_percent=20
)


def _facts(row, **others):
    """Facts of a record like no other; trained unless it says otherwise."""
    record = {
        "row": row,
        "record_id": f"r{row}",
        "sku_id": "A",
        "sku_name": None,
        "title": "red bag",
        "words": ["red", "bag"],
        "source": "",
        "split": None,
        "group": None,
        "jpegs": "part-000000.jpegs",
        "offset": 100 * row,
        "length": 100,
        "picture": f"picture {row}",
        # Far apart from all others.
        "image_hash_high": int.from_bytes(
            hashlib.sha256(str(row).encode()).digest()[:8], "big"
        ),
        "image_hash_low": 0,
        "split_hash": 50 + 100 * row,
        "order_hash": (row * 2**61) % 2**64,
    } | others
    picture = record.pop("picture")
    record["sha256"] = hashlib.sha256(picture.encode()).digest()
    return record


class ResolveRecordsTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        # A quote in a path must not end the path.
        self._work = pathlib.Path(folder) / "it's work"
        self._work.mkdir()
        for name in ("parts", "shards"):
            (self._work / name).mkdir()

    def _resolver(self, facts, **settings):
        """A resolver over facts in parts of two."""
        for part in range(0, len(facts), 2):
            chunk = facts[part : part + 2]
            pq.write_table(
                pa.Table.from_pylist(chunk, parts.FACTS_SCHEMA),
                self._work / "parts" / parts.facts_key(part),
            )
        connection = self.enterContext(
            contextlib.closing(resolve_records.connect(self._work, 256))
        )
        resolver = resolve_records.Resolver(
            connection,
            self._work,
            self._work / "parts",
            dataclasses.replace(_CONFIG, **settings),
        )
        resolver.load()
        resolver.reject_duplicates()
        return resolver

    def _resolve(self, facts, frozen_test=(), **settings):
        """Splits of the records kept, and reasons of those rejected."""
        resolver = self._resolver(facts, **settings)
        resolver.find_units()
        resolver.assign_splits(frozen_test)
        resolver.set_vocabulary(sorted(resolver.count_words()))
        resolver.assign_labels()
        stems = resolver.write_shards(self._work / "shards")
        found = {}
        for stem in stems:
            table = pq.read_table(self._work / "shards" / f"{stem}.parquet")
            for record_id in table["record_id"].to_pylist():
                found[record_id] = stem.partition("-")[0]
        for row, reason, _ in resolver.rejected():
            (record_id,) = [
                each["record_id"] for each in facts if each["row"] == row
            ]
            self.assertNotIn(record_id, found)
            found[record_id] = reason
        self.assertEqual(len(found), len({f["record_id"] for f in facts}))
        return found

    def test_first_of_an_id_stays(self):
        """If it fails, a record is there twice, or not at all."""
        facts = [_facts(0), _facts(1), _facts(2, record_id="r0")]
        resolver = self._resolver(facts)
        resolver.find_units()
        resolver.assign_splits()
        ((row, _, _),) = resolver.rejected()
        self.assertEqual(row, 2)

    def test_one_picture_of_a_class(self):
        """If it fails, a class counts a picture several times."""
        facts = [_facts(i, picture="same") for i in range(3)]
        facts.append(_facts(3, picture="same", sku_id="B"))
        self.assertEqual(
            self._resolve(facts),
            {
                "r0": "train",
                "r1": "duplicate_image",
                "r2": "duplicate_image",
                "r3": "train",
            },
        )

    def test_duplicates_may_be_kept(self):
        """If it fails, --duplicates keep does not."""
        facts = [
            _facts(0, picture="same"),
            _facts(1, picture="same", split="test"),
        ]
        self.assertEqual(
            self._resolve(facts, duplicates="keep"),
            {"r0": "train", "r1": "test"},
        )

    def test_training_pictures_leave_the_test(self):
        """If it fails, tests measure memory."""
        facts = [
            _facts(0, image_hash_high=2**40 - 1),
            # Two bits from the first, in the test by its given split.
            _facts(1, image_hash_high=2**40 - 4, split="test", sku_id="B"),
            # The same picture as the first's, by another name.
            _facts(
                2, picture="picture 0", sku_id="B", image_hash_high=2**40 - 1
            ),
            _facts(3),
            _facts(4, sku_id="B"),
        ]
        self.assertEqual(
            self._resolve(facts, near_duplicate_distance=3),
            # Without a given split r0 and r2 follow r1 to the test.
            {"r0": "test", "r1": "test", "r2": "test", "r3": "train",
             "r4": "train"},
        )  # fmt: skip

    def test_given_training_pictures_leave(self):
        """If it fails, given splits may share pictures."""
        facts = [
            _facts(0, image_hash_high=2**40 - 1, split="train"),
            _facts(1, image_hash_high=2**40 - 4, split="val"),
            _facts(2, split="train"),
        ]
        self.assertEqual(
            self._resolve(facts, near_duplicate_distance=3),
            {"r0": "image_in_test", "r1": "val", "r2": "train"},
        )

    def test_groups_stay_together(self):
        """If it fails, photos of one session are in training and test.

        Group g and h are joined by one picture; all follow the smallest hash.
        """
        facts = [
            _facts(0, group="g", split_hash=7),
            _facts(1, group="g", split_hash=60),
            _facts(2, group="h", split_hash=70, picture="picture 1",
                   sku_id="B"),
            _facts(3, group="h", split_hash=80),
            _facts(4, split_hash=90),
            _facts(5, split_hash=90, sku_id="B"),
        ]  # fmt: skip
        found = self._resolve(facts)
        self.assertEqual(
            [found[f"r{i}"] for i in range(6)],
            ["test", "test", "test", "test", "train", "train"],
        )

    def test_frozen_test(self):
        """If it fails, a test list that was published changes."""
        facts = [_facts(i, split_hash=99) for i in range(4)]
        self.assertEqual(
            self._resolve(facts, frozen_test=["r2", "gone"]),
            {"r0": "train", "r1": "train", "r2": "test", "r3": "train"},
        )

    def test_an_equal_number_of_each_class(self):
        """If it fails, --test_per_class takes others than said."""
        facts = [_facts(i, split_hash=i) for i in range(4)]
        facts += [_facts(i, split_hash=9 - i, sku_id="B") for i in (4, 5, 6)]
        found = self._resolve(facts, test_per_class=1, val_per_class=1)
        # By the smallest hashes: r0, r1 of A; r6, r5 of B.
        self.assertEqual(
            [found[f"r{i}"] for i in range(7)],
            ["test", "val", "train", "train", "train", "val", "test"],
        )

    def test_words_and_labels(self):
        """If it fails, records train without words, or tests ask for what
        was never trained."""
        facts = [
            _facts(0, words=["bag", "bag"]),
            _facts(1, words=["rare"]),
            _facts(2, words=[], sku_id="B"),
            _facts(3, words=["bag"], sku_id="B", split="test"),
        ]
        resolver = self._resolver(facts, require_words=True)
        resolver.find_units()
        resolver.assign_splits()
        self.assertEqual(resolver.count_words(), {"bag": 2, "rare": 1})
        resolver.set_vocabulary(["bag"])
        resolver.assign_labels(["old", "A"])
        self.assertEqual(
            list(resolver.class_counts()),
            [
                ("old", None, {"train": 0, "val": 0, "test": 0}),
                ("A", None, {"train": 1, "val": 0, "test": 0}),
            ],
        )
        reasons = [reason for _, reason, _ in resolver.rejected()]
        self.assertEqual(
            reasons, ["no_words", "no_words", "class_not_in_train"]
        )

    def test_shards_are_ranges_of_the_order(self):
        """If it fails, the order of records depends on the shards."""
        facts = [_facts(row, length=2**20) for row in range(8)]
        resolver = self._resolver(facts, shard_megabytes=2)
        resolver.find_units()
        resolver.assign_splits()
        resolver.set_vocabulary([])
        resolver.assign_labels()
        stems = resolver.write_shards(self._work / "shards")
        # Eight megabytes in shards of two; order_hash is row / 8 of 2 ** 64.
        self.assertEqual(stems, [f"train-{i:05d}-of-00004" for i in range(4)])
        found = [
            pq.read_table(self._work / "shards" / f"{stem}.parquet")[
                "record_id"
            ].to_pylist()
            for stem in stems
        ]
        self.assertEqual(
            found, [["r0", "r1"], ["r2", "r3"], ["r4", "r5"], ["r6", "r7"]]
        )


if __name__ == "__main__":
    unittest.main()
