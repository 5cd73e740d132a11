"""The result of an evaluation as one HTML page and as text."""

import base64
import html
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from sicot_tf.evaluation import metrics
from sicot_tf.pages import page

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
_MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


class _Html(str):
    """Text that is HTML already; all other text is escaped."""


def write_report(
    path: pathlib.Path | str,
    *,
    title: str,
    dataset_facts: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any] | None,
    plots: Sequence[tuple[str, pathlib.Path | str]],
    examples: Sequence[Mapping[str, Any]] | None,
    settings: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Writes the report of an evaluation.

    Args:
        path: the HTML file.
        title: of the page.
        dataset_facts: what was tested on; nested mappings are flattened.
        tables: name of a run to its `metrics.accuracy_table`.
        comparison: of `metrics.compare`, if two runs were compared.
        plots: captions, and SVG or PNG files.
        examples: test photos: `image` (a data URI), `true_sku`, `true_name`,
            `predicted_sku`, `predicted_name`, `score` (0 to 1).
        settings: of the run, or names of runs to theirs: then one column
            for each, and what differs is marked.
        notes: sentences on what the accuracies do not cover.

    Raises:
        ValueError: if a picture would have to be loaded from elsewhere, or a
            plot is neither SVG nor PNG.
    """
    sections = [
        ("Accuracy", _accuracy(tables)),
        ("Difference", _differences(comparison)),
        ("Plots", _figures(plots)),
        ("Examples", _examples(examples or [])),
        ("Data", _facts(dataset_facts)),
        ("Settings", _facts(settings)),
    ]
    finding = _paragraphs(headline(tables, comparison), "finding")
    finding += _paragraphs(notes)
    page.write_page(
        path,
        title=title,
        body="\n".join(
            [finding]
            + [
                f"<h2>{name}</h2>\n{content}"
                for name, content in sections
                if content
            ]
        ),
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


def _accuracy(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of accuracies with its notes."""
    rows = []
    for group, average in _ROWS:
        for name, table in tables.items():
            counts = table["groups"][group]
            row = [_GROUP_NAMES[group], average, name]
            row += [_percent(counts[key][average]) for key in metrics.METRICS]
            row += [f"{counts['num_classes']:,}", f"{counts['num_records']:,}"]
            rows.append(row)
    table = next(iter(tables.values()))
    groups, reference = table["groups"], table["reference"]
    chance, largest = reference["chance"], reference["largest_classes"]
    notes = [
        f"Head: at least {table['head_threshold']:,} training images. micro: "
        "share of photos. macro: mean over classes.",
        "Brackets: 95 % interval, bootstrap over classes with "
        f"{table['num_resamples']:,} resamples. It covers the choice of test "
        "classes, not the chance of another training run. Below "
        f"{_FEW_CLASSES} classes it is too narrow, and where every class has "
        "the same accuracy it has no width.",
        f"Guessing: {100 * chance['top1']:.3g} % top-1, "
        f"{100 * chance['top3']:.3g} % top-3. Always naming the classes "
        "with the most training images: "
        f"{_share(largest['top1'])} and {_share(largest['top3'])} of photos.",
        f"{groups['overall']['num_classes_without_records']:,} classes have "
        "no test photo and count nowhere. "
        f"{groups['tail']['num_classes_without_training_images']:,} tested "
        "classes have no training image and count as tail.",
    ]
    header = ["group", "mean", "run", "top-1", "top-3", "classes", "photos"]
    return _table("Accuracy in percent", header, rows) + _paragraphs(notes)


