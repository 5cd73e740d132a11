"""The page of an experiment: what was found, then all tables and figures."""

import pathlib
from collections.abc import Sequence
from typing import Any

from sicot_tf.experiments import plots
from sicot_tf.experiments import tables
from sicot_tf.experiments.results import Results
from sicot_tf.experiments.tables import Table
from sicot_tf.pages import page

_TEMPLATE = pathlib.Path(__file__).with_name("experiment_page.html.jinja")


def write(
    output: pathlib.Path, results: Results, made: Sequence[Table]
) -> pathlib.Path:
    """Writes plots and `index.html`; the page's path.

    Args:
        made: of `tables.make`.
    """
    path = output / "index.html"
    page.write_page(
        path,
        template=_TEMPLATE,
        title=f"Experiment {results.experiment.name}",
        description=results.experiment.description,
        findings=findings(results),
        missing=results.missing,
        num_seeds=len(results.experiment.seeds),
        baseline=results.experiment.baseline,
        tables=made,
        plots=plots.write(output / "plots", results),
        links={
            "Which words the attention trusts": _links(
                results, "attention.html"
            ),
            "Calibration": _links(results, "calibration.html"),
        },
        settings=_settings(results),
    )
    return path


def findings(results: Results) -> list[str]:
    """A sentence for each arm, of macro top-1 over all classes."""
    baseline = results.experiment.baseline
    sentences = []
    for name in results.arms:
        gain = results.cell(name, "gain")
        if gain is None:
            continue
        sentence = f"{name}: {_verdict(gain, baseline)}"
        if name in results.controls:
            own = results.cell(name, "own_gain")
            share = results.cell(name, "surviving_share")
            sentence += f" Against the same on shuffled titles: {_own(own)}"
            if share["value"] is not None:
                sentence += f" {tables.share(share)} of the gain survive."
        sentences.append(sentence)
    return sentences


def _verdict(gain: dict[str, Any], baseline: str) -> str:
    shown = f"{tables.points(gain)}"
    if gain["low"] is None:
        return "too few classes to compare."
    if gain["low"] > 0:
        return f"better than {baseline}, {shown}."
    if gain["high"] < 0:
        return f"worse than {baseline}, {shown}."
    return f"no difference to {baseline} shown, {shown}."


def _own(own: dict[str, Any]) -> str:
    shown = tables.points(own)
    if own["low"] is None:
        return "too few classes to compare."
    if own["low"] > 0:
        return f"{shown}, so titles teach something here."
    if own["high"] < 0:
        return f"{shown}, so true titles are worse than wrong ones."
    return f"{shown}, so nothing is shown that wrong titles do not teach."


def _links(results: Results, name: str) -> list[str]:
    """Pages of runs, relative to this one."""
    found = []
    for arm in results.arms:
        for seed in results.experiment.seeds:
            run_dir = results.trials[arm].run_dir(results.experiment, seed)
            if (run_dir / name).exists():
                found.append(f"runs/{run_dir.name}/{name}")
    return list(dict.fromkeys(found))


def _settings(results: Results) -> list[list[str]]:
    """What each arm sets, beside the settings of all."""
    rows = []
    for name in results.arms:
        trial = results.trials[name]
        start = trial.init_from.run if trial.init_from else "-"
        rows.append(
            [name, _listed(trial.own), start, _listed(trial.evaluate)]
            + [results.controls.get(name, "reads no titles")]
        )
    rows.append(["all arms", _listed(results.experiment.train), "", "", ""])
    return rows


def _listed(settings: dict[str, Any]) -> str:
    found = [f"{key} {value}" for key, value in settings.items()]
    return ", ".join(found) or "-"
