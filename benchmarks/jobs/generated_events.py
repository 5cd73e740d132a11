"""Generated events of an A/B test with a known effect, and a count by sets.

For tests and benchmarks of `beam_jobs.conversion_report`.
"""

import collections
import datetime
import json
import pathlib
import random
from collections.abc import Iterable
from typing import Any

# Conversion of a session with a visit; the second is 3.1 % better.
CONVERSION = {"current": 0.05, "new": 0.05 * 1.031}
_FIRST_DAY = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC)
# An e-mail address, an unknown event, a time of no place, no object, no JSON.
_BAD_LINES = (
    '{"event_id":"b","time":"2026-03-02T00:00:00Z","event":"visit",'
    '"visitor":"someone@example.org","variant":"new"}',
    '{"event_id":"b","time":"2026-03-02T00:00:00Z","event":"view",'
    '"visitor":"v","variant":"new"}',
    '{"event_id":"b","time":"2026-03-02T00:00:00","event":"visit",'
    '"visitor":"v","variant":"new"}',
    '["someone@example.org"]',
    '{"event_id":',
)


def write_events(
    folder: pathlib.Path,
    num_events: int,
    *,
    num_days: int = 14,
    max_events_per_day: int = 1000,
    seed: int = 0,
) -> dict[str, int]:
    """Writes a file a day of about `num_events` events in all.

    Among them robots with and without a mark, events sent twice, visitors
    with two variants, sessions without a visit, times out of order, and lines
    that are no event.

    Returns:
        What is known: `bad` lines, `duplicates`, `lines`.
    """
    rng = random.Random(seed)
    known = collections.Counter()
    # About 4 events a session, and visitors who come on some of the days.
    num_visitors = max(10, num_events // 12)
    for day in range(num_days):
        quota = num_events * (day + 1) // num_days
        path = folder / f"events-{day:03d}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for _ in range(2):
                _heavy_robot(rng, day, known, file, max_events_per_day)
            while known["lines"] < quota:
                for line in _session(rng, day, num_visitors, known):
                    file.write(line + "\n")
                    known["lines"] += 1
                    if rng.random() < 0.01:
                        file.write(line + "\n")
                        known["lines"] += 1
                        known["duplicates"] += 1
                if rng.random() < 0.004:
                    file.write(rng.choice(_BAD_LINES) + "\n")
                    known["lines"] += 1
                    known["bad"] += 1
    return dict(known)


def _session(
    rng: random.Random,
    day: int,
    num_visitors: int,
    known: collections.Counter[str],
) -> list[str]:
    """What one visitor does in one go, in any order of times."""
    visitor = rng.randrange(num_visitors)
    # One in two hundred sessions sees the other variant.
    is_new = (visitor * 7919 % 1000 < 500) != (rng.random() < 0.005)
    variant = "new" if is_new else "current"
    robot = visitor % 211 == 0
    visited = rng.random() > 0.02
    kinds = [("visit", "")] if visited else []
    for _ in range(rng.randrange(4)):
        recognised = rng.choice(("true", "true", "false", ""))
        kinds.append(("impression", recognised))
        if rng.random() < (0.3 if recognised == "true" else 0.1):
            kinds.append(("click", recognised))
    # Trades without a visit would be too few to be seen.
    if rng.random() < (CONVERSION[variant] if visited else 0.3):
        kinds.append(("trade", ""))
    return [
        _line(rng, day, f"v{visitor}", kind, variant, recognised, robot, known)
        for kind, recognised in kinds
    ]


def _heavy_robot(rng, day, known, file, max_events_per_day) -> None:
    """A visitor at the limit, and one beyond it who has no mark."""
    more = known["heavy"] % 2
    known["heavy"] += 1
    for _ in range(max_events_per_day + more):
        name = f"heavy-{day}-{more}"
        line = _line(rng, day, name, "visit", "new", "", False, known)
        file.write(line + "\n")
        known["lines"] += 1


def _line(rng, day, visitor, kind, variant, recognised, robot, known) -> str:
    known["ids"] += 1
    time = _FIRST_DAY + datetime.timedelta(day, rng.randrange(86_400))
    return (
        f'{{"event_id":"e{known["ids"]}","time":"{time.isoformat()}",'
        f'"event":"{kind}","visitor":"{visitor}","variant":"{variant}"'
        + (f',"recognised":{recognised}' if recognised else "")
        + (',"robot":true' if robot else "")
        + "}"
    )


def count_by_sets(
    paths: Iterable[pathlib.Path], max_events_per_day: int
) -> dict[str, Any]:
    """What `visitors.count` tells, by dictionaries in memory.

    Written for its own sake: shares no code with the report.
    """
    events, num_read = {}, 0
    for path in sorted(paths):
        with path.open(encoding="utf-8") as file:
            for place, line in enumerate(file):
                if line.strip() in _BAD_LINES:
                    continue
                num_read += 1
                row = json.loads(line)
                row["order"] = (row["time"], path.name, place)
                events.setdefault(row["event_id"], row)
    by_day = collections.defaultdict(list)
    for row in events.values():
        by_day[row["visitor"], row["time"][:10]].append(row)
    robots = {
        visitor
        for (visitor, _), rows in by_day.items()
        if len(rows) > max_events_per_day
        or any(row.get("robot") for row in rows)
    }
    groups, by_visitor, robot_events = {}, collections.defaultdict(list), 0
    for (visitor, day), rows in by_day.items():
        if visitor in robots:
            robot_events += len(rows)
        else:
            _add(groups.setdefault(day, {}), rows)
            by_visitor[visitor] += rows
    period = {}
    for rows in by_visitor.values():
        _add(period, rows)
    return {
        "events": num_read,
        "duplicates": num_read - len(events),
        "robots": len(robots),
        "robot_events": robot_events,
        "variants": sorted({row["variant"] for row in events.values()}),
        "period": period,
        "days": groups,
    }


def _add(group: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Counts one visitor."""
    first = min(rows, key=lambda row: row["order"])
    counts = group.setdefault(first["variant"], collections.Counter())
    kinds = {row["event"] for row in rows}
    visited = "visit" in kinds
    for kind in ("visit", "impression", "click", "trade"):
        counts[kind] += visited and kind in kinds
    counts["without_visit"] += not visited
    counts["trade_without_visit"] += not visited and "trade" in kinds
    counts["events_without_visit"] += 0 if visited else len(rows)
    counts["in_two_variants"] += len({row["variant"] for row in rows}) > 1
    for row in rows:
        for kind in ("impression", "click"):
            for known, name in ((True, "recognised"), (False, "other")):
                counts[f"{name}_{kind}s"] += (
                    row["event"] == kind and row.get("recognised") is known
                )


def differences(report: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What differs between a report and `count_by_sets`; empty if nothing."""
    found = []
    for name in ("events", "duplicates", "robots", "robot_events", "variants"):
        if report[name] != expected[name]:
            found.append(f"{name}: {report[name]}, not {expected[name]}.")
    groups = {"period": (report["period"], expected["period"])}
    for day in sorted({*report["days"], *expected["days"]}):
        groups[day] = (
            report["days"].get(day, {"variants": {}}),
            expected["days"].get(day, {}),
        )
    for group, (described, counts) in groups.items():
        for variant in sorted({*described["variants"], *counts}):
            row = described["variants"].get(variant, {})
            nobody = {"visit": 0, "without_visit": 0}
            for name, number in counts.get(variant, nobody).items():
                if row.get(name) != number:
                    found.append(
                        f"{group} {variant} {name}: {row.get(name)}, not "
                        f"{number}."
                    )
    return found
