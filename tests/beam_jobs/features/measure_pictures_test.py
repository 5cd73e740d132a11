"""Tests of the measuring of pictures, part by part."""

import pyarrow.parquet as pq
from PIL import Image

from beam_jobs.features import measure_pictures
from beam_jobs.features import offers


def test_a_killed_job_goes_on(tmp_path):
    """If it fails, a kill costs the pictures of hours: the first part, which
    is there, is measured again."""
    rows = [
        (f"p/{number:03d}", "[]", None, "{}", None, "")
        for number in range(offers.PART_ROWS)
    ]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    rows.append(("p/999", '["a.png"]', None, "{}", None, str(tmp_path)))
    products = tmp_path / "products.parquet"
    offers._write(iter(rows), products)
    folder = tmp_path / "pictures"
    folder.mkdir()
    measure = measure_pictures.MeasurePartFn(str(products), str(folder))
    assert list(measure.process(1)) == []
    path = measure_pictures.part_path(folder, 1)
    assert pq.read_table(path)["picture_side"].to_pylist() == [9]
    # Nothing is left to read, and nothing is read.
    products.unlink()
    assert list(measure.process(1)) == []
