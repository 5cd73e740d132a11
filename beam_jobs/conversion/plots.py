"""The figures of a conversion report, each as SVG and PNG."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes

from sicot_tf.pages import figures
from sicot_tf.recognition.visits import events

_COLORS = (*figures.COLORS, "#000000")
_MARKERS = "osD^vP"
# More days than this have no room for a date each.
_MAX_DATES = 10
# Longer intervals are cut.
_MAX_GAIN = 1.0


def conversion_by_day(
    report: Mapping[str, Any], path: pathlib.Path
) -> list[pathlib.Path]:
    """Conversion of each variant on each day, with its interval."""
    plot = figures.create()
    axis = plot.subplots()
    for index, variant in enumerate(report["variants"]):
        cells = [
            day["variants"][variant]["conversion"]
            for day in report["days"].values()
        ]
        offset = _offset(index, len(report["variants"]))
        _draw_intervals(axis, cells, offset, index, variant)
    _date_axis(axis, list(report["days"]))
    axis.set_ylim(bottom=0)
    axis.set_ylabel("visitors with a trade / with a visit")
    axis.set_title("UV conversion by day, with 95 % intervals")
    plot.legend(loc="outside lower center", ncols=4)
    return figures.save(plot, path)


def relative_gain(
    report: Mapping[str, Any], path: pathlib.Path
) -> list[pathlib.Path]:
    """Gain of the others over the baseline: by day, and of the period."""
    plot = figures.create()
    axis = plot.subplots()
    groups = [*report["days"].values(), report["period"]]
    others = [each for each in report["variants"] if each != report["baseline"]]
    for index, variant in enumerate(others):
        cells = [group["variants"][variant]["gain"] for group in groups]
        offset = _offset(index, len(others))
        # The colour that it has in the other figures.
        place = report["variants"].index(variant)
        _draw_intervals(axis, cells, offset, place, variant)
    _date_axis(axis, [*report["days"], "whole\nperiod"])
    axis.axvline(len(report["days"]) - 0.5, **figures.DOTTED)
    axis.axhline(0, **figures.DASHED)
    # The few trades of a day may leave ten times as many open.
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -_MAX_GAIN), min(high, _MAX_GAIN))
    figures.show_percent(axis.yaxis)
    axis.set_ylabel("relative gain")
    axis.set_title(
        f"Gain over {_plain(report['baseline'])}, with 95 % intervals"
    )
    plot.legend(loc="outside lower center", ncols=4)
    return figures.save(plot, path)


def funnel(report: Mapping[str, Any], path: pathlib.Path) -> list[pathlib.Path]:
    """Visitors that got as far as each kind of event."""
    plot = figures.create()
    axis = plot.subplots()
    variants = report["variants"]
    width = 0.8 / len(variants)
    for index, variant in enumerate(variants):
        row = report["period"]["variants"][variant]
        shares = [row[kind] / max(1, row["visit"]) for kind in events.KINDS]
        places = np.arange(len(shares)) + _offset(index, len(variants), width)
        axis.bar(places, shares, 0.92 * width, **_style(index, variant))
        if len(variants) <= 4:
            for place, share in zip(places, shares, strict=True):
                figures.write_above(axis, place, share, f"{100 * share:.3g}")
    axis.set_xticks(range(len(events.KINDS)), events.KINDS)
    axis.set_ylim(0, 1.1)
    figures.show_percent(axis.yaxis)
    axis.set_ylabel("share of the visitors with a visit")
    axis.set_title("How far visitors got in the whole period")
    plot.legend(loc="outside lower center", ncols=4)
    return figures.save(plot, path)


def _draw_intervals(
    axis: axes.Axes,
    cells: Sequence[Mapping[str, float] | None],
    offset: float,
    index: int,
    variant: str,
) -> None:
    """Points with intervals; where there is none, nothing is drawn."""
    known = [(place, cell) for place, cell in enumerate(cells) if cell]
    values, lows, highs = (
        np.array([cell[key] for _, cell in known])
        for key in ("value", "low", "high")
    )
    axis.errorbar(
        np.array([place for place, _ in known]) + offset,
        values,
        yerr=np.maximum([values - lows, highs - values], 0),
        linestyle="none",
        capsize=3,
        marker=_MARKERS[index % len(_MARKERS)],
        **_style(index, variant),
    )
    figures.show_percent(axis.yaxis)


def _date_axis(axis: axes.Axes, names: Sequence[str]) -> None:
    step = -(-len(names) // _MAX_DATES)
    places = range(len(names) - 1, -1, -step)
    axis.set_xticks(places, [names[each] for each in places])
    axis.tick_params("x", rotation=30)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.grid(axis="y", alpha=0.3)


def _offset(index: int, number: int, width: float = 0.12) -> float:
    """Side by side, so that no interval covers another."""
    return width * (index - (number - 1) / 2)


def _style(index: int, variant: str) -> dict[str, str]:
    return {"color": _COLORS[index % len(_COLORS)], "label": _plain(variant)}


def _plain(name: str) -> str:
    """A variant as it stands: an underscore in front would hide it."""
    return " " * name.startswith("_") + name
