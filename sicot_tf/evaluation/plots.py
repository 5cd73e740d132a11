"""The figures of an evaluation, each as SVG and PNG; equal input, equal bytes.

Every function writes `path` with the suffixes .svg and .png and returns the
two paths.
"""

import math
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes
from matplotlib import ticker

from sicot_tf.evaluation import metrics
from sicot_tf.pages import figures
from sicot_tf.pages import pieces

# Runs differ in their marker as well.
_RUN_COLORS = (*figures.COLORS, "#000000")
_RUN_MARKERS = "osD^vP"
# More points than this make a line that hides its own course.
_MAX_POINTS = 300
_LOSS_CURVES = (
    ("loss", "Training loss, all terms"),
    ("loss_visual", "Training loss, visual stream"),
    ("loss_mixed", "Training loss, mixed stream"),
    ("loss_words", "Training loss, predicted words"),
    ("val_top1", "Validation, all classes"),
    ("val_top1_head", "Validation, head classes"),
    ("val_top1_tail", "Validation, tail classes"),
)


def long_tail_plot(
    train_counts: np.ndarray, head_threshold: int, path: pathlib.Path | str
) -> list[pathlib.Path]:
    """Classes by training images, head and tail coloured (Fig. 6).

    Args:
        train_counts: `[num_classes]` integers, training images of a class.
        head_threshold: training images of the smallest head class.
    """
    counts = np.sort(train_counts)[::-1]
    num_head = int((counts >= head_threshold).sum())
    plot = figures.create()
    axis = plot.subplots()
    _draw_groups(axis, counts, num_head)
    axis.axvline(num_head, **figures.DASHED)
    label = f"boundary: {pieces.count(head_threshold, 'training image')}"
    axis.axhline(head_threshold, label=label, **figures.DOTTED)
    # Beyond a factor of 50 the tail is a line on the floor.
    if counts[0] > 50 * max(1, counts[-1]):
        axis.set_yscale("log")
        # Half an image as the floor: classes with one image stay visible.
        axis.set_ylim(bottom=0.5)
        figures.show_counts(axis.yaxis)
    else:
        axis.set_ylim(bottom=0)
    axis.set_xlim(0, len(counts))
    figures.show_counts(axis.xaxis, 6)
    axis.set_xlabel("class, by number of training images")
    axis.set_ylabel("training images of the class")
    share = counts[:num_head].sum() / max(1, counts.sum())
    axis.set_title(
        f"{100 * num_head / len(counts):.1f} % of the classes (head) have "
        f"{100 * share:.1f} % of the training images"
    )
    axis.legend()
    return figures.save(plot, path)


def _draw_groups(axis: axes.Axes, counts: np.ndarray, num_head: int) -> None:
    """The images of each class, from the largest on."""
    # One step for each distinct count: a million classes stay a small file.
    starts = np.flatnonzero(np.diff(counts, prepend=-1))
    for group, color, begin, end in (
        ("head", figures.HEAD_COLOR, 0, num_head),
        ("tail", figures.TAIL_COLOR, num_head, len(counts)),
    ):
        steps = starts[(starts >= begin) & (starts < end)]
        if steps.size:
            axis.stairs(
                counts[steps],
                np.append(steps, end),
                fill=True,
                color=color,
                label=f"{group}: {end - begin:,} classes, "
                f"{counts[begin:end].sum():,} images",
            )


def accuracy_by_training_images(
    bins_by_run: Mapping[str, Sequence[Mapping[str, Any]]],
    path: pathlib.Path | str,
) -> list[pathlib.Path]:
    """Macro top-1 accuracy against training images, one line for each run.

    Args:
        bins_by_run: name of a run to the bins of
            `metrics.accuracy_by_training_images`; the same bins for all.
    """
    bins = next(iter(bins_by_run.values()))
    plot = figures.create(width=max(7.2, 1.05 * len(bins)))
    axis = plot.subplots()
    places = np.arange(len(bins), dtype=float)
    for index, (name, rows) in enumerate(bins_by_run.items()):
        # Side by side, so that no interval covers another.
        offset = 0.12 * (index - (len(bins_by_run) - 1) / 2)
        _draw_intervals(
            axis,
            places + offset,
            rows,
            marker=_marker(index),
            **_style(index, name),
        )
    axis.set_xticks(
        places,
        [f"{_range(row)}\nn = {row['num_classes']:,}" for row in bins],
    )
    num_tail_bins = sum(row["group"] == "tail" for row in bins)
    if 0 < num_tail_bins < len(bins):
        label = "left: tail, right: head"
        axis.axvline(num_tail_bins - 0.5, label=label, **figures.DASHED)
    axis.set_xlabel("training images of the class (n: tested classes)")
    axis.set_title("Accuracy of classes with few and with many training images")
    _percent_axis([axis], "top-1 accuracy, mean over classes")
    plot.legend(loc="outside lower center", ncols=4)
    return figures.save(plot, path)


