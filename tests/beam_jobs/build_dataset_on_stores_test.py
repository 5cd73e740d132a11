"""The build of a data set from S3 to S3, with a server on loopback."""

import dataclasses
import hashlib
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from beam_jobs import build_dataset
from beam_jobs.dataset import build
from beam_jobs.pipelines import runners
from sicot_tf import config
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening
from tests.helpers import object_stores

_CONFIG = dataclasses.replace(
    config.with_preset(config.DatasetConfig, "demo"),
    word_vector_dim=4,
    word2vec_epochs=1,
)
_FLAGS = ["--word_vector_dim", "4", "--word2vec_epochs", "1"]
_NUM_RECORDS = 12


def _write_records(place):
    """Pictures of noise, one missing, and their record file."""
    folder = opening.open_folder(place)
    rng = np.random.default_rng(0)
    with folder.scratch() as scratch:
        rows = []
        for i in range(_NUM_RECORDS):
            name = f"images/{i}.png"
            rows.append({
                "record_id": f"r{i}", "image": name, "sku_id": f"s{i % 2}",
                "title": "red bag",
            })  # fmt: skip
            if i:
                noise = rng.integers(0, 255, (9, 9, 3), np.uint8)
                Image.fromarray(noise).save(scratch / "picture.png")
                folder.upload(scratch / "picture.png", name)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    folder.put("records.jsonl", lines.encode())
    return str(locations.join(place, "records.jsonl"))


def _build(records, output, **settings):
    return build.build(
        build.Inputs([records]),
        output,
        _CONFIG,
        runners.make_pipeline_options(),
        **settings,
    )


def _digests(generation):
    folder = opening.open_folder(generation)
    return {
        entry.key: hashlib.sha256(folder.get(entry.key)).hexdigest()
        for entry in folder.list()
        if entry.key != generations.RUN
    }


@pytest.fixture(scope="module")
def bucket():
    with object_stores.s3_bucket() as url:
        yield url


@pytest.fixture(scope="module")
def built(bucket, tmp_path_factory):
    """Record file on the store, and what a local build makes of equal ones."""
    folder = tmp_path_factory.mktemp("local")
    local = _build(_write_records(folder), folder / "dataset")
    return _write_records(f"{bucket}/raw"), local


def test_equal_bytes(bucket, built):
    """Breaks if a data set on a store is another one than on a disk."""
    records, local = built
    output = f"{bucket}/equal"
    generation = _build(records, output, part_records=5)
    assert _digests(generation) == _digests(local)
    assert publishing.resolve_generation(output) == generation
    # Asked again, nothing is done again.
    run = opening.open_folder(generation).version(generations.RUN)
    assert _build(records, output, part_records=5) == generation
    assert opening.open_folder(generation).version(generations.RUN) == run
    left = {
        entry.key.partition("/")[0]
        for entry in opening.open_folder(output).list()
    }
    work = [name for name in left if name.startswith(generations.WORK)]
    # Of the work nothing is left but the lease that was given back.
    assert all(name.endswith(generations.LOCK) for name in work)
    assert left - {*work, locations.name(generation)} == {
        ".requests",
        generations.LATEST,
    }


def test_a_killed_build_goes_on(bucket, built):
    """Breaks if a kill leaves half a data set that someone may read, or costs
    what was done; or if two build one thing at once."""
    records, local = built
    output = f"{bucket}/killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.build_dataset", "--input", records]
        + ["--output", output, "--part_records", "1", *_FLAGS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = opening.open_folder(output)

    def finished():
        keys = (entry.key for entry in folder.list(generations.WORK))
        return [
            key for key in keys if "/parts/" in key and key.endswith(".parquet")
        ]

    while len(finished()) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    num_finished = len(finished())
    with pytest.raises(
        ValueError, match=f"Another process works.*{process.pid}"
    ):
        _build(records, output, part_records=1)
    process.kill()
    process.wait()
    assert num_finished < _NUM_RECORDS
    with pytest.raises(ValueError, match="Build it first"):
        publishing.resolve_generation(output)
    generation = _build(records, output, part_records=1)
    assert _digests(generation) == _digests(local)
    run = opening.open_folder(generation).get_json(generations.RUN)
    # The one on its way when the process stopped may have been done as well.
    again = _NUM_RECORDS - run["beam_counters"]["parts_stored"]
    assert again - num_finished in (0, 1)


def test_pictures_that_came_meanwhile(bucket, built):
    """Breaks if what an interrupted build has rejected stays so, although the
    picture is there now."""
    records, _ = built
    output = f"{bucket}/meanwhile"
    with pytest.raises(ValueError, match="memory_megabytes"):
        _build(records, output, memory_megabytes=1)
    raw = f"{bucket}/raw-meanwhile"
    records = _write_records(raw)

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "result_folder", interrupt)
        with pytest.raises(Interrupted):
            _build(records, output)
    folder = opening.open_folder(raw)
    folder.put("images/0.png", folder.get("images/1.png"))
    generation = _build(records, output)
    manifest = opening.open_folder(generation).get_json("manifest.json")
    assert "missing_image" not in manifest["counts"]["rejected"]


def test_mistakes_are_one_sentence(bucket, built, capsys):
    """Breaks if a wrong bucket is a traceback, or an hour of silence."""
    records, _ = built
    with pytest.raises(SystemExit) as ended:
        build_dataset.main(
            ["--input", records, "--output", "s3://no-such-bucket/x", *_FLAGS]
        )
    assert ended.value.code == 2
    assert "no-such-bucket" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        build_dataset.main(
            ["--input", f"{bucket}/none.jsonl", "--output", f"{bucket}/x"]
        )
    assert "No record file matches" in capsys.readouterr().err
    assert not pathlib.Path("s3:").exists()
