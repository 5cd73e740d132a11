"""The conversion of the variants of an A/B test, from their events.

    files of events -> StoreEvents (Beam) -> parts of columns -> DuckDB
        -> visitors by day and variant -> rates, intervals, page

UV conversion rate = trading UV / visiting UV (Eq. 2 of the paper, section
4.4.4), where UV are distinct visitors.
"""

import csv
import io
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.conversion import page
from beam_jobs.conversion import significance
from beam_jobs.conversion import store_events
from beam_jobs.conversion import visitors
from beam_jobs.pipelines import runners
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from sicot_tf import files


def write_report(
    patterns: Sequence[str],
    output: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    *,
    baseline: str | None = None,
    shares: Mapping[str, float] | None = None,
    max_events_per_day: int = 1000,
    memory_megabytes: int = 512,
) -> dict[str, Any]:
    """Writes the report; its folder appears as a whole.

    Args:
        patterns: paths or globs of event files.
        output: the folder to write; what an earlier run wrote is replaced.
        pipeline_options: from `runners.make_pipeline_options`.
        baseline: the variant others are compared with; None for the first by
            name.
        shares: of the variants, as they were assigned.
        max_events_per_day: whoever has more in one day is a robot.
        memory_megabytes: of DuckDB; what is larger is spilled to the disk.

    Returns:
        What `report.json` holds.

    Raises:
        ValueError: if `output` is something else, no event can be read, or
            nobody had the baseline.
    """
    event_files = record_files.find_record_files(patterns)
    with files.replacing_folder(
        output, known_by="report.json", kind="report"
    ) as finished:
        counts = _count(
            event_files,
            finished.parent,
            finished / "rejects.jsonl",
            pipeline_options,
            max_events_per_day,
            memory_megabytes,
        )
        report = describe(counts, baseline, shares)
        report["max_events_per_day"] = max_events_per_day
        files.write_json(finished / "report.json", report)
        files.write_text(finished / "report.csv", _csv(report))
        page.write_page(finished, report)
    return report


def _count(
    event_files: Sequence[record_files.RecordFile],
    work: pathlib.Path,
    rejects: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    max_events_per_day: int,
    memory_megabytes: int,
) -> dict[str, Any]:
    """Reads all files; returns what `visitors.count` does, and the rejects."""
    (work / "parts").mkdir()
    (work / "spill").mkdir()
    counters = runners.run_each(
        pipeline_options,
        [
            (number, os.fsencode(file.path), file.name)
            for number, file in enumerate(event_files)
        ],
        store_events.StoreEvents(str(work / "parts")),
    )
    parts = [
        store_events.part_files(work / "parts", number)
        for number in range(len(event_files))
    ]
    files.join((each["rejects"] for each in parts), rejects)
    if not counters["events_stored"]:
        raise ValueError(
            "Expected events, found none that can be used in "
            f"{len(event_files)} file(s). {_first_message(rejects)}"
        )
    with parquet_tables.plain_name(work) as plain:
        counts = visitors.count(
            [plain / "parts" / each["events"].name for each in parts],
            plain / "spill",
            max_events_per_day=max_events_per_day,
            memory_megabytes=memory_megabytes,
        )
    rejected = counters["lines_rejected"]
    return {"files": len(event_files), "rejected": rejected, **counts}


def _first_message(rejects: pathlib.Path) -> str:
    with rejects.open(encoding="utf-8") as lines:
        line = lines.readline()
    return f"The first of them: {line.strip()}" if line else "They are empty."


def describe(
    counts: Mapping[str, Any],
    baseline: str | None = None,
    shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Rates, intervals and tests of what `visitors.count` counted.

    Raises:
        ValueError: if nobody had the baseline.
    """
    variants = counts["variants"]
    baseline = variants[0] if baseline is None else baseline
    if baseline not in variants:
        raise ValueError(
            f"Expected --baseline among {', '.join(variants)}, "
            f"received {baseline!r}."
        )
    return {
        **counts,
        "baseline": baseline,
        "shares": dict(shares) if shares else None,
        "period": _describe_group(counts["period"], baseline, shares),
        "days": {
            day: _describe_group(group, baseline, shares)
            for day, group in counts["days"].items()
        },
    }


def _describe_group(
    group: Mapping[str, Mapping[str, int]],
    baseline: str,
    shares: Mapping[str, float] | None,
) -> dict[str, Any]:
    """The variants of a day, or of the period."""
    described = {"variants": {}, "sample_ratio_p_value": None}
    of_baseline = (group[baseline]["trade"], group[baseline]["visit"])
    for variant, counts in group.items():
        own = (counts["trade"], counts["visit"])
        impressions = [
            counts[f"{kind}_impressions"] for kind in ("recognised", "other")
        ]
        described["variants"][variant] = {
            **counts,
            "conversion": _rate(*own),
            "gain": None,
            "p_value": None,
            "recognised_share": _ratio(impressions[0], sum(impressions)),
            "recognised_click_rate": _ratio(
                counts["recognised_clicks"], impressions[0]
            ),
            "other_click_rate": _ratio(counts["other_clicks"], impressions[1]),
        }
        if variant != baseline:
            gain = significance.relative_gain(of_baseline, own)
            described["variants"][variant] |= {
                "gain": _interval(gain),
                "p_value": significance.two_proportion_p_value(
                    of_baseline, own
                ),
            }
    if shares:
        names = sorted({*group, *shares})
        described["sample_ratio_p_value"] = significance.sample_ratio_p_value(
            [group.get(each, {}).get("visit", 0) for each in names],
            [shares.get(each, 0.0) for each in names],
        )
    return described


def _rate(successes: int, trials: int) -> dict[str, float] | None:
    interval = significance.wilson_interval(successes, trials)
    return interval and _interval((successes / trials, *interval))


def _interval(
    numbers: tuple[float, float, float] | None,
) -> dict[str, float] | None:
    if numbers is None:
        return None
    return dict(zip(("value", "low", "high"), numbers, strict=True))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _csv(report: Mapping[str, Any]) -> str:
    """A row for each day and variant; those of `period` come last."""
    text = io.StringIO()
    writer = None
    for day, group in (*report["days"].items(), ("period", report["period"])):
        for variant, row in group["variants"].items():
            flat = {"day": day, "variant": variant}
            for name, value in row.items():
                if name in ("conversion", "gain"):
                    for part in ("value", "low", "high"):
                        flat[f"{name}_{part}"] = (value or {}).get(part)
                else:
                    flat[name] = value
            flat["sample_ratio_p_value"] = group["sample_ratio_p_value"]
            if writer is None:
                writer = csv.DictWriter(text, flat, lineterminator="\n")
                writer.writeheader()
            writer.writerow(flat)
    return text.getvalue()
