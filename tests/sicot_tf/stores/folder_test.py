"""What every folder promises, over all stores there are."""

import concurrent.futures
import io
import pathlib
import pickle
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import object_folder
from sicot_tf.stores import opening
from tests.helpers import object_stores

_STORES = ("local", "moto", "versitygw", "fake-gcs-server")


@pytest.fixture(scope="module", params=_STORES)
def root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[locations.Location]:
    if request.param == "local":
        yield tmp_path_factory.mktemp("store")
        return
    with {
        "moto": object_stores.s3_bucket,
        "versitygw": object_stores.versitygw_bucket,
        "fake-gcs-server": object_stores.gcs_bucket,
    }[request.param]() as url:
        yield url


@pytest.fixture
def store(
    root: locations.Location, request: pytest.FixtureRequest
) -> folder.Folder:
    return opening.open_folder(locations.join(root, request.node.name))


def test_gives_what_was_put_under_any_name(store: folder.Folder) -> None:
    """A client that quotes names wrongly reads another picture, or none."""
    for key in ("a", "b/c", "a b%20+&=.jpg", "ä/日本?#.jpg", "[x]*{y}~.jpg"):
        store.put(key, key.encode())
    for key in ("a", "b/c", "a b%20+&=.jpg", "ä/日本?#.jpg", "[x]*{y}~.jpg"):
        assert store.get(key) == key.encode()
        assert store.exists(key)


