"""Kills while a vector index is written leave the old or the new state."""

from benchmarks.search import vector_index_kills


def test_nothing_is_lost_or_there_by_half(capsys):
    vector_index_kills.main(["--moments", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "updates",
        "snapshots",
        "generations",
    ]
    assert all("2 kills" in line for line in lines)
