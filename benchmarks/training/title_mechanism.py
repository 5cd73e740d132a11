"""When titles teach: gains on shops whose titles differ, pictures being equal.

Generates shops with more words of promotion, more wrong titles, or more words
that no two products share, and runs experiments/mechanism.toml on each. Killed
and started again it goes on. Writes OUTPUT/mechanism.md and a plot.

example:
  python -m benchmarks.training.title_mechanism --output runs/mechanism
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np

from sicot_tf import files
from sicot_tf.pages import figures

_EXPERIMENT = pathlib.Path(__file__).parents[2] / "experiments/mechanism.toml"
# As in experiments/shop.toml.
_SHOP = (
    *("--num_skus", "300", "--num_types", "36", "--num_brands", "12"),
    *("--val_pictures", "4", "--test_pictures", "6"),
    *("--num_scenes", "0", "--num_clicks", "0"),
)
_DATASET = ("--image_size", "64", "--head_threshold", "40")
_NOISE = "words of promotion in a title"
_WRONG = "wrong titles"
_SHARED = "words that two classes share"
_AXES = (_NOISE, _WRONG, _SHARED)


def _noise(fewest: int, most: int) -> tuple[str, ...]:
    words = ("--min_noise_words", "--max_noise_words")
    return (words[0], str(fewest), words[1], str(most))


# What is varied, and the flags. The first shop is that of all other tables.
_SHOPS = (
    (_AXES, "plain", ()),
    ((_NOISE,), "noise-10", _noise(10, 10)),
    ((_WRONG,), "wrong-50", ("--wrong_title_share", "0.5")),
    ((_SHARED,), "own-5", ("--num_model_words", "5")),
)
# Of the results of the experiment, and what they are called here.
_GAINS = {"gain": "words", "own_gain": "words, over its twin"}


class _Titles(NamedTuple):
    """What was measured of the training titles of a shop, 0 to 1."""

    noise: float
    wrong: float
    shared: float

    def along(self, axis: str) -> float:
        """The measure of one of `_AXES`."""
        return self[_AXES.index(axis)]


class _Result(NamedTuple):
    """A shop, and what titles taught in it."""

    axes: tuple[str, ...]
    titles: _Titles
    # By the names of `_GAINS`: value, low and high, of all classes.
    gains: dict[str, dict[str, float]]


def _run(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    print("$", *command[1:], flush=True)
    subprocess.run(command, check=True)


def _measure(shop: pathlib.Path) -> _Titles:
    """The training titles of a shop, word by word."""
    noise_words = set((shop / "noise_words.txt").read_text("utf-8").split())
    classes_of = collections.defaultdict(set)
    num_words = num_noise = num_wrong = num_titles = 0
    for path in sorted(shop.glob("records-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            if record["split"] != "train":
                continue
            words = record["title"].lower().split()
            num_titles += 1
            num_wrong += record["title_sku_id"] != record["sku_id"]
            num_words += len(words)
            num_noise += sum(word in noise_words for word in words)
            for word in words:
                classes_of[word].add(record["sku_id"])
    shared = sum(len(classes) > 1 for classes in classes_of.values())
    return _Titles(
        num_noise / num_words, num_wrong / num_titles, shared / len(classes_of)
    )


def _gains(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    """What the words gained, see `_Result`."""
    numbers = files.read_json(folder / "results.json")["numbers"]
    cell = numbers["words"]["overall"]["top1"]["macro"]
    return {kind: cell[kind] for kind in _GAINS}


def _along(axis: str, results: list[_Result]) -> list[_Result]:
    """The shops in which `axis` varies, in its order."""
    return sorted(
        (each for each in results if axis in each.axes),
        key=lambda each: each.titles.along(axis),
    )


def _table(results: list[_Result]) -> str:
    """Markdown, one table an axis."""
    lines = []
    for axis in _AXES:
        lines.append(f"| {axis}, % | {' | '.join(_GAINS.values())} |")
        lines.append("|---" * (1 + len(_GAINS)) + "|")
        for each in _along(axis, results):
            cells = [
                "{value:+.1f} [{low:+.1f}, {high:+.1f}]".format_map(
                    {key: 100 * cell[key] for key in ("value", "low", "high")}
                )
                for cell in each.gains.values()
            ]
            place = f"{100 * each.titles.along(axis):.0f}"
            lines.append(f"| {' | '.join([place, *cells])} |")
        lines.append("")
    return "\n".join(lines)


def _plot(path: pathlib.Path, results: list[_Result]) -> None:
    """Gains, filled, and those over the twin, hollow, along each axis."""
    plot = figures.create(width=10.5, height=3.6)
    for panel, axis in zip(
        plot.subplots(1, len(_AXES), sharey=True), _AXES, strict=True
    ):
        panel.axhline(0, **figures.DASHED)
        along = _along(axis, results)
        places = [each.titles.along(axis) for each in along]
        for kind, face in (("gain", figures.GREEN), ("own_gain", "white")):
            cells = [each.gains[kind] for each in along]
            values = np.array([cell["value"] for cell in cells])
            ends = [[cell["low"], cell["high"]] for cell in cells]
            panel.errorbar(
                places,
                values,
                abs(np.array(ends).T - values),
                color=figures.GREEN,
                marker="o",
                markerfacecolor=face,
                linestyle="-" if kind == "gain" else ":",
                label=_GAINS[kind],
            )
        panel.set_xlabel(axis)
        figures.show_percent(panel.xaxis)
    plot.axes[0].set_ylabel("gain, macro top-1")
    figures.show_percent(plot.axes[0].yaxis)
    plot.axes[0].legend(fontsize="small")
    figures.save(plot, path)


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing; prints and writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("runs/mechanism")
    )
    parser.add_argument("--cache", default="packages", help="of npm packages")
    parser.add_argument("--num_processes", type=int, default=2)
    arguments = parser.parse_args(argv)
    results = []
    for axes, name, flags in _SHOPS:
        folder = arguments.output / name
        shop, dataset = folder / "shop", folder / "dataset"
        processes = ("--num_processes", arguments.num_processes)
        _run(
            "beam_jobs.shop_records",
            *("--output", shop, "--cache", arguments.cache),
            *(*_SHOP, *flags, *processes),
        )
        _run(
            "beam_jobs.build_dataset",
            *("--input", shop / "records-*.jsonl", "--output", dataset),
            *(*_DATASET, *processes),
        )
        _run(
            "sicot_tf.experiment",
            *(_EXPERIMENT, "--dataset", dataset),
            *("--output", folder / "runs", *processes),
        )
        gains = _gains(folder / "runs")
        results.append(_Result(axes, _measure(shop), gains))
    table = _table(results)
    files.write_text(arguments.output / "mechanism.md", table)
    _plot(arguments.output / "mechanism.png", results)
    print(table)


if __name__ == "__main__":
    main()
