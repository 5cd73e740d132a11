"""What is read ahead, and how much of it."""

import concurrent.futures
import unittest

from beam_jobs.pipelines import read_ahead


class ReadAheadTest(unittest.TestCase):
    def test_order_and_number(self):
        """Breaks if pictures go to other records, or all are in memory."""
        taken = []

        def items():
            for item in range(10):
                taken.append(item)
                yield item

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            found = read_ahead.read_ahead(pool, str, items(), 4)
            self.assertEqual(next(found), (0, "0"))
            self.assertEqual(taken, [0, 1, 2, 3])
            self.assertEqual(
                list(found), [(item, str(item)) for item in range(1, 10)]
            )

    def test_an_error_comes_where_its_item_would(self):
        """Breaks if a store that is away is not told."""
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            found = read_ahead.read_ahead(pool, lambda n: 1 // n, [1, 0], 4)
            self.assertEqual(next(found), (1, 1))
            with self.assertRaises(ZeroDivisionError):
                next(found)


if __name__ == "__main__":
    unittest.main()
