"""A calibration as a page, and its tables for other pages."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from sicot_tf.evaluation.calibration import plots
from sicot_tf.evaluation.calibration import reliability
from sicot_tf.pages import page
from sicot_tf.pages import pieces
from sicot_tf.training.calibrations import Calibration

_TEMPLATE = pathlib.Path(__file__).with_name("calibration.html.jinja")

_BINNING_NAMES = {
    "equal_width": "15 of equal width",
    "adaptive": "up to 15 of equally many photos",
}


def write(
    folder: pathlib.Path,
    *,
    name: str,
    calibration: Calibration,
    measured: Mapping[str, Any],
    curves: Mapping[str, Any],
    notes: Sequence[str],
) -> pathlib.Path:
    """Writes `calibration.html` and its plots into `folder`; its path.

    Args:
        name: of the run.
        measured: of `reliability.measure`.
        curves: by group, see `threshold.curve`.
        notes: sentences on what the calibration does not cover.
    """
    path = folder / "calibration.html"
    reliable = folder / "calibration_reliability.svg"
    plots.reliability_plot(measured, reliable)
    coverage = folder / "calibration_coverage.svg"
    plots.coverage_plot(curves, measured, coverage)
    page.write_page(
        path,
        template=_TEMPLATE,
        title=f"{name}: calibration",
        findings=findings(calibration, measured),
        notes=notes,
        tables=tables(measured),
        plots=[
            ("Scores and how often they are right", reliable),
            ("Coverage against precision, calibrated scores", coverage),
        ],
        facts=_facts(calibration),
    )
    return path


def findings(
    calibration: Calibration, measured: Mapping[str, Any]
) -> list[str]:
    """What temperature and threshold do, a sentence each."""
    error = measured["errors"]["equal_width"]
    sentences = [
        f"Temperature {calibration.temperature:.4g}: expected calibration "
        f"error {_percent(error['before'])} % before, "
        f"{_percent(error['after'])} % after."
    ]
    if calibration.threshold is not None:
        sentences.append(
            f"Threshold {calibration.threshold:.4g}: "
            f"{pieces.percent(calibration.coverage)} of "
            f"{calibration.num_records:,} photos are recognised, "
            f"{pieces.percent(calibration.precision)} of these rightly (at "
            f"least {pieces.percent(calibration.precision_low)}, one-sided "
            f"{100 * calibration.confidence:g} %)."
        )
    return sentences


def tables(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of the tables: calibration errors, then the threshold."""
    errors = [
        [_BINNING_NAMES[binning]]
        + [_percent(cells[stage]) for stage in reliability.STAGES]
        for binning, cells in measured["errors"].items()
    ]
    groups = [
        [
            group,
            f"{cells['num_records']:,}",
            f"{cells['num_accepted']:,}",
            _percent(cells["coverage"]),
            _percent(cells["precision"]),
        ]
        for group, cells in measured["groups"].items()
    ]
    return [
        {
            "header": ["bins", "before", "after"],
            "rows": errors,
            "caption": "Expected calibration error in percent, temperature "
            f"{measured['temperature']:.4g}",
        },
        {
            "header": [
                "group",
                "photos",
                "recognised",
                "coverage",
                "precision",
            ],
            "rows": groups,
            "caption": "Coverage and precision in percent at threshold "
            f"{measured['threshold']:.4g}, wanted precision "
            f"{100 * measured['wanted_precision']:g} %",
        },
    ]


def _facts(calibration: Calibration) -> list[list[str]]:
    return [
        ["fitted on split", calibration.split],
        ["dataset generation", calibration.generation],
        ["photos", f"{calibration.num_records:,}"],
        ["checkpoint of step", f"{calibration.step:,}"],
        ["weights", calibration.weights_sha256],
    ]


def _percent(cell: Mapping[str, float | None]) -> str:
    """A value with its interval, for example `61.2 [58.0, 64.1]`."""
    if cell["value"] is None:
        return "-"
    value = f"{100 * cell['value']:.1f}"
    if cell["low"] is None:
        return f"{value} [no interval]"
    return f"{value} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
