"""Figures of all pages: colours, axes, and files of which equal input makes
equal bytes.

Nothing here touches `pyplot`: no display, no global figure.
"""

import pathlib

import matplotlib
from matplotlib import axes
from matplotlib import axis
from matplotlib import figure
from matplotlib import ticker

from sicot_tf import files

# Grey, and Okabe and Ito's colours, told apart with any colour vision. Head and
# tail share theirs with nothing else.
HEAD_COLOR = "#0072B2"
TAIL_COLOR = "#E69F00"
COLORS = GREY, RED, GREEN, PINK, SKY = (
    "#555555",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
)
# Lines that divide or compare.
DASHED = {"color": "black", "linewidth": 1, "linestyle": "--"}
DOTTED = DASHED | {"linestyle": ":"}


def create(width: float = 7.2, height: float = 4.4) -> figure.Figure:
    """An empty figure, sizes in inches."""
    return figure.Figure(figsize=(width, height), layout="constrained")


def save(plot: figure.Figure, path: pathlib.Path | str) -> list[pathlib.Path]:
    """Writes `path` as .svg and as .png, each as a whole.

    Returns:
        The two paths.
    """
    path = pathlib.Path(path)
    written = []
    # Without the two, dates, versions and random ids make bytes differ.
    for kind, metadata in (
        ("svg", {"Date": None, "Creator": None}),
        ("png", {"Software": None}),
    ):
        target = path.with_suffix(f".{kind}")
        with (
            files.replacing(target) as temporary,
            matplotlib.rc_context({"svg.hashsalt": "sicot_tf"}),
        ):
            plot.savefig(temporary, format=kind, dpi=150, metadata=metadata)
        written.append(target)
    return written


def show_counts(scale: axis.Axis, num_ticks: int | None = None) -> None:
    """Whole numbers along an axis; None keeps the ticks as they are."""
    if num_ticks is not None:
        scale.set_major_locator(ticker.MaxNLocator(num_ticks, integer=True))
    scale.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))


def show_percent(scale: axis.Axis) -> None:
    """Fractions along an axis as percent."""
    scale.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: f"{100 * value:g} %")
    )


def write_above(panel: axes.Axes, x: float, y: float, text: str) -> None:
    """A small text on top of a bar."""
    panel.annotate(
        text,
        (x, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )
