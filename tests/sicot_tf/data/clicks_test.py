"""Tests of the contract of click logs."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sicot_tf.data import clicks

_ROW = {
    "query_id": "q/1",
    "visitor": "v",
    "time": "1970-01-01T00:01:00Z",
    "image": "a/b.jpg",
    "shown": ["p/2", "p/1"],
    "clicked": "p/1",
    "position": 2,
    "split": "train",
    "similarities": [0.5, 0.25],
}


def _reason(**changes) -> str:
    with pytest.raises(clicks.ClickError) as raised:
        clicks.parse({**_ROW, **changes}, "/log")
    assert raised.value.reason in clicks.REASONS
    return raised.value.reason


def test_all_formats_give_the_same_click(tmp_path):
    """If it fails, the format of a log decides what is learnt from it."""
    text = json.dumps(_ROW) + "\n"
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_ROW)
        writer.writerow(
            [
                json.dumps(each) if isinstance(each, list) else each
                for each in _ROW.values()
            ]
        )
    # As pandas has it where another row has no click.
    table = pa.Table.from_pylist([{**_ROW, "position": 2.0}])
    pq.write_table(table, tmp_path / "d.parquet")
    paths = clicks.find_files([str(tmp_path / "*")])
    assert len(paths) == 4
    for path in paths:
        ((number, click, content),) = clicks.read(path)
        assert number == 1
        assert click == clicks.Click(
            query_id="q/1",
            visitor="v",
            time=60.0,
            image=str(tmp_path / "a/b.jpg"),
            shown=("p/2", "p/1"),
            clicked="p/1",
            position=2,
            split="train",
            similarities=(0.5, 0.25),
        ), path
        assert json.loads(content)["query_id"] == "q/1"


def test_bad_rows_have_a_reason_and_spoil_no_other(tmp_path):
    """If it fails, a bad line ends a job or is swallowed."""
    path = tmp_path / "log.jsonl"
    good = json.dumps({**_ROW, "clicked": None, "position": None})
    path.write_bytes(f'{{"query\n\n[1]\n{good}\n'.encode() + b"\xff\n")
    rows = list(clicks.read(path))
    assert [number for number, *_ in rows] == [1, 3, 4, 5]
    assert rows[2][1].clicked is None
    for row in (rows[0], rows[1], rows[3]):
        assert row[1].reason == "bad_json"


def test_what_breaks_the_contract_is_refused():
    """If it fails, a wrong log teaches something else than what happened."""
    for name in ("query_id", "time", "image", "shown"):
        assert _reason(**{name: None}) == "missing_field"
    assert _reason(position=1) == "not_at_position"
    assert _reason(position=0) == "not_at_position"
    assert _reason(position=None) == "not_at_position"
    assert _reason(clicked=None) == "not_at_position"
    assert _reason(shown=["p/1", "p/1"]) == "shown_twice"
    assert _reason(split="dev") == "unknown_split"
    assert _reason(similarities=[0.5]) == "bad_field"
    assert _reason(similarities=[0.5, float("nan")]) == "bad_field"
    assert _reason(time="yesterday") == "bad_field"
    assert _reason(time=5) == "bad_field"
    assert _reason(shown={"p": 1}) == "bad_field"
    assert _reason(query_id="\udcff") == "bad_field"


def test_pages_gather_their_clicks():
    """If it fails, a double click counts twice or a page has others' rows."""

    def click(**changes):
        return clicks.parse({**_ROW, **changes}, "/log")

    other = click(shown=["p/1"], position=1, similarities=None)
    nothing = click(query_id="q/2", clicked=None, position=None)
    first = click(clicked="p/2", position=1)
    pages, refused = clicks.gather([click(), nothing, first, click(), other])
    assert [page.query_id for page in pages] == ["q/1", "q/2"]
    assert [page.positions for page in pages] == [(1, 2), ()]
    assert [row for row, _ in refused] == [other]
    assert refused[0][1].reason == "another_page"


def test_a_log_that_is_none_is_told(tmp_path):
    """If it fails, a mistyped name trains on nothing."""
    with pytest.raises(ValueError, match="No click log matches"):
        clicks.find_files([str(tmp_path / "*.jsonl")])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="ending in one of"):
        clicks.find_files([str(tmp_path / "a.txt")])
    (tmp_path / "a.parquet").write_bytes(b"none")
    with pytest.raises(ValueError, match="can't be read"):
        list(clicks.read(tmp_path / "a.parquet"))
