import json

import numpy as np
import pyarrow.parquet as pq

from beam_jobs import export_vectors
from sicot_tf import files
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue.vectors import VectorRow
from sicot_tf.data import generations


def test_every_row_once_with_its_vector(tmp_path, capsys, monkeypatch):
    """Broken: a row is lost between two files, or has another's vector."""
    monkeypatch.setattr(export_vectors, "_PER_FILE", 4)
    monkeypatch.setattr(export_vectors, "_PER_GROUP", 2)
    unit = np.eye(12, dtype=np.float32)
    rows = [VectorRow(f"p{n // 2}", n % 2, "a" * (n % 3)) for n in range(11)]
    rows[0] = VectorRow("p0", 0, None)
    base = tmp_path / "base"
    base.mkdir()
    vector_index.build(base, rows, unit[:11])
    # A delta leaves empty slots.
    folder = tmp_path / "vectors" / "g"
    folder.mkdir(parents=True)
    built = vector_index.build_from(
        folder, base, removed=["p1"], rows=[], vectors=unit[:0]
    )
    manifest = {"signature": "search", "saved_model_sha256": "sha"}
    files.write_json(folder / generations.MANIFEST, built | manifest)
    generations.point_latest(folder)
    for _ in range(2):  # The second replaces the first.
        export_vectors.main(
            [
                *("--vector_index", str(folder.parent)),
                *("--output", str(tmp_path / "export")),
            ]
        )
    assert "9 vectors of g in" in capsys.readouterr().out
    # Files of 4: 9 rows are three.
    paths = sorted((tmp_path / "export").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in paths] == [4, 4, 1]
    found = [row for path in paths for row in pq.read_table(path).to_pylist()]
    kept = [n for n in range(11) if n // 2 != 1]
    assert [each["id"] for each in found] == [
        f"p{n // 2}/{n % 2}" for n in kept
    ]
    assert [each["category"] for each in found] == [
        rows[n].category or "" for n in kept
    ]
    np.testing.assert_array_equal(
        [each["vector"] for each in found], unit[kept]
    )
    described = json.loads((tmp_path / "export" / "milvus.json").read_text())
    assert described["index"]["index_type"] == "IVF_RABITQ"
    assert described["index"]["params"] == {
        "nlist": 1,
        "refine": True,
        "refine_type": "FP32",
    }
    assert described["search"]["rbq_query_bits"] == 4
