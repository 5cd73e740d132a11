"""What a ranker learnt, as one HTML page with its figures."""

import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from sicot_tf.pages import figures
from sicot_tf.pages import page
from sicot_tf.ranking import ranker

REPORT = "report.html"
_TEMPLATE = pathlib.Path(__file__).with_name("report.html.jinja")
METRICS = ("ndcg@20", "mrr", "clicks@1", "clicks@5")


def write(folder: pathlib.Path, found: Mapping[str, Any]) -> None:
    """Writes `report.html` and its plots.

    Args:
        found: what `build` writes into the manifest, without files.
    """
    _plot_importance(found["importance"], folder / "importance.svg")
    _plot_floors(found, folder / "floor.svg")
    page.write_page(
        folder / REPORT,
        template=_TEMPLATE,
        title="Order of search results",
        found=found,
        findings=list(findings(found)),
        plots=folder,
        metrics=METRICS,
        splits={
            split: [
                [name, *(interval(row[metric]) for metric in METRICS)]
                for name, row in orders.items()
            ]
            for split, orders in found["metrics"].items()
        },
        counts=[[name, f"{n:,}"] for name, n in found["counts"].items()],
        examination=[
            [str(place), f"{value:.3f}"]
            for place, value in enumerate(found["examination"], 1)
        ],
    )


def findings(found: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each split, and one of the floor."""
    for split, orders in found["metrics"].items():
        gain = orders["ranker"]["gain"]
        sure = gain["low"] > 0 or gain["high"] < 0
        yield (
            f"On {split}: NDCG at 20 of the clicks "
            f"{interval(orders['ranker']['ndcg@20'])}, by similarity alone "
            f"{interval(orders['similarity']['ndcg@20'])}; difference "
            f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
            + ("." if sure else ": no difference is shown.")
        )
    yield (
        f"Floor: a product more than {found['similarity_floor']:.4f} less "
        "similar than the best is never moved up."
    )


def interval(cell: Mapping[str, float]) -> str:
    """A measure with its 95 % interval."""
    return f"{cell['value']:.4f} ({cell['low']:.4f} to {cell['high']:.4f})"


def _plot_importance(
    importance: Mapping[str, float], path: pathlib.Path
) -> None:
    plot = figures.create()
    axis = plot.subplots()
    names = sorted(importance, key=lambda name: (importance[name], name))
    colors = [
        figures.HEAD_COLOR
        if name in ranker.SIMILARITY_NAMES
        else figures.TAIL_COLOR
        for name in names
    ]
    axis.barh(names, [importance[name] for name in names], color=colors)
    figures.show_percent(axis.xaxis)
    axis.set_xlabel("share of the gain of all splits")
    axis.set_title("What decides the order")
    figures.save(plot, path)


def _plot_floors(found: Mapping[str, Any], path: pathlib.Path) -> None:
    plot = figures.create()
    axis = plot.subplots()
    floors, values = zip(*found["floors_tried"], strict=True)
    axis.plot(floors, values, color=figures.HEAD_COLOR, marker="o")
    axis.axvline(found["similarity_floor"], **figures.DASHED)
    axis.set_xlabel("floor: how much less similar than the best")
    axis.set_ylabel("NDCG at 20 of the clicks of val")
    axis.set_title("Floors that were tried; dashed: the chosen one")
    figures.save(plot, path)
