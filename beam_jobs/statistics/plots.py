"""The plots of a dataset's statistics, each as SVG and PNG.

`sicot_tf.evaluation.plots` draws the long tail itself.
"""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes
from matplotlib import ticker

from sicot_tf.data import records
from sicot_tf.pages import figures

_CLASS_COLOR = figures.RED
_WORD_COLOR = figures.GREEN
_SPLIT_STYLES = {
    "train": (figures.GREY, "-"),
    "val": (figures.SKY, "--"),
    "test": (figures.PINK, "-"),
}
# More bars than this hide what they show.
_MAX_BARS = 40

# Words; longer titles are drawn as that long. A step of the plot is a word.
_LONGEST_TITLE = 500


def class_sizes(
    by_training_images: Sequence[Sequence[int]],
    head_threshold: int,
    path: pathlib.Path,
) -> None:
    """Number of classes with 1, 2, 3 ... training images.

    Args:
        by_training_images: pairs of training images and number of classes.
    """
    images, num_classes = np.array(by_training_images).T
    edges = _bin_edges(images)
    plot = figures.create(6.2, 4.2)
    axis = plot.subplots()
    bottom = np.zeros(len(edges) - 1)
    for group, color, members in (
        ("tail", figures.TAIL_COLOR, images < head_threshold),
        ("head", figures.HEAD_COLOR, images >= head_threshold),
    ):
        heights, _ = np.histogram(
            images[members], edges, weights=num_classes[members]
        )
        axis.bar(
            np.arange(len(heights)),
            heights,
            bottom=bottom,
            width=0.85,
            color=color,
            label=f"{group}: {num_classes[members].sum():,} classes",
        )
        bottom += heights
    _label_bins(axis, edges)
    for place, height in enumerate(bottom):
        if height and len(bottom) <= 15:
            figures.write_above(axis, place, height, f"{height:,.0f}")
    # Room for the numbers.
    axis.set_ylim(0, 1.1 * bottom.max())
    figures.show_counts(axis.yaxis, 8)
    axis.set_xlabel("training images of the class")
    axis.set_ylabel("classes")
    axis.set_title("How many classes have how many training images")
    axis.legend()
    figures.save(plot, path)


def balance(
    classes: Mapping[str, Any], words: Mapping[str, Any], path: pathlib.Path
) -> None:
    """Lorenz curves and sizes by rank, of classes and of words.

    Args:
        classes: `classes` of `long_tail.describe`.
        words: `words` of the same.
    """
    plot = figures.create(10.5, 4.2)
    left, right = plot.subplots(1, 2)
    shown = (
        ("images of classes", _CLASS_COLOR, classes, "by_training_images"),
        ("occurrences of words", _WORD_COLOR, words, "by_occurrences"),
    )
    left.plot([0, 1], [0, 1], **figures.DOTTED)
    left.annotate(
        "all equal", (0.5, 0.5), xytext=(-8, 4), textcoords="offset points",
        rotation=45, rotation_mode="anchor", ha="center", fontsize="small",
    )  # fmt: skip
    for name, color, described, _ in shown:
        x, y = np.array(described["lorenz_curve"]).T
        label = f"{name}: Gini {described['gini']:.2f}"
        left.plot(x, y, color=color, linewidth=2, label=label)
        left.fill_between(x, y, x, color=color, alpha=0.08, linewidth=0)
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="Lorenz curves")
    left.set_xlabel("share of classes, of words, fewest first")
    left.set_ylabel("share of images, of occurrences")
    left.legend(loc="upper left", fontsize="small")
    for scale in (left.xaxis, left.yaxis):
        figures.show_percent(scale)
    for name, color, described, sizes in shown:
        _draw_ranks(right, described[sizes], color, name)
    right.set(xscale="log", yscale="log", title="Sizes by rank")
    for scale in (right.xaxis, right.yaxis):
        figures.show_counts(scale)
        scale.set_minor_formatter(ticker.NullFormatter())
    right.grid(alpha=0.3)
    right.set_xlabel("rank of the class, of the word")
    right.set_ylabel("images, occurrences")
    right.legend(fontsize="small")
    figures.save(plot, path)


