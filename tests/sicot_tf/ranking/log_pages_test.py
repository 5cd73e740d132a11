"""Tests of the pages of people."""

import json

import pytest

from sicot_tf.data import clicks
from sicot_tf.ranking import log_pages

_DAY = 86_400


def _page(visitor, positions, time=0.0, shown=("a", "b", "c", "d")):
    return clicks.Page(
        "q", visitor, time, "", shown, tuple(positions), None, None
    )


def test_robots_are_told_from_people():
    """If it fails, a robot's clicks teach, or a person's are thrown away."""
    people = [_page(f"person {n}", [1 + n % 4]) for n in range(40)]
    all_day = [_page("busy", [2], 10.0 * n) for n in range(11)]
    over_days = [_page("loyal", [2], _DAY * n) for n in range(11)]
    clicks_all = [_page("all", [1, 2])] * 3
    unsure = [_page("twice", [1, 2])] * 2
    # Of 70 clicks, 23 at the first place: 0.33 ** 9 < 1e-4 < 0.33 ** 8.
    firsts = [_page("first", [1])] * 9
    alone = [_page("alone", [1], _DAY * n, ("a",)) for n in range(20)]
    nobody = [_page(None, [1, 2, 3, 4])] * 20
    found = log_pages.find_robots(
        people
        + all_day
        + over_days
        + clicks_all
        + unsure
        + firsts
        + alone
        + nobody,
        max_pages_per_day=10,
    )
    assert found == {
        "busy": "robot_pages",
        "all": "robot_clicks",
        "first": "robot_first_place",
    }
    assert set(found.values()) == set(log_pages.ROBOTS)


def _row(number, **changes):
    return {
        "query_id": f"q/{number}",
        "visitor": f"v/{number}",
        "time": "2026-01-01T00:00:00Z",
        "image": f"{number}.jpg",
        "shown": ["a", "b"],
        "clicked": "b",
        "position": 2,
        **changes,
    }


def test_read_counts_all(tmp_path):
    """If it fails, rows vanish without a word."""
    rows = [_row(n, split=("train", "val", "test")[n % 3]) for n in range(6)]
    rows += [_row(n, visitor="r", clicked="a", position=1) for n in (7, 8, 9)]
    # A robot clicks all of three pages.
    rows += [_row(n, visitor="r") for n in (7, 8, 9)]
    rows += [_row(0, shown=["b"], position=1), {"query_id": "q/20"}]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    log = log_pages.read([str(path)])
    assert log.counts == {
        "rows": 14,
        "rows_rejected": 2,
        "pages": 9,
        "robots": 1,
        "pages_of_robot_clicks": 3,
        "pages_train": 2,
        "pages_val": 2,
        "pages_test": 2,
    }
    assert [(each["reason"], each["line"]) for each in log.rejects] == [
        ("missing_field", 14),
        ("another_page", 13),
    ]
    assert [page.query_id for page in log.of_split("val")] == ["q/1", "q/4"]


def test_splits_follow_the_query_picture(tmp_path):
    """If it fails, a picture is in train and val, or val is empty."""
    path = tmp_path / "log.jsonl"
    rows = [_row(n, image=f"{n // 2}.jpg") for n in range(400)]
    path.write_text("\n".join(map(json.dumps, rows)))
    pages = log_pages.read([str(path)]).pages
    splits = [page.split for page in pages]
    assert splits[::2] == splits[1::2]
    # 400 * 0.1 +- 4 * 6 * sqrt(2).
    assert 10 < splits.count("val") < 75 and "test" not in splits


def test_nothing_to_read_is_told(tmp_path):
    """If it fails, training starts on nothing."""
    path = tmp_path / "log.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="of 1 rows none can be used"):
        log_pages.read([str(path)])
