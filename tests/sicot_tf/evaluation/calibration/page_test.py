"""The page of a calibration and its plots."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation.calibration import page
from sicot_tf.evaluation.calibration import reliability
from sicot_tf.evaluation.calibration import threshold
from tests.helpers import calibrated
from tests.helpers import html_pages

_RNG = np.random.default_rng(0)
_LABELS = np.arange(40) % 4
_SCORES = _RNG.uniform(0.2, 1, 40)
_RIGHT = _RNG.uniform(size=40) < _SCORES
_MEASURED = calibrated.measure(
    labels=_LABELS, right=_RIGHT, before=_SCORES**0.5, after=_SCORES
)


class PageTest(tf.test.TestCase):
    def write(self, folder, calibration, members):
        folder.mkdir()
        return page.write(
            folder,
            name=html_pages.ATTACK,
            calibration=calibration,
            measured=_MEASURED,
            curves={
                group: threshold.curve(_SCORES[each], _RIGHT[each])
                for group, each in members.items()
            },
            notes=[html_pages.ATTACK],
        )

    def test_page_and_plots(self):
        """Breaks if a number or a plot is missing, a name becomes markup, or
        equal input gives other bytes."""
        members = reliability.group_members(_LABELS < 2)
        folder = pathlib.Path(self.get_temp_dir())
        path = self.write(folder / "a", calibrated.CALIBRATION, members)
        text = path.read_text("utf-8")
        # Twice as title, once as note.
        html_pages.assert_harmless(self, text, 3)
        self.assertEqual(text.count("data:image/svg+xml"), 2)
        self.assertIn("Temperature 2: expected calibration error", text)
        self.assertIn("75.0 % of 40 photos are recognised", text)
        self.assertIn("at least 90.5 %, one-sided 95 %", text)
        error = 100 * _MEASURED["errors"]["adaptive"]["after"]["value"]
        self.assertIn(f"<td>{error:.1f} [", text)
        self.assertIn("0123456789ab", text)
        drawn = (folder / "a" / "calibration_coverage.svg").read_text("utf-8")
        for group in ("overall: 40", "head: 20", "tail: 20"):
            self.assertIn(f"{group} photos", drawn)
        again = self.write(folder / "b", calibrated.CALIBRATION, members)
        self.assertEqual(again.read_bytes(), path.read_bytes())

    def test_without_threshold_or_head(self):
        """Breaks if a small shop gets no page."""
        without = dataclasses.replace(
            calibrated.CALIBRATION, threshold=None, num_accepted=0
        )
        path = self.write(
            pathlib.Path(self.get_temp_dir()) / "c",
            without,
            {"overall": np.ones(40, bool)},
        )
        self.assertNotIn("photos are recognised", path.read_text("utf-8"))


if __name__ == "__main__":
    tf.test.main()
