"""What an experiment leaves in its folder, beside `runs/` and `logs/`.

index.html      what was found, with all tables and figures
tables.md       the tables; table_1.csv and so on: each by itself
results.json    every number with its interval, of twins as well
plots/          the figures as SVG and PNG
"""

import pathlib

from sicot_tf import files
from sicot_tf.experiments import page
from sicot_tf.experiments import results
from sicot_tf.experiments import tables
from sicot_tf.experiments.experiment_file import Experiment
from sicot_tf.experiments.planning import Plan


def write(
    experiment: Experiment, plan: Plan, generation: pathlib.Path
) -> pathlib.Path | None:
    """Writes all of it; the page, None while the baseline has no result."""
    found = results.collect(experiment, plan, generation)
    if found is None:
        return None
    files.write_json(
        experiment.output / "results.json",
        {
            "experiment": experiment.name,
            "generation": generation.name,
            "baseline": experiment.baseline,
            "seeds": experiment.seeds,
            "controls": found.controls,
            "missing": found.missing,
            "numbers": found.numbers,
        },
    )
    made = tables.make(found)
    tables.write(experiment.output, made)
    return page.write(experiment.output, found, made)
