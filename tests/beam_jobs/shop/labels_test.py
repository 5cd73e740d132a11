"""Tests of labels: each pattern is drawn as it is called."""

import unittest

import numpy as np

from beam_jobs.shop import labels
from beam_jobs.shop import products


class LabelsTest(unittest.TestCase):
    def test_patterns(self):
        """Breaks if a pattern is another one: what repeats along a row, and
        what along a column."""
        varies = {}
        for number, (name, _) in enumerate(products.PATTERNS):
            dark = labels.pattern_mask(number, 40, (0, 0))
            varies[name] = (
                bool(np.ptp(dark, axis=1).any()),
                bool(np.ptp(dark, axis=0).any()),
            )
            self.assertEqual(dark.shape, (40, 40))
        self.assertEqual(
            varies,
            {
                "plain": (False, False),
                "striped": (True, False),
                "dotted": (True, True),
                "checked": (True, True),
                "banded": (False, True),
                "diagonal": (True, True),
            },
        )


if __name__ == "__main__":
    unittest.main()
