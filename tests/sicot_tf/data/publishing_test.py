"""Generations on a disk and on an S3 server, by the same words."""

import pathlib
from collections.abc import Iterator

import pytest

from sicot_tf.data import publishing
from sicot_tf.stores import lease
from sicot_tf.stores import locations
from sicot_tf.stores import opening
from tests.helpers import object_stores


@pytest.fixture(scope="module", params=("local", "s3"))
def root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[locations.Location]:
    if request.param == "local":
        yield tmp_path_factory.mktemp("store")
    else:
        with object_stores.s3_bucket() as url:
            yield url


@pytest.fixture
def output(
    root: locations.Location, request: pytest.FixtureRequest
) -> locations.Location:
    return locations.join(root, request.node.name)


def _keys(output: locations.Location) -> list[str]:
    """All files but released leases, which a store keeps."""
    keys = [each.key for each in opening.open_folder(output).list()]
    return [key for key in keys if not key.endswith(".lock")]


def test_publishes_a_generation(output: locations.Location) -> None:
    """Readers see it with its manifest or not at all, and find LATEST."""
    assert publishing.latest(output) is None
    with publishing.work_folder(output, "g1") as work:
        work.put("part", b"1")
        result = publishing.result_folder(output, work, "g1")
        result.put("shard", b"2")
        with pytest.raises(ValueError, match="Expected a folder with manifest"):
            publishing.resolve_generation(locations.join(output, "g1"))
        place = publishing.publish(output, result, "g1", {"a": 1})
    publishing.point_latest(output, "g1")
    assert place == locations.join(output, "g1")
    assert _keys(output) == ["LATEST", "g1/manifest.json", "g1/shard"]
    for meant in (output, locations.join(output, "LATEST"), place, str(output)):
        assert publishing.resolve_generation(meant) == place
    assert publishing.latest(output) == place


@pytest.mark.parametrize("pointed", [b"g2\n", b"", b"\xff", b"../x", b"a\0b"])
def test_tells_a_broken_pointer(
    output: locations.Location, pointed: bytes
) -> None:
    """LATEST is a file that people edit."""
    opening.open_folder(output).put("LATEST", pointed)
    with pytest.raises(ValueError, match="LATEST to name a generation"):
        publishing.resolve_generation(output)


def test_goes_on_after_a_failure(output: locations.Location) -> None:
    """What is finished is not done twice; a success leaves nothing."""
    with (
        pytest.raises(RuntimeError),
        publishing.work_folder(output, "g") as work,
    ):
        work.put("part-1", b"1")
        raise RuntimeError("killed")
    assert not publishing.is_worked_on(output, "g")
    with publishing.work_folder(output, "g") as work:
        assert publishing.is_worked_on(output, "g")
        assert work.get("part-1") == b"1"
    assert _keys(output) == []
    assert not publishing.is_worked_on(output, "g")


def test_refuses_a_second_builder(output: locations.Location) -> None:
    """Both would write the same files, for nothing."""
    with publishing.work_folder(output, "g") as work:
        work.put("part-1", b"1")
        with (
            pytest.raises(
                ValueError, match=r"Another process works in .*\.work-g"
            ),
            publishing.work_folder(output, "g"),
        ):
            pass
        # Another name is another work.
        with publishing.work_folder(output, "other"):
            pass
        assert work.get("part-1") == b"1"
    with publishing.only_builder(output):
        with (
            pytest.raises(ValueError, match="Another process is changing"),
            publishing.only_builder(output),
        ):
            pass
    with publishing.only_builder(output):
        pass


def test_removes_what_is_abandoned(output: locations.Location) -> None:
    """Work of other settings would stay for ever; not what is worked on."""
    for name in ("a-1", "a-2", "b-1"):
        with (
            pytest.raises(RuntimeError),
            publishing.work_folder(output, name) as work,
        ):
            work.put("part", b"1")
            raise RuntimeError("killed")
    with publishing.work_folder(output, "a-2"):
        publishing.remove_abandoned(output, "a-*")
        assert _keys(output) == [".work-a-2/part", ".work-b-1/part"]


def test_a_builder_that_lost_its_lease_removes_nothing() -> None:
    """Its successor goes on in the same folder."""
    with object_stores.s3_bucket() as output:
        store = opening.open_folder(output)
        with (
            pytest.raises(OSError, match="was taken over by another process"),
            publishing.work_folder(output, "g") as work,
        ):
            work.put("part", b"1")
            # As if it had been stopped for longer than its lease lasts.
            store.put_json(".work-g.lock", {"state": "left"})
            successor = lease.Lease(store, ".work-g.lock")
            successor.take("works")
        assert work.get("part") == b"1"
        assert publishing.is_worked_on(output, "g")


def test_tells_a_folder_that_can_not_be(tmp_path: pathlib.Path) -> None:
    """On a disk as before: what lies in a file is no folder."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match="Expected a folder for the output"),
        publishing.work_folder(tmp_path / "file", "g"),
    ):
        pass


def test_what_a_kill_leaves_is_no_burden(tmp_path: pathlib.Path) -> None:
    """Breaks if ten killed builds fill the disk with ten copies."""
    left = tmp_path / ".work-a" / "parts" / ".scratch-killed" / "jpegs"
    left.parent.mkdir(parents=True)
    left.touch()
    with publishing.work_folder(tmp_path, "a") as work:
        with work.child("parts").scratch() as scratch:
            assert scratch.exists()
        assert not left.exists()
