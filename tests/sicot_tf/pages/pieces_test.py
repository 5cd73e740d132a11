"""Numbers as people read them, and pictures that load nothing."""

import pathlib
import tempfile

from absl.testing import absltest

from sicot_tf.pages import pieces


class PiecesTest(absltest.TestCase):
    def test_numbers(self):
        """Breaks if a page shows 1234567.0, or 0 where nothing was counted."""
        for value, expected in (
            (None, "-"),
            (0, "0"),
            (1234567.0, "1,234,567"),
            (4.417, "4.42"),
            (1234.56, "1,234.6"),
        ):
            self.assertEqual(pieces.number(value), expected)
        self.assertEqual(pieces.percent(None), "-")
        self.assertEqual(pieces.percent(0.1234), "12.3 %")
        self.assertEqual(pieces.count(1, "class", "es"), "1 class")
        self.assertEqual(pieces.count(1200, "class", "es"), "1,200 classes")

    def test_pictures(self):
        """Breaks if a picture stands in a page under another type."""
        with tempfile.TemporaryDirectory() as name:
            # b64("ab") is "YWI=".
            for suffix, kind in ((".svg", "svg+xml"), (".png", "png")):
                path = pathlib.Path(name) / f"plot{suffix}"
                path.write_bytes(b"ab")
                self.assertEqual(
                    pieces.data_uri(path), f"data:image/{kind};base64,YWI="
                )
        uri = "data:image/jpeg;base64,YWI="
        self.assertEqual(pieces.data_uri(b"ab"), uri)
        self.assertEqual(pieces.data_uri(uri), uri)

    def test_pictures_from_elsewhere(self):
        """Breaks if a page shows a hole where a picture can't be loaded."""
        for picture, said in (
            ("https://example.com/a.jpg", "received 'https://example"),
            (pathlib.Path("notes.txt"), "ends in .svg or .png"),
        ):
            with self.assertRaisesRegex(ValueError, said):
                pieces.data_uri(picture)


if __name__ == "__main__":
    absltest.main()