def _draw_ranks(
    axis: axes.Axes, sizes: Sequence[Sequence[int]], color: str, name: str
) -> None:
    """Sizes from the largest on; those of 0 have no rank.

    Args:
        sizes: pairs of a size and how often it occurs, in rising order.
    """
    pairs = np.array([pair for pair in sizes if pair[0]])
    if len(pairs):
        # Ranks start at 1; every step of the staircase has two ends.
        values, times = pairs[::-1].T
        last = np.cumsum(times)
        ranks = np.stack([last - times + 1, last], axis=1).ravel()
        axis.plot(
            ranks, np.repeat(values, 2), color=color, linewidth=2, label=name
        )


def title_lengths(splits: Mapping[str, Any], path: pathlib.Path) -> None:
    """Share of the titles with 0, 1, 2 ... known words, for each split.

    Args:
        splits: `splits` of `long_tail.describe`.
    """
    plot = figures.create(6.2, 4.2)
    axis = plot.subplots()
    longest = 1
    for split in records.SPLITS:
        described = splits[split]["words_per_title"]
        if not described["histogram"]:
            continue
        lengths, titles = np.array(described["histogram"]).T
        # One title of a thousand words would flatten all others.
        shown = min(_upper_limit(lengths, titles), _LONGEST_TITLE)
        longest = max(longest, shown)
        heights = np.bincount(
            np.minimum(lengths, shown), titles / titles.sum(), shown + 1
        )
        color, linestyle = _SPLIT_STYLES[split]
        axis.stairs(
            heights,
            np.arange(shown + 2) - 0.5,
            fill=split == "train",
            alpha=0.35 if split == "train" else 1,
            color=color,
            linewidth=2,
            linestyle=linestyle,
            label=f"{split}: {described['mean']:.1f} words on average",
        )
    axis.set_xlim(-0.5, longest + 0.5)
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(12, integer=True))
    figures.show_percent(axis.yaxis)
    axis.set_xlabel("words of the vocabulary in the title")
    axis.set_ylabel("share of the titles")
    axis.set_title("How long titles are")
    if axis.get_legend_handles_labels()[0]:
        axis.legend()
    figures.save(plot, path)


def picture_sizes(pictures: Mapping[str, Any], path: pathlib.Path) -> None:
    """Histograms of sides and of bytes.

    Args:
        pictures: `pictures` of `long_tail.describe`.
    """
    plot = figures.create(10.5, 3.2)
    panels = plot.subplots(1, 3)
    for axis, (name, label) in zip(
        panels,
        (
            ("shorter_side", "shorter side, pixels"),
            ("longer_side", "longer side, pixels"),
            ("kilobytes", "size of the JPEG, kB"),
        ),
        strict=True,
    ):
        pairs = pictures[name]["histogram"]
        if pairs:
            values, times = np.array(pairs).T
            low, high = values.min(), _upper_limit(values, times)
            width = max(1, -(-(high - low + 1) // _MAX_BARS))
            # A single size would be as wide as the plot.
            edges = np.arange(low, high + width + 1, width) - 0.5
            axis.hist(
                np.minimum(values, high),
                edges,
                weights=times,
                color=figures.HEAD_COLOR,
            )
            margin = max(3, (high - low) // 20)
            axis.set_xlim(low - margin, high + margin)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        figures.show_counts(axis.yaxis, 5)
        axis.set_xlabel(label)
    panels[0].set_ylabel("pictures")
    figures.save(plot, path)


def _bin_edges(values: np.ndarray) -> np.ndarray:
    """One bin a value, or from 1 on bins that double."""
    if values.max() < _MAX_BARS:
        return np.arange(values.min(), values.max() + 2)
    last = int(np.ceil(np.log2(values.max() + 1)))
    edges = 2 ** np.arange(last + 1)
    return np.append(0, edges) if values.min() == 0 else edges


def _label_bins(axis: axes.Axes, edges: np.ndarray) -> None:
    """Names each bin by the values it holds."""
    names = [
        str(low) if low == high else f"{low}-{high}"
        for low, high in zip(edges[:-1], edges[1:] - 1, strict=True)
    ]
    step = -(-len(names) // 20)
    axis.set_xticks(
        np.arange(len(names))[::step],
        names[::step],
        rotation=45 if max(map(len, names)) > 3 else 0,
    )


def _upper_limit(values: np.ndarray, times: np.ndarray) -> int:
    """The value that 99.9 % do not exceed."""
    reached = np.cumsum(times)
    return int(values[np.searchsorted(reached, 0.999 * reached[-1])])