def head_tail_bars(
    tables: Mapping[str, Mapping[str, Any]], path: pathlib.Path | str
) -> list[pathlib.Path]:
    """Macro top-1 accuracy of all, head and tail classes for each run.

    Args:
        tables: name of a run to its `metrics.accuracy_table`.
    """
    plot = figures.create()
    axis = plot.subplots()
    width = 0.8 / len(tables)
    for index, (name, table) in enumerate(tables.items()):
        places = np.arange(3) + width * (index - (len(tables) - 1) / 2)
        cells = [
            table["groups"][group]["top1"]["macro"] for group in metrics.GROUPS
        ]
        _draw_bars(axis, places, cells, 0.92 * width, index, name)
    first = next(iter(tables.values()))
    axis.set_xticks(
        np.arange(3),
        [
            f"{group}\n{first['groups'][group]['num_classes']:,} classes\n"
            f"{first['groups'][group]['num_records']:,} photos"
            for group in metrics.GROUPS
        ],
    )
    chance = first["reference"]["chance"]["top1"]
    label = f"guessing: {100 * chance:.3g} %"
    axis.axhline(chance, label=label, **figures.DOTTED)
    axis.set_title(
        "Accuracy of head (at least "
        f"{pieces.count(first['head_threshold'], 'training image')}) and tail "
        "classes"
    )
    _percent_axis([axis], "top-1 accuracy, mean over classes")
    plot.legend(loc="outside lower center", ncols=4)
    return figures.save(plot, path)


def _draw_bars(
    axis: axes.Axes,
    places: np.ndarray,
    cells: Sequence[Mapping[str, Any]],
    width: float,
    index: int,
    name: str,
) -> None:
    """Bars of one run with their intervals and numbers."""
    values = [_number(cell["value"]) for cell in cells]
    axis.bar(places, values, width, **_style(index, name))
    _draw_intervals(axis, places, cells, color="black", linestyle="none")
    for place, cell, value in zip(places, cells, values, strict=True):
        if not math.isnan(value):
            top = np.fmax(value, _number(cell["high"]))
            figures.write_above(axis, place, top, f"{100 * value:.1f}")


def loss_curves(
    metrics_by_run: Mapping[str, Sequence[Mapping[str, Any]]],
    path: pathlib.Path | str,
) -> list[pathlib.Path]:
    """Training loss of each stream and validation accuracy over the epochs.

    Args:
        metrics_by_run: name of a run to its rows. Training rows have `step`,
            `epoch` and any of `loss`, `loss_visual`, `loss_mixed`,
            `loss_words`; validation rows `step` and `val_top1`,
            `val_top1_head`, `val_top1_tail` (fractions). Without `epoch`
            steps are drawn.
    """
    panels = [
        (key, title)
        for key, title in _LOSS_CURVES
        if any(_found(rows, key) for rows in metrics_by_run.values())
    ]
    if not panels:
        raise ValueError(
            "Expected rows with loss or val_top1 to draw, received none."
        )
    num_rows = math.ceil(len(panels) / 3)
    plot = figures.create(width=10.5, height=3.1 * num_rows + 0.4)
    grid = plot.subplots(num_rows, min(3, len(panels)), squeeze=False)
    has_epochs = all(_found(rows, "epoch") for rows in metrics_by_run.values())
    for axis in grid.flat[len(panels) :]:
        axis.remove()
    accuracy_axes = []
    for axis, (key, title) in zip(grid.flat, panels, strict=False):
        _draw_curves(axis, metrics_by_run, key, has_epochs)
        axis.set_title(title)
        if key.startswith("val"):
            accuracy_axes.append(axis)
        else:
            axis.set_ylabel("cross-entropy, nats")
            axis.set_ylim(bottom=0)
    _percent_axis(accuracy_axes, "top-1 accuracy")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figures.save(plot, path)


