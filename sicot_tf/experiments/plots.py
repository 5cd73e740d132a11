"""The figures of an experiment, each as SVG and PNG."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import plots
from sicot_tf.experiments.results import Results
from sicot_tf.pages import figures

# Lines of one figure, the baseline among them.
_MOST_LINES = 5
_GAINS = (
    "Gain of each arm over the baseline, macro top-1, with 95 % intervals. "
    "Hollow: its control, trained on shuffled titles; what that gains as well "
    "is not the titles' doing."
)


def write(
    folder: pathlib.Path, results: Results
) -> list[tuple[str, pathlib.Path]]:
    """Writes all figures; captions and the SVG files."""
    folder.mkdir(parents=True, exist_ok=True)
    tail = folder / "long_tail.svg"
    plots.long_tail_plot(results.train_counts, results.head_threshold, tail)
    baseline = results.experiment.baseline
    pairs = {
        name: (
            _gains(results, name),
            _gains(results, results.controls[name])
            if name in results.controls
            else None,
        )
        for name in results.arms
        if name != baseline
    }
    made = [("Training pictures of each class", tail)]
    if pairs:
        gains = folder / "gains.svg"
        plot_gains(pairs, baseline, gains)
        made.append((_GAINS, gains))
    return made + _by_class_size(folder, results)


def plot_gains(
    gains: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any] | None]],
    baseline: str,
    path: pathlib.Path,
) -> list[pathlib.Path]:
    """Differences to the baseline, a row for each arm, a panel for a group.

    Args:
        gains: by arm, of itself and of its control, by group of
            `metrics.GROUPS`: `value`, `low`, `high`.
    """
    plot = figures.create(width=10.5, height=1.4 + 0.45 * len(gains))
    panels = plot.subplots(1, len(metrics.GROUPS), sharey=True, sharex=True)
    places = np.arange(len(gains))
    for panel, group in zip(panels, metrics.GROUPS):
        panel.axvline(0, **figures.DASHED)
        for which, style in enumerate(
            (
                {"color": figures.COLORS[2], "label": "arm"},
                {
                    "color": figures.GREY,
                    "label": "its control",
                    "markerfacecolor": "white",
                },
            )
        ):
            rows = [
                (place, pair[which][group])
                for place, pair in zip(places, gains.values())
                if pair[which] and pair[which][group]["low"] is not None
            ]
            if not rows:
                continue
            values, lows, highs = (
                np.array([cell[key] for _, cell in rows])
                for key in ("value", "low", "high")
            )
            panel.errorbar(
                100 * values,
                [place + 0.2 * which - 0.1 for place, _ in rows],
                xerr=100 * np.maximum([values - lows, highs - values], 0),
                fmt="os"[which],
                capsize=3,
                **style,
            )
        panel.set_title(group)
        panel.grid(axis="x", alpha=0.3)
        panel.set_xlabel(f"points over {baseline.replace('$', '')}")
    panels[0].set_yticks(places, list(gains))
    panels[0].set_ylim(len(gains) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        plot.legend(handles, labels, loc="outside lower center", ncols=2)
    return figures.save(plot, path)


def _gains(results: Results, name: str) -> dict[str, Any]:
    return {
        group: results.cell(name, "gain", group) for group in metrics.GROUPS
    }


def _by_class_size(
    folder: pathlib.Path, results: Results
) -> list[tuple[str, pathlib.Path]]:
    """The baseline beside some arms at a time."""
    baseline = results.experiment.baseline
    others = [name for name in results.arms if name != baseline]
    size = _MOST_LINES - 1
    found = []
    for start in range(0, max(1, len(others)), size):
        path = folder / f"accuracy_by_class_size_{start // size + 1}.svg"
        plots.accuracy_by_training_images(
            {
                name: _bins(results, name)
                for name in [baseline, *others[start : start + size]]
            },
            path,
        )
        found.append(
            (
                "Accuracy against training pictures of a class, mean over "
                "seeds; intervals over classes",
                path,
            )
        )
    return found


def _bins(results: Results, name: str) -> list[dict[str, Any]]:
    """All seeds' records together: a class has its mean over seeds."""
    runs = results.top_labels[name]
    return metrics.accuracy_by_training_images(
        np.tile(results.labels, len(runs)),
        np.concatenate(list(runs)),
        results.train_counts,
        results.head_threshold,
    )
