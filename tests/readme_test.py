"""Commands in the documentation exist, with the flags they are shown with."""

import contextlib
import importlib
import io
import pathlib
import re
import shlex

from absl.testing import absltest
from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parent.parent
_PAGES = (
    "README.md",
    "docs/category.md",
    "docs/clicks.md",
    "docs/conversion.md",
    "docs/dataset_statistics.md",
    "docs/experiments.md",
    "docs/long_tail.md",
    "docs/many_workers.md",
    "docs/object_stores.md",
    "docs/phone.md",
    "docs/predicted_words.md",
    "docs/product_index.md",
    "docs/public_datasets.md",
    "docs/ranking.md",
    "docs/raw_records.md",
    "docs/recognition.md",
    "docs/recognition_page.md",
    "docs/releases.md",
    "docs/results.md",
    "docs/rows_from_words.md",
    "docs/runners.md",
    "docs/search_training.md",
    "docs/serving.md",
    "docs/shop.md",
    "docs/vector_index.md",
    "docs/vector_index_job.md",
    "docs/visual_search.md",
    "docs/word_vectors.md",
    "saved_models/README.md",
)


def _commands(page):
    """`python -m module --flags` lines of the code blocks of a page."""
    text = (_ROOT / page).read_text("utf-8")
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        line = line.removeprefix("$ ")
        if line.startswith("python -m "):
            yield shlex.split(line, comments=True)[2:]


class ReadmeTest(parameterized.TestCase):
    @parameterized.parameters(*_PAGES)
    def test_commands_and_flags_exist(self, page):
        """Breaks if a flag is renamed and a page still shows the old one."""
        for module_name, *arguments in _commands(page):
            help_text = io.StringIO()
            with contextlib.redirect_stdout(help_text):
                with self.assertRaises(SystemExit):
                    importlib.import_module(module_name).main(["--help"])
            for argument in arguments:
                if argument.startswith("--"):
                    self.assertIn(argument, help_text.getvalue())

    def test_readme_shows_the_road(self):
        """Breaks if the search above finds nothing to check."""
        modules = [module for module, *_ in _commands("README.md")]
        self.assertContainsSubset(
            [
                "beam_jobs.build_dataset",
                "sicot_tf.train",
                "sicot_tf.evaluate",
                "sicot_tf.explain",
                "sicot_tf.export",
                "sicot_tf.serve",
                "sicot_tf.client",
            ],
            modules,
        )

    @parameterized.parameters("README.md", "CONTRIBUTING.md")
    def test_links_lead_somewhere(self, page):
        """Breaks if a page that is linked to is moved."""
        text = (_ROOT / page).read_text("utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            self.assertTrue((_ROOT / target).exists(), msg=target)


if __name__ == "__main__":
    absltest.main()