def _draw_curves(
    axis: axes.Axes,
    metrics_by_run: Mapping[str, Sequence[Mapping[str, Any]]],
    key: str,
    has_epochs: bool,
) -> None:
    """One number of all runs over the epochs, or over the steps."""
    # One size for all runs: their lines are equally smooth.
    longest = max(len(_found(rows, key)) for rows in metrics_by_run.values())
    size = math.ceil(longest / _MAX_POINTS)
    for index, (name, rows) in enumerate(metrics_by_run.items()):
        x, y = _course(rows, key, has_epochs, size)
        axis.plot(
            x,
            y,
            marker=_marker(index) if len(x) <= 30 else None,
            markersize=4,
            linewidth=1.5,
            **_style(index, name),
        )
    unit = "epoch" if has_epochs else "step"
    axis.set_xlabel(f"{unit} (means of {size} rows)" if size > 1 else unit)
    axis.grid(alpha=0.3)
    axis.set_xlim(left=0)


def _found(
    rows: Sequence[Mapping[str, Any]], key: str
) -> list[Mapping[str, Any]]:
    return [row for row in rows if row.get(key) is not None]


def _course(
    rows: Sequence[Mapping[str, Any]], key: str, has_epochs: bool, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of one curve, each the mean of `size` rows."""
    x = np.array([row["step"] for row in _found(rows, key)], dtype=float)
    y = np.array([row[key] for row in _found(rows, key)], dtype=float)
    if has_epochs:
        known = sorted(
            (row["step"], row["epoch"]) for row in _found(rows, "epoch")
        )
        # Validation rows know their step only.
        x = np.interp(x, *np.array(known, dtype=float).T)
    if size > 1 and len(x):
        starts = np.arange(0, len(x), size)
        lengths = np.diff(starts, append=len(x))
        x = np.add.reduceat(x, starts) / lengths
        y = np.add.reduceat(y, starts) / lengths
    return x, y


def _draw_intervals(
    axis: axes.Axes,
    places: np.ndarray,
    cells: Sequence[Mapping[str, Any]],
    **style: Any,
) -> None:
    """Draws values with their intervals; a value without one stands alone."""
    values, lows, highs = (
        np.array([_number(cell[key]) for cell in cells])
        for key in ("value", "low", "high")
    )
    # The value may lie outside a percentile interval by a hair.
    reach = np.maximum([values - lows, highs - values], 0)
    axis.errorbar(places, values, yerr=reach, capsize=4, **style)


def _percent_axis(plots: Sequence[axes.Axes], label: str) -> None:
    """Vertical axes from 0 %, the same end for all, for fractions."""
    highest = max([axis.dataLim.y1 for axis in plots], default=0.0)
    # Few ends, so that plots compare; room for a number on top.
    end = next((end for end in (0.05, 0.2, 0.5) if highest <= end), 1.0)
    for axis in plots:
        axis.set_ylim(0, 1.06 * end)
        axis.yaxis.set_major_locator(ticker.MultipleLocator(end / 5))
        figures.show_percent(axis.yaxis)
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)


def _style(index: int, name: str) -> dict[str, str]:
    """A run's colour, and its name as it stands.

    `$` starts no formula, and `_` hides nothing.
    """
    return {
        "color": _RUN_COLORS[index % len(_RUN_COLORS)],
        "label": " " * name.startswith("_") + name.replace("$", r"\$"),
    }


def _marker(index: int) -> str:
    return _RUN_MARKERS[index % len(_RUN_MARKERS)]


def _range(row: Mapping[str, Any]) -> str:
    """A bin's training images, from a thousand on with three digits."""
    low, high = (
        f"{count / 1000:.3g}k" if count >= 1000 else str(count)
        for count in (row["min_images"], row["max_images"])
    )
    return low if low == high else f"{low}-{high}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
