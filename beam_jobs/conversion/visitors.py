"""What only all events together decide: who came, saw, clicked and bought.

Runs in DuckDB over the parts of all files, out of core: what does not fit
into its memory is spilled. Tables, in the order in which they come about:

    names          variants, numbered by name
    once           the events, each id once: the first by file and line
    all_days       a visitor's day: variant first seen, what they did
    visitor_days   the same without robots
    visitors       a visitor in the whole period, in the same way
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import duckdb

# Of a report; also the digits of a number in which `first` ends.
_MAX_VARIANTS = 128
_DAYS = """
    create table all_days as select
      visitor,
      day,
      -- By time, then by place; it takes its variant along.
      min((time::hugeint << 63) + (place::hugeint << 7) + variant) as first,
      min(variant) as lowest,
      max(variant) as highest,
      bool_or(event = 0) as visit,
      bool_or(event = 1) as impression,
      bool_or(event = 2) as click,
      bool_or(event = 3) as trade,
      count(*) as events,
      count(*) filter (event = 1 and recognised) as recognised_impressions,
      count(*) filter (event = 1 and not recognised) as other_impressions,
      count(*) filter (event = 2 and recognised) as recognised_clicks,
      count(*) filter (event = 2 and not recognised) as other_clicks,
      bool_or(robot) or count(*) > $max_events as robot
    from once group by visitor, day
"""
_VISITORS = """
    create table visitors as select
      visitor,
      min(first) as first,
      min(lowest) as lowest,
      max(highest) as highest,
      bool_or(visit) as visit,
      bool_or(impression) as impression,
      bool_or(click) as click,
      bool_or(trade) as trade,
      sum(events)::bigint as events,
      sum(recognised_impressions)::bigint as recognised_impressions,
      sum(other_impressions)::bigint as other_impressions,
      sum(recognised_clicks)::bigint as recognised_clicks,
      sum(other_clicks)::bigint as other_clicks
    from visitor_days group by visitor
"""
# Visitors, each once, and of the last five the events.
_COUNTS = """
    count(*) filter (visit) as visit,
    count(*) filter (visit and impression) as impression,
    count(*) filter (visit and click) as click,
    count(*) filter (visit and trade) as trade,
    count(*) filter (not visit) as without_visit,
    count(*) filter (not visit and trade) as trade_without_visit,
    count(*) filter (lowest != highest) as in_two_variants,
    coalesce(sum(events) filter (not visit), 0)::bigint
      as events_without_visit,
    sum(recognised_impressions)::bigint as recognised_impressions,
    sum(other_impressions)::bigint as other_impressions,
    sum(recognised_clicks)::bigint as recognised_clicks,
    sum(other_clicks)::bigint as other_clicks
"""


def count(
    parts: Sequence[pathlib.Path],
    spill: pathlib.Path,
    *,
    max_events_per_day: int,
    memory_megabytes: int,
) -> dict[str, Any]:
    """Counts visitors by day and variant, and by variant.

    A visitor belongs to the variant of their first event, of the day or of
    the period. Whoever has an event that is marked as a robot's, or more
    events in one day than people have, is a robot on all days.

    Args:
        parts: Parquet files of `store_events.EVENT_SCHEMA`.
        spill: an empty folder; it and the parts are inside a
            `parquet_tables.plain_name`.

    Returns:
        `events`, `duplicates`, `robots` (visitors) and `robot_events`;
        `variants` (sorted names); `days`: day to variant to counts;
        `period`: variant to counts. All variants stand on all days.

    Raises:
        ValueError: if there are too many variants to be a test.
    """
    with duckdb.connect(
        str(spill / "events.duckdb"),
        config={
            "memory_limit": f"{memory_megabytes}MB",
            "temp_directory": str(spill / "spill"),
            "preserve_insertion_order": False,
        },
    ) as database:
        rows = database.read_parquet(
            [str(each) for each in parts], hive_partitioning=False
        )
        rows.create_view("parts")
        variants = _number_variants(database)
        _keep_once(database)
        database.execute(_DAYS, {"max_events": max_events_per_day})
        database.execute(
            "create table robots as "
            "select distinct visitor from all_days where robot"
        )
        database.execute(
            "create table visitor_days as "
            "select * from all_days anti join robots using (visitor)"
        )
        database.execute(_VISITORS)
        (read, once, robots, robot_events) = database.execute(
            "select (select count(*) from parts), "
            "(select count(*) from once), (select count(*) from robots), "
            "(select coalesce(sum(events), 0)::bigint from all_days) - "
            "(select coalesce(sum(events), 0)::bigint from visitor_days)"
        ).fetchone()
        return {
            "events": read,
            "duplicates": read - once,
            "robots": robots,
            "robot_events": robot_events,
            "variants": variants,
            **_groups(database, variants),
        }


def _number_variants(database: duckdb.DuckDBPyConnection) -> list[str]:
    names = [
        name
        for (name,) in database.execute(
            f"select distinct variant from parts limit {_MAX_VARIANTS + 1}"
        ).fetchall()
    ]
    if len(names) > _MAX_VARIANTS:
        raise ValueError(
            f"Expected events of at most {_MAX_VARIANTS} variants, received "
            f"more, among them {sorted(names)[:3]}. Is `variant` something "
            "else in these files?"
        )
    names.sort()
    database.execute("create table names (variant varchar, id smallint)")
    if names:
        database.executemany(
            "insert into names values (?, ?)",
            [(name, number) for number, name in enumerate(names)],
        )
    return names


def _keep_once(database: duckdb.DuckDBPyConnection) -> None:
    """Narrow numbers only: groups of texts could not be spilled."""
    database.execute(
        "create table first_places as "
        "select min(place) as place from parts group by event_id"
    )
    database.execute(
        "create table once as select parts.visitor, parts.day, parts.time, "
        "parts.place, parts.event, parts.recognised, parts.robot, "
        "names.id as variant from parts "
        "semi join first_places using (place) join names using (variant)"
    )
    database.execute("drop table first_places")


def _groups(
    database: duckdb.DuckDBPyConnection, variants: Sequence[str]
) -> dict[str, Any]:
    """`days` and `period` of `count`."""
    result = database.execute(
        f"""select day::varchar as day, (first & 127)::int as number, {_COUNTS}
        from visitor_days group by all
        union all
        select 'period', (first & 127)::int as number, {_COUNTS}
        from visitors group by all
        order by all"""
    )
    _, _, *names = (each[0] for each in result.description)
    groups = {"period": {}}
    for group, number, *counts in result.fetchall():
        groups.setdefault(group, {})[variants[number]] = dict(
            zip(names, counts, strict=True)
        )
    for group in groups.values():
        for variant in variants:
            group.setdefault(variant, dict.fromkeys(names, 0))
    return {"period": groups.pop("period"), "days": groups}
