"""Templates: found beside their module, strict, and part of what is built."""

import pathlib
import subprocess
import sys
import tarfile
import tempfile

import jinja2
from absl.testing import absltest

from sicot_tf.pages import page
from tests.helpers import html_pages

_ROOT = pathlib.Path(__file__).parents[3]


class PageTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def _write(self, body, **values):
        template = self.folder / "some.html.jinja"
        template.write_text(
            '{% extends "frame.html.jinja" %}'
            '{% import "pieces.html.jinja" as pieces %}'
            "{% block body %}" + body + "{% endblock %}"
        )
        path = self.folder / "some.html"
        page.write_page(path, template=template, title="Some", **values)
        return path.read_text("utf-8")

    def test_frame(self):
        """Breaks if a page is none for a browser, or a file is left over."""
        text = self._write("<p>{{ words | number }}</p>", words=1234)
        self.assertStartsWith(text, '<!DOCTYPE html>\n<html lang="en">')
        self.assertIn("<title>Some</title>", text)
        self.assertIn("<h1>Some</h1>\n<p>1,234</p>", text)
        self.assertIn("default-src 'none'", text)
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()),
            ["some.html", "some.html.jinja"],
        )

    def test_pieces_escape(self):
        """Breaks if a piece takes a text for HTML, in its attributes too."""
        attack = html_pages.ATTACK
        text = self._write(
            "{{ pieces.table([text], [[text]], text, text) }}"
            "{{ pieces.paragraphs([text], text) }}"
            "{{ pieces.picture(none, text) }}"
            "{{ pieces.picture('data:image/png;base64,' ~ text, text) }}"
            "{{ pieces.figure('data:image/png;base64,', text) }}"
            "{{ pieces.bar([(text, 1)], 2) }}"
            "{{ pieces.key([(text, text)]) }}"
            "{{ pieces.word(text, text, text) }}",
            text=attack,
        )
        # Table 3, paragraph 1, missing picture 1, figure 1, key 1, word 2.
        html_pages.assert_harmless(self, text, times=9)

    def test_misspelt_names(self):
        """Breaks if a renamed value leaves a hole in a page; the page of
        before must stay."""
        before = self._write("{{ words }}", words=1)
        with self.assertRaisesRegex(jinja2.UndefinedError, "wrods"):
            self._write("{{ wrods }}", words=1)
        self.assertEqual((self.folder / "some.html").read_text(), before)

    def test_templates_are_shipped(self):
        """Breaks if an installed copy finds no templates: setup.py must name
        them as package_data."""
        templates = {
            str(path.relative_to(_ROOT))
            for package in ("sicot_tf", "beam_jobs")
            for path in (_ROOT / package).rglob("*.jinja")
        }
        self.assertIn("sicot_tf/pages/frame.html.jinja", templates)
        subprocess.run(
            [
                *(sys.executable, "setup.py", "-q"),
                *("egg_info", "--egg-base", self.folder),
                *("build", "--build-base", self.folder / "build"),
                # Beam sends this to remote workers.
                *("sdist", "--dist-dir", self.folder / "sdist"),
            ],
            cwd=_ROOT,
            check=True,
            capture_output=True,
        )
        built = self.folder / "build" / "lib"
        self.assertEmpty(
            {each for each in templates if not (built / each).is_file()}
        )
        (archive,) = (self.folder / "sdist").iterdir()
        with tarfile.open(archive) as files:
            # Behind the name of the archive's folder.
            names = {name.partition("/")[2] for name in files.getnames()}
        self.assertEmpty(templates - names)


if __name__ == "__main__":
    absltest.main()
