"""The figures of a calibration, each as SVG and PNG."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes

from sicot_tf.evaluation.calibration import reliability
from sicot_tf.pages import figures
from sicot_tf.pages import pieces

_COLORS = {
    "overall": figures.GREY,
    "head": figures.HEAD_COLOR,
    "tail": figures.TAIL_COLOR,
}
_BINNING_NAMES = {
    "equal_width": "bins of equal width",
    "adaptive": "bins of equally many photos",
}


def reliability_plot(
    measured: Mapping[str, Any], path: pathlib.Path | str
) -> list[pathlib.Path]:
    """Share of right answers against the score, before and after.

    Args:
        measured: of `reliability.measure`.
    """
    plot = figures.create(width=9.0, height=8.2)
    grid = plot.subplots(2, 2, sharex=True, sharey=True)
    for row, binning in zip(grid, reliability.BINNINGS, strict=True):
        for axis, stage in zip(row, reliability.STAGES, strict=True):
            error = measured["errors"][binning][stage]["value"]
            _draw_bins(axis, measured["bins"][binning][stage])
            axis.set_title(
                f"{stage} calibration, {_BINNING_NAMES[binning]}\n"
                f"expected calibration error {pieces.percent(error)}",
                fontsize="medium",
            )
    for axis in grid[1]:
        axis.set_xlabel("mean score of the bin")
    for axis in grid[:, 0]:
        axis.set_ylabel("share that is right")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside lower center", ncols=2)
    return figures.save(plot, path)


def _draw_bins(axis: axes.Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Bins with their intervals; what is on the diagonal is calibrated."""
    scores, values, lows, highs, counts = (
        np.array([each[key] for each in bins])
        for key in ("score", "value", "low", "high", "num_records")
    )
    axis.plot([0, 1], [0, 1], **figures.DASHED)
    axis.bar(
        scores,
        counts / counts.sum(),
        0.02,
        color=figures.SKY,
        alpha=0.6,
        label="share of the photos",
    )
    axis.errorbar(
        scores,
        values,
        yerr=np.maximum([values - lows, highs - values], 0),
        marker="o",
        markersize=4,
        linestyle="none",
        capsize=3,
        color="black",
        label="share that is right, 95 % interval",
    )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    figures.show_percent(axis.xaxis)
    figures.show_percent(axis.yaxis)
    axis.grid(alpha=0.3)


def coverage_plot(
    curves: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Any],
    path: pathlib.Path | str,
) -> list[pathlib.Path]:
    """Precision against coverage for all thresholds, by group.

    Args:
        curves: by group, see `threshold.curve`.
        measured: of `reliability.measure`; its threshold is marked.
    """
    plot = figures.create(width=7.2, height=5.2)
    axis = plot.subplots()
    for group, curve in curves.items():
        precision = curve["precision"]
        axis.plot(
            curve["coverage"],
            precision["value"],
            color=_COLORS[group],
            label=f"{group}: {measured['groups'][group]['num_records']:,} "
            "photos",
        )
        axis.fill_between(
            curve["coverage"],
            precision["low"],
            precision["high"],
            color=_COLORS[group],
            alpha=0.12,
            linewidth=0,
        )
        chosen = measured["groups"][group]
        if measured["threshold"] and chosen["num_accepted"]:
            axis.plot(
                chosen["coverage"]["value"],
                chosen["precision"]["value"],
                marker="o",
                color=_COLORS[group],
            )
    wanted = measured["wanted_precision"]
    axis.axhline(wanted, label=f"wanted: {100 * wanted:g} %", **figures.DASHED)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    figures.show_percent(axis.xaxis)
    figures.show_percent(axis.yaxis)
    axis.set_xlabel("coverage: share of the photos that is recognised")
    axis.set_ylabel("precision: share of these that is right")
    axis.set_title(
        f"Dots: threshold {measured['threshold']:.3g}; shaded: 95 % intervals"
        if measured["threshold"]
        else "No threshold; shaded: 95 % intervals"
    )
    axis.grid(alpha=0.3)
    plot.legend(loc="outside lower center", ncols=2)
    return figures.save(plot, path)