def _differences(comparison: Mapping[str, Any] | None) -> str:
    """The table of paired differences with its notes."""
    if comparison is None:
        return ""
    rows = []
    for group, average in _ROWS:
        for metric in metrics.METRICS:
            cell = comparison["groups"][group][metric][average]
            row = [_GROUP_NAMES[group], average, metric.replace("p", "p-")]
            row += [_share(cell["a"]), _share(cell["b"])]
            row += [_points(cell["difference"]), _points_interval(cell)]
            row += [_share(cell["share_not_above_zero"])]
            row += [_share(cell["two_sided_share"])]
            rows.append(row)
    name_a, name_b = comparison["name_a"], comparison["name_b"]
    notes = [
        "Paired: each resample draws the same classes for both runs. Every "
        "value inside an interval fits the data, so a difference that is not "
        "shown may still exist.",
        "At or below 0: share of the resampled differences. Two-sided: twice "
        "the smaller of the shares at or below and at or above 0. It reads "
        "like a p-value but is none: resamples scatter around the observed "
        "difference.",
        "One interval in twenty misses the truth, and here are "
        f"{len(rows)}: the sentences on top use macro top-1 only. Another "
        "training seed moves both runs; compare several before you trust a "
        "small difference.",
    ]
    header = ["group", "mean", "metric", name_a, name_b, "difference"]
    header += ["95 % interval", "at or below 0", "two-sided"]
    caption = f"{name_b} minus {name_a}, percentage points"
    return _table(caption, header, rows) + _paragraphs(notes)


def _examples(examples: Sequence[Mapping[str, Any]]) -> str:
    """Test photos with the truth and the answer."""
    rows = []
    for example in examples:
        right = example["predicted_sku"] == example["true_sku"]
        verdict = "right" if right else "wrong"
        truth = _product(example["true_name"], example["true_sku"])
        rows.append(
            [
                _image(example["image"], truth),
                truth,
                _product(example["predicted_name"], example["predicted_sku"]),
                f"{example['score']:.2f}",
                _Html(f'<b class="{verdict}">{verdict}</b>'),
            ]
        )
    header = ["photo", "true product", "predicted product", "score", ""]
    caption = "Single photos illustrate; the tables above count all of them."
    return _table(caption, header, rows, "facts") if rows else ""


def _product(name: str | None, sku_id: str) -> str:
    """A product's name with its SKU id, or the id alone."""
    return f"{name} ({sku_id})" if name else sku_id


def _figures(plots: Sequence[tuple[str, pathlib.Path | str]]) -> str:
    """The plots, their files inlined."""
    figures = []
    for caption, path in plots:
        path = pathlib.Path(path)
        if path.suffix not in _MEDIA_TYPES:
            raise ValueError(
                f"Expected a plot that ends in {' or '.join(_MEDIA_TYPES)}, "
                f"received {path}."
            )
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        image = _image(
            f"data:{_MEDIA_TYPES[path.suffix]};base64,{encoded}", caption
        )
        figures.append(
            f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption>"
            "</figure>\n"
        )
    return "".join(figures)


def _image(data_uri: str, text: str) -> _Html:
    """A picture; inside `<img>` even an SVG runs no script."""
    if not data_uri.startswith("data:image/"):
        raise ValueError(
            f"Expected the picture of {text!r} as data:image/ URI, as the "
            f"page loads nothing, received {data_uri[:40]!r}."
        )
    return _Html(
        f'<img src="{html.escape(data_uri)}" alt="{html.escape(text)}">'
    )


def _facts(facts: Mapping[str, Any]) -> str:
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
    return _table("", ["name", *columns], rows, "facts") if rows else ""


def _flat(
    values: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Keys with their texts; the keys of a nested mapping follow a dot."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    kind: str = "numbers",
) -> str:
    """A table that scrolls by itself on a narrow screen."""
    lines = [f"<caption>{html.escape(caption)}</caption><thead>"]
    lines.append(_line('<th scope="col">', header))
    lines.append("</thead><tbody>")
    lines += [_line("<td>", row) for row in rows]
    return (
        f'<div class="scroll"><table class="{kind}">'
        + "\n".join(lines)
        + "</tbody></table></div>\n"
    )


def _line(tag: str, cells: Sequence[str]) -> str:
    """A row of a table; the closing tags of its cells may be left out."""
    return "<tr>" + "".join(
        tag + (cell if isinstance(cell, _Html) else html.escape(cell))
        for cell in cells
    )


def _paragraphs(sentences: Sequence[str], kind: str = "note") -> str:
    return "".join(
        f'<p class="{kind}">{html.escape(sentence)}</p>\n'
        for sentence in sentences
    )


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


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    """Percentage points with sign; two digits, as the paper prints them."""
    # Adding 0.0 turns -0.0 into 0.0.
    return "-" if value is None else f"{round(100 * value, 2) + 0.0:+.2f}"
