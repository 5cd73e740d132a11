"""What became of each row of the logs: report, rejects, bad pictures."""

import collections
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow.parquet as pq

from beam_jobs.clicks import estimate
from beam_jobs.clicks import log
from beam_jobs.clicks import parse_clicks
from beam_jobs.records import raw_records
from sicot_tf import files

REPORT = "report.json"
BAD_PICTURES = "bad_pictures.jsonl"

STATES = {
    "mined": "a click that triplets were made of",
    "no_click": "a page, or a row of one, without a click",
    "no_negative": "a click that no shown or near product stands against",
    "double_click": "the same product of the same page again",
    "robot_pages": "of a visitor with too many pages in an hour",
    "robot_clicks": "of a visitor with too many clicks in an hour",
    "robot_everything": "of a visitor who clicked at most of what was shown",
    "robot_first_place": "of a visitor who always clicked at the first place",
    "test_split": "a click of the test split, which is left out",
    "unknown_product": "the catalogue has no such product (rejects.jsonl)",
    "no_picture": "the clicked product has no picture (rejects.jsonl)",
    "bad_query_picture": "it can't be read (rejects.jsonl)",
    "bad_product_picture": "that of the clicked product (rejects.jsonl)",
    "other_page": "a query_id of another page (rejects.jsonl)",
    "rejected": "a row against the contract (rejects.jsonl)",
}
_MESSAGES = {
    "other_page": "Another row with this query_id has another image, shown, "
    "visitor or split.",
    "unknown_product": "The catalogue has no product {clicked!r}.",
    "no_picture": "The product {clicked!r} has no picture in the catalogue.",
}
# The state of every row that could be read.
_STATES = """
    create view all_states as
    select states.place, states.clicked,
      case when states.state != 'click' then states.state
        when positives.state = 'click' then 'mined'
        else positives.state end as state
    from states left join positives using (place)
"""
_LATE = """
    select all_states.place, state, all_states.clicked, content,
      (select min(query_picture) from all_triplets t
        where t.place = all_states.place) as query_picture,
      (select min(positive_picture) from all_triplets t
        where t.place = all_states.place) as positive_picture
    from all_states join click_rows using (place)
    where state in ('other_page', 'unknown_product', 'no_picture',
      'bad_query_picture', 'bad_product_picture')
    order by all_states.place
"""


class Pictures:
    """Stored pictures by path, and what is wrong with the others.

    Attributes:
        places: path to name of the JPEGs, offset, length.
        unreadable: path to reason.
    """

    def __init__(self, tables: Sequence[pathlib.Path]):
        self.places: dict[str, tuple[str, int, int]] = {}
        self.unreadable: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        for table in tables:
            for path, *place, reason, message in zip(
                *(each.to_pylist() for each in pq.read_table(table).columns)
            ):
                if reason is None:
                    self.places[path] = tuple(place)
                else:
                    self.unreadable[path] = reason
                    self.messages[path] = message

    def __contains__(self, path: str) -> bool:
        return path in self.places or path in self.unreadable

    def write(self, path: pathlib.Path) -> None:
        """A JSON line for each picture that can't be read."""
        files.write_lines(
            path,
            (
                raw_records.to_json(
                    {
                        "image": image,
                        "reason": reason,
                        "message": self.messages[image],
                    }
                )
                for image, reason in sorted(self.unreadable.items())
            ),
        )


def write_late_rejects(
    database: duckdb.DuckDBPyConnection,
    pictures: Pictures,
    names: Sequence[str],
    path: pathlib.Path,
) -> None:
    """Rows that fit the contract, but not the log or the catalogue.

    Args:
        names: of the click logs.
    """
    database.execute(_STATES)
    rows = database.execute(_LATE)
    with (
        files.replacing(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        while chunk := rows.fetchmany(1024):
            for place, state, clicked, content, *images in chunk:
                reason, message = state, _MESSAGES.get(state, "")
                for image in images:
                    if not message and image in pictures.unreadable:
                        reason = pictures.unreadable[image]
                        message = pictures.messages[image]
                        break
                file.write(
                    parse_clicks.reject_line(
                        reason,
                        message.format(clicked=clicked)
                        if state in _MESSAGES
                        else message,
                        file=names[place >> 36],
                        line=place & (1 << 36) - 1,
                        record=json.loads(content or "{}"),
                    )
                    + "\n"
                )


def report(
    database: duckdb.DuckDBPyConnection,
    *,
    num_read: int,
    rejects: pathlib.Path,
) -> dict[str, Any]:
    """Counts; `rows` by state add up to `rows_read`.

    Args:
        num_read: rows of all logs.
        rejects: all of them.
    """
    counted = dict(
        database.execute(
            "select state, count(*) from all_states group by state"
        ).fetchall()
    )
    counted["rejected"] = num_read - sum(counted.values())
    with rejects.open(encoding="utf-8") as lines:
        reasons = collections.Counter(
            json.loads(line)["reason"] for line in lines
        )
    kinds = database.execute(
        "select split, kind, count(*) from triplets group by all order by all"
    ).fetchall()
    (pages, visitors, unnamed) = database.execute(
        "select count(*), count(distinct visitor), "
        "count(*) filter (visitor is null) from pages"
    ).fetchone()
    (unknown,) = database.execute(
        "select count(*) from shows anti join products using (product_id)"
    ).fetchone()
    return {
        "rows_read": num_read,
        "rows": {name: counted.get(name, 0) for name in STATES},
        "rejects": dict(sorted(reasons.items())),
        "pages": pages,
        "pages_without_visitor": unnamed,
        "visitors": visitors,
        "robots": log.count_robots(database),
        "shown_unknown_products": unknown,
        "triplets": {f"{split}/{kind}": count for split, kind, count in kinds},
    }


def table(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    lines = [f"{'rows read':24}{report['rows_read']:>12,}"]
    for name, text in STATES.items():
        if count := report["rows"][name]:
            lines.append(f"  {name:22}{count:>12,}  {text}")
    if report["rejects"]:
        lines.append("reasons of rejects")
    for name, count in report["rejects"].items():
        lines.append(f"  {name:22}{count:>12,}")
    lines.append(f"{'pages':24}{report['pages']:>12,}")
    lines.append(f"{'visitors':24}{report['visitors']:>12,}")
    for name, count in report["robots"].items():
        lines.append(f"  {name:22}{count:>12,}")
    lines.append(f"{'triplets':24}{sum(report['triplets'].values()):>12,}")
    for name, count in report["triplets"].items():
        lines.append(f"  {name:22}{count:>12,}")
    for name, count in report["dropped_for_pictures"].items():
        lines.append(f"  left out: {name:12}{count:>12,}  picture unreadable")
    found = report["examination"]
    lines.append(
        f"examination of each place ({estimate.METHODS[found['method']]})"
    )
    lines.append(_numbers(found["places"]))
    lines.append("click rate of each place, as a share of the first")
    lines.append(_numbers(found["click_rates"]))
    return "\n".join(lines)


def _numbers(places: Sequence[float]) -> str:
    return "  " + " ".join(f"{each:.3f}" for each in places)