def test_says_in_the_same_way_that_a_file_is_missing(
    store: folder.Folder,
) -> None:
    """Records with missing pictures are rejects, with equal messages."""
    for ask in (
        store.get,
        store.open,
        lambda key: store.get_range(key, 0, 1),
        lambda key: store.download(key, pathlib.Path("never")),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            ask("there/is/none")
        assert caught.value.strerror == "No such file or directory"
        assert caught.value.filename.endswith("there/is/none")
    assert not store.exists("there/is/none")
    assert not isinstance(caught.value, folder.StoreError)
    store.delete("there/is/none")


def test_puts_replace_and_change_the_version(store: folder.Folder) -> None:
    """A reader that keeps a copy learns of a change by the version."""
    store.put("a", b"1")
    version = store.version("a")
    assert store.version("a") == version
    store.put("a", b"22")
    assert store.get("a") == b"22"
    assert store.version("a") != version


def test_creates_once(store: folder.Folder) -> None:
    """Two workers at one part: the second has to learn that it is late."""
    assert store.create("a", b"mine")
    assert not store.create("a", b"yours")
    # A retried request finds what it wrote itself.
    assert store.create("a", b"mine")
    assert store.get("a") == b"mine"


def test_creates_once_from_many_threads(store: folder.Folder) -> None:
    """A store that lets two creators win loses a part, or a lease."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        contents = [str(each).encode() for each in range(8)]
        won = list(pool.map(lambda each: store.create("a", each), contents))
    assert sum(won) == 1
    assert store.get("a") == contents[won.index(True)]


def test_replaces_a_known_version_only(store: folder.Folder) -> None:
    """The lease of a builder stands on it."""
    if not isinstance(store, object_folder.ObjectFolder):
        pytest.skip("Disks have locks instead.")
    store.put("a", b"1")
    version = store.version("a")
    assert store.replace("a", b"2", version)
    assert not store.replace("a", b"3", version)
    # As a retried request would.
    assert store.replace("a", b"2", version)
    store.delete("a")
    assert not store.replace("a", b"4", version)
    assert not store.exists("a")


def test_reads_ranges(store: folder.Folder) -> None:
    """Shards are read in pieces; at the end there is less."""
    store.put("a", b"0123456789")
    store.put("empty", b"")
    assert store.get_range("a", 2, 3) == b"234"
    assert store.get_range("a", 8, 100) == b"89"
    assert store.get_range("a", 10, 5) == b""
    assert store.get_range("a", 50, 5) == b""
    assert store.get_range("a", 3, 0) == b""
    assert store.get_range("empty", 0, 5) == b""


def test_opens_files_that_seek(store: folder.Folder) -> None:
    """Record files of CSV are looked at twice, from their beginning."""
    store.put("a", b"one\ntwo\nthree\n")
    store.put("empty", b"")
    with store.open("a") as file:
        assert file.readline() == b"one\n"
        assert file.seek(-6, io.SEEK_END) == 8
        assert file.read(3) == b"thr"
        assert file.tell() == 11
        file.seek(0)
        assert len(file.readlines()) == 3
    with store.open("empty") as file:
        assert file.read() == b""


def test_opens_large_files(store: folder.Folder) -> None:
    """Beyond one request, every place has to give its own bytes."""
    # 20 MB in which every 8 bytes tell where they are.
    content = b"".join(b"%08d" % each for each in range(2_500_000))
    store.put("large", content)
    with store.open("large") as file:
        assert file.read(16) == b"0000000000000001"
        file.seek(8 * 2_000_000)
        assert file.read(8) == b"02000000"
        file.seek(-8, io.SEEK_END)
        assert file.read() == b"02499999"
        assert file.read() == b""
        file.seek(0)
        assert file.read() == content


def test_parquet_reads_from_an_open_file(store: folder.Folder) -> None:
    """Record files of Parquet are read so, a row group at a time."""
    table = pa.table({"a": range(1_000_000), "b": ["x" * 9] * 1_000_000})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    # Larger than what is read by one request.
    assert buffer.tell() > 2 * object_folder.SMALL
    store.put("table.parquet", buffer.getvalue())
    with store.open("table.parquet") as file:
        assert pq.ParquetFile(file).read().equals(table)


def test_lists_in_order(store: folder.Folder) -> None:
    """Parts are joined in the order of their names, on every store."""
    before = time.time()
    for key in ("b/2", "b/1", "b-1", "b.1", "a", "b1/x", "c", "B", "ä", "z"):
        store.put(key, key.encode())
    found = list(store.list())
    # By bytes: "-" 2d, "." 2e, "/" 2f, "1" 31; capitals before small ones.
    expected = ["B", "a", "b-1", "b.1", "b/1", "b/2", "b1/x", "c", "z", "ä"]
    assert [each.key for each in found] == expected
    for each in found:
        assert each.num_bytes == len(each.key.encode())
        assert each.version == store.version(each.key)
        # S3 tells whole seconds.
        assert before - 1.5 < each.modified < time.time() + 1.5


def test_lists_what_starts_with_a_prefix(store: folder.Folder) -> None:
    """A prefix need not end where a part of the name does."""
    for key in ("part-1", "part-2/x", "part/x", "par", "pb"):
        store.put(key, b"")

    def keys(prefix: str, **how: bool) -> list[str]:
        return [each.key for each in store.list(prefix, **how)]

    assert keys("part-") == ["part-1", "part-2/x"]
    assert keys("part-1") == ["part-1"]
    assert keys("part/") == ["part/x"]
    assert keys("pb") == ["pb"]
    assert keys("px") == []
    assert keys("px/y/") == []
    # What lies deeper is left out.
    assert keys("part-", is_deep=False) == ["part-1"]
    assert keys("pb", is_deep=False) == ["pb"]
    assert "part/x" not in keys("", is_deep=False)
    assert keys("part/", is_deep=False) == ["part/x"]


def test_children_have_keys_of_their_own(store: folder.Folder) -> None:
    """What a worker lists of its folder it can get from there."""
    child = store.child("inner").child("most")
    child.put("a", b"1")
    assert [each.key for each in child.list()] == ["a"]
    assert [each.key for each in store.list()] == ["inner/most/a"]
    assert str(child).endswith("inner/most")


def test_deletes_many(store: folder.Folder) -> None:
    """Work that is done leaves nothing behind, and takes nothing along."""
    # More than S3 lists, or deletes, by one request, where it is a store.
    many = 1100 if isinstance(store, object_folder.ObjectFolder) else 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: store.put(f"w/{each}", b""), range(many)))
    store.put("w2", b"")
    assert len(list(store.list("w/"))) == many
    store.delete_all("w/")
    assert [each.key for each in store.list()] == ["w2"]


def test_uploads_and_downloads(
    store: folder.Folder, tmp_path: pathlib.Path
) -> None:
    """Shards are files of the machine first; large ones go up in parts."""
    content = bytes(range(256)) * (1 << 16)  # 16 MiB: two parts.
    for key, each in (("large", content), ("empty", b""), ("small", b"1")):
        with store.scratch() as scratch:
            (scratch / "file").write_bytes(each)
            store.upload(scratch / "file", f"up/{key}")
        assert not scratch.exists()
        store.download(f"up/{key}", tmp_path / key)
        assert (tmp_path / key).read_bytes() == each


def test_keeps_json(store: folder.Folder) -> None:
    """A bad manifest is told with its place."""
    store.put_json("a.json", {"b": 1})
    assert store.get_json("a.json") == {"b": 1}
    store.put("bad.json", b"{")
    with pytest.raises(ValueError, match="bad.json is not valid JSON"):
        store.get_json("bad.json")


def test_can_be_sent_to_workers(store: folder.Folder) -> None:
    """Beam pickles what a transform holds; a client would not let it."""
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"
