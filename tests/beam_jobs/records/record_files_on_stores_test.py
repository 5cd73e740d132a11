"""Record files and pictures on an S3 server."""

import hashlib
import pathlib
from collections.abc import Iterator

import pytest

from beam_jobs.records import record_files
from beam_jobs.records import record_pictures
from sicot_tf.data import records
from sicot_tf.stores import folder
from sicot_tf.stores import opening
from tests.helpers import object_stores


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_stores.s3_bucket() as url:
        store = opening.open_folder(url)
        for key in (
            "set/a.jsonl",
            "set/b.jsonl",
            "set/b.jsonl.md5",
            "set/[x].csv",
            "set/x.csv",
            "set/deep/c.jsonl",
            "other/d.jsonl",
        ):
            store.put(key, key.encode())
        yield url


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("set/a.jsonl", ["set/a.jsonl"]),
        ("set/*.jsonl", ["set/a.jsonl", "set/b.jsonl"]),
        ("set/[ab].jsonl", ["set/a.jsonl", "set/b.jsonl"]),
        # A name that looks like a glob is a name first, as on a disk.
        ("set/[x].csv", ["set/[x].csv"]),
        ("*/*.jsonl", ["other/d.jsonl", "set/a.jsonl", "set/b.jsonl"]),
        (
            "set/**.jsonl",
            ["set/a.jsonl", "set/b.jsonl", "set/deep/c.jsonl"],
        ),
    ],
)
def test_finds_record_files(
    bucket: str, pattern: str, expected: list[str]
) -> None:
    """Globs mean on a store what they mean to Beam."""
    found = record_files.find_record_files([f"{bucket}/{pattern}"])
    assert [each.path for each in found] == [
        f"{bucket}/{each}" for each in expected
    ]


@pytest.mark.parametrize("pattern", ["set/none.jsonl", "set/z*", "set"])
def test_tells_what_matches_nothing(bucket: str, pattern: str) -> None:
    """A mistyped name ends the job before it begins."""
    with pytest.raises(ValueError, match="No record file matches 's3://"):
        record_files.find_record_files([f"{bucket}/{pattern}"])


def test_tells_a_missing_bucket(bucket: str) -> None:
    """It is no glob that matches nothing: say what is wrong."""
    for pattern in ("s3://no-such-bucket/a.jsonl", "s3://no-such-bucket/*"):
        with pytest.raises(folder.StoreRefusedError, match="no bucket"):
            record_files.find_record_files([pattern])


def test_hashes_and_sees_changes(bucket: str) -> None:
    """A changed picture changes the fingerprint, so that it is read again."""
    path = f"{bucket}/set/a.jsonl"
    content = b"set/a.jsonl"
    assert record_files.sha256(path) == hashlib.sha256(content).hexdigest()
    before = record_files.state(path)
    assert record_files.state(path) == before
    opening.open_folder(bucket).put("set/a.jsonl", b"changed")
    assert record_files.state(path) not in (before, "missing")
    opening.open_folder(bucket).put("set/a.jsonl", content)
    assert record_files.state(f"{bucket}/none") == "missing"
    # What a record may hold is no reason to end a job.
    for path in ("s3://", "s3://no-such-bucket/a", f"{bucket}/../a"):
        assert record_files.state(path) == "missing"


def test_a_missing_picture_is_a_reject_as_on_a_disk(
    bucket: str, tmp_path: pathlib.Path
) -> None:
    """Rejects have equal lines, wherever the pictures are."""
    messages = set()
    for place in (bucket, str(tmp_path)):
        with pytest.raises(records.RecordError) as caught:
            record_pictures.read(f"{place}/none.jpg", place)
        assert caught.value.reason == "missing_image"
        messages.add(str(caught.value))
    assert messages == {"No such file or directory"}
    assert record_pictures.read(f"{bucket}/set/x.csv", bucket) == b"set/x.csv"


def test_a_bucket_that_a_single_record_names_is_a_reject(bucket: str) -> None:
    """A record may hold any text; only the records' own bucket has to be."""
    for path in ("s3://no-such-bucket/a.jpg", "s3://", f"{bucket}//a.jpg"):
        with pytest.raises(records.RecordError) as caught:
            record_pictures.read(path, f"{bucket}/set")
        assert caught.value.reason == "missing_image"


def test_a_store_at_fault_rejects_no_record(bucket: str) -> None:
    """Else an hour without the server costs sixty million records."""
    with (
        object_stores.impatient(),
        object_stores.environment(
            AWS_ACCESS_KEY_ID="a",
            AWS_SECRET_ACCESS_KEY="b",
            AWS_ENDPOINT_URL="http://127.0.0.1:9",
        ),
    ):
        with pytest.raises(folder.StoreError, match="Could not reach"):
            record_pictures.read(f"{bucket}/a.jpg", "/somewhere")
    with pytest.raises(folder.StoreRefusedError, match="no bucket"):
        record_pictures.read("s3://no-such-bucket/a.jpg", "s3://no-such-bucket")
