"""The page of an experiment."""

import pathlib
from collections.abc import Sequence

from sicot_tf.experiments.results import Results
from sicot_tf.experiments.tables import Table
from sicot_tf.pages import page

_TEMPLATE = pathlib.Path(__file__).with_name("experiment_page.html.jinja")


def write(
    output: pathlib.Path, results: Results, tables: Sequence[Table]
) -> pathlib.Path:
    """Writes `index.html`; its path."""
    path = output / "index.html"
    page.write_page(
        path,
        template=_TEMPLATE,
        title=f"Experiment {results.experiment.name}",
        description=results.experiment.description,
        missing=results.missing,
        tables=tables,
    )
    return path
