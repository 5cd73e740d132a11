"""The result of an evaluation as one HTML page and as text."""

import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from sicot_tf.evaluation import metrics
from sicot_tf.evaluation.calibration import page as calibration_page
from sicot_tf.pages import page
from sicot_tf.pages import pieces

_TEMPLATE = pathlib.Path(__file__).with_name("report.html.jinja")

# With fewer, 95 % intervals are too narrow: in a simulation they covered the
# truth in 93 % of the cases with 20 classes, 89 % with 10, 82 % with 5
# (tests/sicot_tf/evaluation/metrics_test.py has its like).
_FEW_CLASSES = 20
_GROUP_NAMES = {
    "overall": "All classes",
    "head": "Head classes",
    "tail": "Tail classes",
}
_ROWS = [
    (group, average) for group in metrics.GROUPS for average in metrics.AVERAGES
]


def write_report(
    path: pathlib.Path | str,
    *,
    title: str,
    dataset_facts: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any] | None,
    plots: Sequence[tuple[str, pathlib.Path]],
    examples: Sequence[Mapping[str, Any]] | None,
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
    calibration: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report of an evaluation.

    Args:
        path: the HTML file.
        title: of the page.
        dataset_facts: what was tested on; nested mappings are flattened.
        tables: name of a run to its `metrics.accuracy_table`.
        comparison: of `metrics.compare`, if two runs were compared.
        plots: captions, and SVG or PNG files.
        examples: test photos: `image` (a JPEG or a data URI), `true_sku`,
            `true_name`, `predicted_sku`, `predicted_name`, `score` (0 to 1).
        settings: of the run, or names of runs to theirs: then one column
            for each, and what differs is marked.
        notes: sentences on what the accuracies do not cover.
        calibration: of `reliability.measure`, if the run has one.

    Raises:
        ValueError: if a picture would have to be loaded from elsewhere, or a
            plot is neither SVG nor PNG.
    """
    page.write_page(
        path,
        template=_TEMPLATE,
        title=title,
        findings=headline(tables, comparison),
        notes=notes,
        # What it says of the data holds for all runs.
        table=next(iter(tables.values())),
        few_classes=_FEW_CLASSES,
        accuracies=_accuracy_rows(tables),
        comparison=comparison,
        differences=_difference_rows(comparison) if comparison else [],
        calibration=calibration_page.tables(calibration) if calibration else [],
        plots=plots,
        examples=examples or [],
        facts={"Data": _facts(dataset_facts), "Settings": _facts(settings)},
    )


def headline(
    tables: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any] | None,
) -> list[str]:
    """What the evaluation shows: a sentence for each group, or for each run.

    All speak of macro top-1 accuracy, whatever the other numbers say.
    """
    if comparison is None:
        return [_finding(name, table) for name, table in tables.items()]
    return [
        f"{_GROUP_NAMES[group]}, macro top-1: {_difference(comparison, group)}"
        for group in metrics.GROUPS
    ]


def format_table(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The accuracies as aligned text, 80 columns, percent with intervals."""
    lines = []
    for name, table in tables.items():
        lines += [
            f"{name}: accuracy in % with 95 % intervals; head: at least "
            f"{table['head_threshold']:,} training images",
            f"{'group':<8}{'mean':<6}{'classes':>10}{'photos':>12}"
            f"{'top-1':>22}{'top-3':>22}",
        ]
        for group, average in _ROWS:
            counts = table["groups"][group]
            lines.append(
                f"{group:<8}{average:<6}{counts['num_classes']:>10,}"
                f"{counts['num_records']:>12,}"
                f"{_percent(counts['top1'][average], width=5):>22}"
                f"{_percent(counts['top3'][average], width=5):>22}"
            )
        lines.append("")
    return "\n".join(lines[:-1])


def _finding(name: str, table: Mapping[str, Any]) -> str:
    """The headline of a run that is not compared."""
    overall = table["groups"]["overall"]
    if not overall["num_records"]:
        return f"{name}: no test photos."
    return (
        f"{name}, macro top-1: {_percent(overall['top1']['macro'])} % over "
        f"{overall['num_classes']:,} classes; guessing reaches "
        f"{100 * table['reference']['chance']['top1']:.3g} %."
    )


def _difference(comparison: Mapping[str, Any], group: str) -> str:
    """What the comparison shows for a group, and no more than that."""
    name_a, name_b = comparison["name_a"], comparison["name_b"]
    num_classes = comparison["groups"][group]["num_classes"]
    cell = comparison["groups"][group]["top1"]["macro"]
    if num_classes < 2:
        return f"{num_classes} tested, too few to show anything."
    points = f"{_points(cell['difference'])} points {_points_interval(cell)}"
    if cell["low"] > 0:
        finding = f"{name_b} is better than {name_a} by {points}"
    elif cell["high"] < 0:
        finding = f"{name_b} is worse than {name_a} by {points}"
    else:
        finding = (
            f"no difference between {name_b} and {name_a} shown: {points}, "
            "the interval contains 0"
        )
    if num_classes < _FEW_CLASSES:
        finding += f"; only {num_classes} classes, the interval is too narrow"
    return f"{finding}."


def _accuracy_rows(tables: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for group, average in _ROWS:
        for name, table in tables.items():
            counts = table["groups"][group]
            row = [_GROUP_NAMES[group], average, name]
            row += [_percent(counts[key][average]) for key in metrics.METRICS]
            row += [f"{counts['num_classes']:,}", f"{counts['num_records']:,}"]
            rows.append(row)
    return rows


def _difference_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for group, average in _ROWS:
        for metric in metrics.METRICS:
            cell = comparison["groups"][group][metric][average]
            row = [_GROUP_NAMES[group], average, metric.replace("p", "p-")]
            row += [pieces.percent(cell["a"]), pieces.percent(cell["b"])]
            row += [_points(cell["difference"]), _points_interval(cell)]
            row += [pieces.percent(cell["share_not_above_zero"])]
            row += [pieces.percent(cell["two_sided_share"])]
            rows.append(row)
    return rows


def _facts(
    facts: Mapping[str, Any],
) -> tuple[list[str], list[list[str]]]:
    """Names and values, in one column for each run if there are runs."""
    runs = facts and all(isinstance(each, Mapping) for each in facts.values())
    columns = {
        name: dict(_flat(values))
        for name, values in (facts if runs else {"value": facts}).items()
    }
    rows = []
    for key in dict.fromkeys(
        key for values in columns.values() for key in values
    ):
        cells = [values.get(key, "-") for values in columns.values()]
        mark = " (differs)" if len(set(cells)) > 1 else ""
        rows.append([key + mark, *cells])
    return ["name", *columns], rows


def _flat(
    values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Keys with their texts; the keys of a nested mapping follow a dot."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _percent(cell: Mapping[str, float | None], width: int = 0) -> str:
    """A value with its interval, for example `61.2 [58.0, 64.1]`."""
    if cell["value"] is None:
        return "-"
    value = f"{100 * cell['value']:{width}.1f}"
    if cell["low"] is None:
        return f"{value} [no interval]"
    low, high = (f"{100 * cell[key]:{width}.1f}" for key in ("low", "high"))
    return f"{value} [{low}, {high}]"


def _points_interval(cell: Mapping[str, float | None]) -> str:
    return f"[{_points(cell['low'])}, {_points(cell['high'])}]"


def _points(value: float | None) -> str:
    """Percentage points with sign; two digits, as the paper prints them."""
    # Adding 0.0 turns -0.0 into 0.0.
    return "-" if value is None else f"{round(100 * value, 2) + 0.0:+.2f}"
