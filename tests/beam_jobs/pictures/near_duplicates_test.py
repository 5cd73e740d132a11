"""The banded join against all pairs."""

import itertools
import unittest

import duckdb
import numpy as np

from beam_jobs.pictures import near_duplicates


def _pairs(hashes, max_distance, **settings):
    connection = duckdb.connect()
    connection.execute(
        """create table pictures
        (row bigint, image_hash_high ubigint, image_hash_low ubigint)"""
    )
    connection.execute("create table pairs (a bigint, b bigint)")
    connection.executemany(
        "insert into pictures values (?, ?, ?)",
        [(row, int(x), int(y)) for row, (x, y) in enumerate(hashes)],
    )
    left_out = near_duplicates.insert_pairs(
        connection,
        "pictures",
        "pairs",
        max_distance=max_distance,
        **{"min_bits": 0, **settings},
    )
    pairs = connection.execute("select a, b from pairs").fetchall()
    # Each pair once.
    assert len(pairs) == len(set(pairs))
    pairs = set(pairs)
    return pairs, left_out


def _groups(pairs):
    connection = duckdb.connect()
    connection.execute("create table pairs (a bigint, b bigint)")
    for pair in pairs:
        connection.execute("insert into pairs values (?, ?)", pair)
    near_duplicates.group_pairs(connection, "pairs", "groups")
    return connection.execute("from groups order by row").fetchall()


class NearDuplicatesTest(unittest.TestCase):
    def test_equals_all_pairs(self):
        """If it fails, similar pictures are missed, or others taken."""
        rng = np.random.default_rng(0)
        hashes = rng.integers(0, 2**64, (200, 2), np.uint64)
        # Neighbours of the first hundred, 0 to 9 bits away.
        near = hashes[:100].copy()
        for row, each in enumerate(near):
            for bit in rng.choice(128, row % 10, replace=False):
                each[bit // 64] ^= np.uint64(1 << int(bit % 64))
        hashes = np.concatenate([hashes, near])
        for max_distance in (0, 1, 3, 6):
            expected = {
                (a, b)
                for a in range(len(hashes))
                for b in range(a + 1, len(hashes))
                if np.bitwise_count(hashes[a] ^ hashes[b]).sum() <= max_distance
            }
            # Ten rows for each distance up to the largest.
            self.assertEqual(len(expected), 10 * (max_distance + 1))
            self.assertEqual(_pairs(hashes, max_distance), (expected, 0))

    def test_differences_in_few_bands(self):
        """If it fails, pictures are missed whose differences lie together."""
        # The bits 0, 5, 10 ... of both numbers are the first of five bands.
        # All ways to have four differences in two bands, or in one.
        rng = np.random.default_rng(0)
        hashes = []
        for first, second in itertools.product(range(5), repeat=2):
            for in_first in range(5):
                bits = [first + 5 * i for i in range(in_first)]
                bits += [second + 25 + 5 * i for i in range(4 - in_first)]
                mask = np.uint64(sum(1 << bit for bit in bits))
                x, y = rng.integers(0, 2**64, 2, np.uint64)
                hashes += [(x, y), (x, y ^ mask)]
        expected = {(row, row + 1) for row in range(0, len(hashes), 2)}
        self.assertEqual(_pairs(hashes, 4), (expected, 0))

    def test_equal_hashes_are_joined_once_each(self):
        """If it fails, a thousand copies are a million pairs."""
        pairs, _ = _pairs([(5, 5)] * 4, 3)
        self.assertEqual(pairs, {(0, 1), (0, 2), (0, 3)})

    def test_crowded_bands_are_counted(self):
        """If it fails, plain white pictures take the memory, or silently
        leave."""
        # The bits 0, 4, 8, 12 are all in the first of four bands: 0 and 8 in
        # one half of it, 4 and 12 in the other.
        hashes = [(1 << (4 * i), 0) for i in range(4)]
        pairs, left_out = _pairs(hashes, 3, max_bucket=3)
        # The second band with each half of the third, and the third with each
        # of the fourth, are shared by all four. The fourth with a half of the
        # first is by those two that have no bit there.
        self.assertEqual((pairs, left_out), ({(0, 2), (1, 3)}, 4))
        pairs, left_out = _pairs(hashes, 3, max_bucket=4)
        self.assertEqual((len(pairs), left_out), (6, 0))

    def test_plain_pictures_are_counted(self):
        """If it fails, all pictures of little detail are one product."""
        pairs, left_out = _pairs([(7, 0), (7, 0), (15, 0), (15, 0)], 0)
        self.assertEqual((pairs, left_out), ({(0, 1), (2, 3)}, 0))
        pairs, left_out = _pairs(
            [(7, 0), (7, 0), (15, 0), (15, 0)], 0, min_bits=4
        )
        self.assertEqual((pairs, left_out), ({(2, 3)}, 2))

    def test_groups(self):
        """If it fails, what belongs together is parted."""
        pairs = [(5, 9), (2, 3), (9, 7), (3, 7), (11, 10)]
        self.assertEqual(
            _groups(pairs),
            [(2, 2), (3, 2), (5, 2), (7, 2), (9, 2), (10, 10), (11, 10)],
        )
        self.assertEqual(_groups([]), [])

    def test_long_chains(self):
        """If it fails, of many shots that differ a little some are parted."""
        rng = np.random.default_rng(0)
        rows = rng.permutation(1000).tolist()
        self.assertEqual(
            _groups(list(itertools.pairwise(rows))),
            [(row, 0) for row in range(1000)],
        )


if __name__ == "__main__":
    unittest.main()
