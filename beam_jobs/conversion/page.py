"""The conversion report as one HTML page."""

import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from beam_jobs.conversion import plots
from sicot_tf.pages import page
from sicot_tf.pages import pieces

_TEMPLATE = pathlib.Path(__file__).with_name("report.html.jinja")
# Below it the numbers of visitors do not come from the shares by chance.
SAMPLE_RATIO_LEVEL = 0.001
_LEVEL = 0.05


def write_page(folder: pathlib.Path, report: Mapping[str, Any]) -> None:
    """Writes `report.html` and its plots.

    Args:
        report: of `report.describe`.
    """
    plots.conversion_by_day(report, folder / "conversion_by_day.svg")
    plots.funnel(report, folder / "funnel.svg")
    compared = len(report["variants"]) > 1
    if compared:
        plots.relative_gain(report, folder / "relative_gain.svg")
    days = list(report["days"])
    page.write_page(
        folder / "report.html",
        template=_TEMPLATE,
        title=f"UV conversion, {days[0]} to {days[-1]}"
        if len(days) > 1
        else f"UV conversion, {days[0]}"
        if days
        else "UV conversion",
        report=report,
        findings=findings(report),
        warnings=warnings(report),
        plots=folder,
        compared=compared,
        period=_rows(report["period"]),
        days=[
            [day, *row]
            for day, group in report["days"].items()
            for row in _rows(group)
        ],
        answers=_answer_rows(report["period"]["variants"]),
        aside=_aside_rows(report),
    )


def findings(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each variant against the baseline."""
    sentences = []
    for variant, row in report["period"]["variants"].items():
        if variant == report["baseline"]:
            continue
        if row["gain"] is None:
            sentences.append(
                f"{variant} against {report['baseline']}: too few trades for "
                "a comparison."
            )
            continue
        sure = row["p_value"] is not None and row["p_value"] < _LEVEL
        sentences.append(
            f"{variant} against {report['baseline']}: conversion "
            f"{_signed(row['gain']['value'])} relative (95 % interval "
            f"{_signed(row['gain']['low'])} to {_signed(row['gain']['high'])}, "
            f"{_equation(row['p_value'])}): "
            + (
                "a difference, if this is the end that was planned."
                if sure
                else "no difference is shown."
            )
        )
    return sentences


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What makes the comparison doubtful."""
    sentences = []
    groups = {"the whole period": report["period"], **report["days"]}
    uneven = [
        name
        for name, group in groups.items()
        if group["sample_ratio_p_value"] is not None
        and group["sample_ratio_p_value"] < SAMPLE_RATIO_LEVEL
    ]
    if uneven:
        sentences.append(
            "Visitors did not come by the shares (p below "
            f"{SAMPLE_RATIO_LEVEL}) in {', '.join(uneven[:5])}"
            f"{' and more' if len(uneven) > 5 else ''}: find out why before "
            "you believe the conversion."
        )
    rows = report["period"]["variants"].values()
    in_two = sum(row["in_two_variants"] for row in rows)
    if in_two:
        sentences.append(
            f"{pieces.count(in_two, 'visitor')} had two variants or more and "
            "count for the first one."
        )
    return sentences


def _rows(group: Mapping[str, Any]) -> list[list[str]]:
    """The variants of a day, or of the period."""
    return [
        [
            variant,
            pieces.number(row["visit"]),
            pieces.number(row["trade"]),
            _rate(row["conversion"]),
            _gain(row["gain"]),
            _p_value(row["p_value"]),
            _p_value(group["sample_ratio_p_value"]),
        ]
        for variant, row in group["variants"].items()
    ]


def _answer_rows(
    variants: Mapping[str, Mapping[str, Any]],
) -> Iterable[list[str]]:
    for variant, row in variants.items():
        impressions = row["recognised_impressions"] + row["other_impressions"]
        yield [
            variant,
            pieces.number(impressions),
            pieces.percent(row["recognised_share"]),
            pieces.percent(row["recognised_click_rate"]),
            pieces.percent(row["other_click_rate"]),
        ]


def _aside_rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is not part of the conversion."""
    rows = report["period"]["variants"].values()
    return [
        (name, pieces.number(number))
        for name, number in (
            ("lines that are no event (rejects.jsonl)", report["rejected"]),
            ("events sent again (event_id)", report["duplicates"]),
            ("robots", report["robots"]),
            ("events of robots", report["robot_events"]),
            (
                "visitors without a visit",
                sum(row["without_visit"] for row in rows),
            ),
            (
                "events of visitors without a visit",
                sum(row["events_without_visit"] for row in rows),
            ),
            (
                "visitors with a trade without a visit",
                sum(row["trade_without_visit"] for row in rows),
            ),
        )
    ]


def _rate(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "-"
    return (
        f"{100 * cell['value']:.2f} % ({100 * cell['low']:.2f} to "
        f"{100 * cell['high']:.2f})"
    )


def _gain(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "-"
    return (
        f"{_signed(cell['value'])} ({_signed(cell['low'])} to "
        f"{_signed(cell['high'])})"
    )


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f} %"


def _equation(p_value: float | None) -> str:
    text = _p_value(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
