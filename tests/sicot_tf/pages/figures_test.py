"""Figures: equal bytes, whole files, axes that tell the truth."""

import pathlib
import tempfile
import xml.etree.ElementTree as ElementTree

from absl.testing import absltest
from PIL import Image

from sicot_tf.pages import figures
from tests.helpers import imports


def _draw(top):
    plot = figures.create(3, 2)
    panel = plot.subplots()
    panel.bar([0, 1], [top, 1], label="a <b> & c")
    panel.set_ylim(0, top)
    figures.show_counts(panel.yaxis, 8)
    figures.show_percent(panel.xaxis)
    figures.write_above(panel, 0, top, f"{top:,}")
    panel.legend()
    return plot, panel


class FiguresTest(absltest.TestCase):
    def test_files(self):
        """Breaks if a page changes without a reason, or a killed job leaves
        half a figure under its name."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            svg, png = figures.save(_draw(3)[0], folder / "plot.svg")
            self.assertEqual(
                sorted(folder.iterdir()),
                [folder / "plot.png", folder / "plot.svg"],
            )
            with Image.open(png) as image:
                self.assertEqual(image.size, (450, 300))  # 150 dots an inch.
            # Reads it if markup in a label is escaped.
            ElementTree.parse(svg)
            again = figures.save(_draw(3)[0], folder / "again")
            self.assertEqual(
                [path.read_bytes() for path in again],
                [svg.read_bytes(), png.read_bytes()],
            )

    def test_axes(self):
        """Breaks if two ticks of an axis of counts have the same text."""
        for top, expected in (
            (2, ["0", "1", "2"]),
            (4000, [f"{n:,}" for n in range(0, 4001, 500)]),
        ):
            plot, panel = _draw(top)
            plot.draw_without_rendering()
            found = [each.get_text() for each in panel.get_yticklabels()]
            self.assertEqual(found, expected)
        self.assertIn(
            "50 %", [each.get_text() for each in panel.get_xticklabels()]
        )

    def test_without_global_state(self):
        """Breaks if drawing opens a display or keeps figures alive."""
        found = imports.loaded(
            "import sicot_tf.evaluation.plots", {"matplotlib.pyplot"}
        )
        self.assertEqual(found, set())


if __name__ == "__main__":
    absltest.main()
