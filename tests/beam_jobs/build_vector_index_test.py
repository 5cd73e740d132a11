"""The job as a whole, against dictionaries of what should be in the index."""

import contextlib
import io
import json
import os
import random
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from beam_jobs import build_vector_index
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue.vector_index import VectorIndex
from sicot_tf.data import generations
from tests.helpers import tiny_releases
from tests.helpers import tiny_vectors


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_vectors.write_model(tmp_path_factory.mktemp("model") / "1")


def run(vectors, *flags):
    """Exit code, standard output and error."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            build_vector_index.main(
                ["--output", str(vectors), *map(str, flags)]
            )
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def build(vectors, index, *flags):
    code, _, err = run(vectors, "--product_index", index, *flags)
    assert code == 0, err
    return generations.resolve_generation(vectors)


def manifest(generation):
    return files.read_json(generation / generations.MANIFEST)


def contents(generation):
    """Vector and category of each (product_id, picture) of a generation."""
    rows = np.load(generation / vector_rows.ROWS)
    with contextlib.closing(
        sqlite3.connect(generation / vector_rows.STORE)
    ) as store:
        found = store.execute(
            "SELECT product_id, picture, category, slot FROM vectors"
        ).fetchall()
    assert len(found) == manifest(generation)["num_vectors"]
    return {(p, n): (category, rows[slot]) for p, n, category, slot in found}


def check(found, expected):
    """The same pictures, categories and, up to rounding, vectors."""
    assert {key: c for key, (c, _) in found.items()} == {
        key: c for key, (c, _) in expected.items()
    }
    for key, (_, vector) in expected.items():
        np.testing.assert_allclose(found[key][1], vector, atol=1e-5)


def unit(vector):
    return np.asarray(vector) / np.linalg.norm(vector)


def product(product_id, category=None, images=("x",)):
    return product_index.Product(
        product_id, "sku", "live", list(images), [], category, {}, None
    )


def test_takes_what_the_product_index_has(tmp_path):
    """Broken: a vector is of another picture or not of length 1, or one
    without direction stops all."""
    rng = np.random.default_rng(0)
    stored = {f"{n}.jpg": 5 * rng.normal(size=12) for n in range(5)}
    stored["3.jpg"] = np.zeros(12)
    stored["4.jpg"] = np.full(12, np.nan)
    index = tiny_vectors.write_index(
        tmp_path / "index",
        "2026-01-01-aa",
        {
            "p": ("cups", ["0.jpg", "none.jpg", "1.jpg"]),
            "q": (None, ["2.jpg"]),
            "r": ("cups", ["3.jpg", "4.jpg"]),
            "s": ("cups", []),
        },
        vectors=stored,
    )
    vectors = tmp_path / "vectors"
    code, out, err = run(vectors, "--product_index", index)
    assert (code, err.count("error")) == (0, 0)
    generation = generations.resolve_generation(vectors)
    expected = {
        ("p", 0): ("cups", unit(stored["0.jpg"])),
        ("p", 2): ("cups", unit(stored["1.jpg"])),
        ("q", 0): (None, unit(stored["2.jpg"])),
    }
    check(contents(generation), expected)
    rejects = (generation / "rejects.jsonl").read_text().splitlines()
    assert [
        (each["product_id"], each["picture"], each["reason"])
        for each in map(json.loads, rejects)
    ] == [
        ("p", 1, "no_embedding"),
        ("r", 0, "bad_vector"),
        ("r", 1, "bad_vector"),
    ]
    found = manifest(generation)
    assert found["signature"] == "embedding"
    assert found["saved_model_sha256"] == "stored model"
    assert found["product_index"] == {
        "generation": "2026-01-01-aa",
        "identity": files.sha256(index / "manifest.json"),
    }
    assert out.splitlines()[-1] == (
        "Next: python -m sicot_tf.release --model saved_models/... "
        f"--product_index {index} --vector_index {vectors}"
    )
    with VectorIndex(vectors) as opened:
        hits = opened.search(
            np.float32([unit(stored["1.jpg"])]), 1, category="cups"
        )[0]
    assert [(hit.product_id, hit.picture) for hit in hits] == [("p", 2)]


def test_random_deltas_lose_and_double_nothing(tmp_path):
    """Broken: after days of deltas the index is not what a full build of
    the same catalogue would give."""
    rng = random.Random(7)
    numbers = np.random.default_rng(7)
    vectors, last = tmp_path / "vectors", None
    catalogue, stored = {}, {}

    def change():
        for _ in range(6):
            name = f"p{rng.randrange(12)}"
            action = rng.choice(("put", "put", "category", "vector", "delete"))
            if action == "put":
                images = [f"{name}-{n}" for n in rng.sample(range(4), 3)]
                catalogue[name] = (rng.choice(("a", "b", None)), images)
                for image in images:
                    stored.setdefault(image, numbers.normal(size=12))
            elif name not in catalogue:
                continue
            elif action == "category":
                catalogue[name] = ("c", catalogue[name][1])
            elif action == "vector":
                stored[catalogue[name][1][0]] = numbers.normal(size=12)
            else:
                del catalogue[name]

    while not catalogue:
        change()
    for day in range(12):
        index = tiny_vectors.write_index(
            tmp_path / "index", f"index-{day}", catalogue, vectors=stored
        )
        flags = ["--delta"] if last else []
        generation = build(vectors, index, "--force", *flags)
        assert generation != last
        check(
            contents(generation),
            {
                (name, place): (category, unit(stored[image]))
                for name, (category, images) in catalogue.items()
                for place, image in enumerate(images)
            },
        )
        last = generation
        change()


def test_delta_by_a_model(tmp_path, model, caplog):
    """Broken: a delta embeds what it has, misses a picture that was replaced
    in its place, or loses one whose disk is away."""
    images = tmp_path / "images"
    images.mkdir()

    def draw(name, seed):
        (images / name).write_bytes(tiny_vectors.picture(seed))

    for seed in range(4):
        draw(f"{seed}.png", seed)
    (images / "page.png").write_text("<html>")
    vectors = tmp_path / "vectors"
    flags = ("--saved_model", model, "--image_root", images)
    index = tiny_vectors.write_index(
        tmp_path / "index",
        "first",
        {
            "p": ("cups", ["0.png", "1.png"]),
            "q": ("cups", ["2.png", "page.png"]),
            "r": (None, ["3.png", "none.png"]),
        },
    )
    first = build(vectors, index, *flags)
    found = manifest(first)
    assert found["signature"] == "search"
    assert found["counts"]["embedded"] == 4
    assert found["counts"]["rejects"] == {
        "missing_image": 1,
        "not_an_image": 1,
    }
    seeds = {("p", 0): 0, ("p", 1): 1, ("q", 0): 2, ("r", 0): 3}
    category = {"p": "cups", "q": "cups", "r": None}

    def expect(generation):
        check(
            contents(generation),
            {
                key: (
                    category[key[0]],
                    tiny_vectors.searched(tiny_vectors.picture(seed)),
                )
                for key, seed in seeds.items()
            },
        )

    expect(first)
    # In its place another picture; one mended; one gone for a day; one new;
    # one that moves to another place; a product that goes.
    draw("0.png", 10)
    draw("page.png", 11)
    (images / "2.png").unlink()
    draw("5.png", 12)
    index = tiny_vectors.write_index(
        tmp_path / "index",
        "second",
        {
            "p": ("cups", ["1.png", "0.png"]),
            "q": ("cups", ["2.png", "page.png"]),
            "s": ("cups", ["5.png"]),
        },
    )
    second = build(vectors, index, *flags, "--delta")
    category["s"] = "cups"
    seeds = {
        ("p", 0): 1,
        ("p", 1): 10,
        ("q", 0): 2,
        ("q", 1): 11,
        ("s", 0): 12,
    }
    expect(second)
    counts = manifest(second)["counts"]
    assert (counts["embedded"], counts["kept_from_base"]) == (3, 2)
    assert counts["products_added_or_changed"] == 3
    assert counts["products_gone"] == 1
    # Nothing has changed: nothing is built.
    assert build(vectors, index, *flags, "--delta") == second
    # Another model would mix two spaces.
    other = tiny_vectors.write_model(tmp_path / "model" / "2", salt="other")
    code, _, err = run(
        *(vectors, "--product_index", index, "--delta"),
        *("--saved_model", other, "--image_root", images),
    )
    assert code == 2 and "leave --delta out" in err


def test_live_changes_are_folded(tmp_path, model):
    """Broken: what the gallery has put is lost by the next build, comes back
    from the dead, or keeps the vectors of an older model."""
    old = tiny_vectors.picture(0)
    (tmp_path / "0.png").write_bytes(old)
    catalogue = {
        name: ("cups", [str(tmp_path / "0.png")]) for name in ("p", "q", "r")
    }
    index = tiny_vectors.write_index(tmp_path / "index", "first", catalogue)
    vectors = tmp_path / "vectors"
    flags = ("--saved_model", model)
    first = build(vectors, index, *flags)
    sha256 = manifest(first)["saved_model_sha256"]
    new = tiny_vectors.picture(1)
    vector = tiny_vectors.searched(new)
    with vector_updates.VectorUpdates(vectors) as updates:
        updates.put(product("p"), np.stack([vector]), [new], sha256)
        updates.put(product("live", "hats"), vector[None], [new], sha256)
        # Not by this model: its picture counts, not its vector.
        wrong = np.eye(12, dtype=np.float32)[:1]
        updates.put(product("other"), wrong, [new], "another")
        updates.delete("q")

    # Flags, and how many are embedded: one picture of each of the two kinds,
    # in a full build that of the catalogue's product too.
    expected = {
        ("p", 0): (None, vector),
        ("live", 0): ("hats", vector),
        ("other", 0): (None, vector),
        ("r", 0): ("cups", tiny_vectors.searched(old)),
    }
    delta = build(vectors, index, *flags, "--delta")
    check(contents(delta), expected)
    assert manifest(delta)["folded_updates"] == 4
    assert manifest(delta)["counts"]["embedded"] == 1
    with VectorIndex(vectors) as opened:
        assert opened.apply_updates() == 0
        # The product index has none of them.
        assert opened.product("live")[1].category == "hats"
        assert opened.product("q") == (True, None)
        assert opened.product("r") == (False, None)
    # Another model: all pictures anew, also those of live changes.
    other = tiny_vectors.write_model(tmp_path / "model" / "2", salt="other")
    full = build(vectors, index, "--saved_model", other)
    check(contents(full), expected)
    assert manifest(full)["counts"]["embedded"] == 4

    # The catalogue has records as new: from now on it decides.
    late = 4e9
    catalogue |= {"live": ("shoes", [str(tmp_path / "0.png")])}
    index = tiny_vectors.write_index(
        tmp_path / "index",
        "second",
        catalogue,
        updated_at={"live": late},
        tombstones={"other": late},
    )
    flags = ("--saved_model", other, "--force")
    taken = build(vectors, index, *flags, "--delta")
    check(
        contents(taken),
        {
            ("p", 0): (None, vector),
            ("live", 0): ("shoes", tiny_vectors.searched(old)),
            ("r", 0): ("cups", tiny_vectors.searched(old)),
        },
    )
    # Also when it drops the product without a word.
    del catalogue["live"]
    index = tiny_vectors.write_index(tmp_path / "index", "third", catalogue)
    dropped = build(vectors, index, *flags)
    assert {name for name, _ in contents(dropped)} == {"p", "r"}


def test_guard_retention_and_rollback(tmp_path):
    """Broken: a lost disk empties the search, a release loses its vectors,
    or there is no way back."""
    stored = {str(n): np.eye(12)[n] for n in range(10)}

    def index(name, count):
        return tiny_vectors.write_index(
            tmp_path / "index",
            name,
            {f"p{n}": (None, [str(n)]) for n in range(count)},
            vectors=stored,
        )

    vectors = tmp_path / "vectors"
    first = build(vectors, index("a", 10))
    # 7 of 10: 30 % fewer.
    small = index("b", 7)
    code, _, err = run(vectors, "--product_index", small)
    assert code == 2 and "--max_shrink_percent 20" in err
    assert generations.resolve_generation(vectors) == first
    assert not list(vectors.glob("20*b*")) or first.exists()
    second = build(vectors, small, "--force")
    code, out, _ = run(vectors, "--rollback")
    assert (code, generations.resolve_generation(vectors)) == (0, first)
    assert first.name in out
    _, out, _ = run(vectors, "--list")
    assert [line.split()[0] for line in out.splitlines()] == [
        "generation",
        first.name,
        second.name,
    ]
    assert out.splitlines()[1].endswith("<- LATEST")
    # A release has the first, the others go.
    release = tiny_releases.publish(tmp_path, 1)
    path = tmp_path / "releases" / f"{release.name}.json"
    text = json.loads(path.read_text())
    path.write_text(json.dumps(text | {"vector_index_generation": str(first)}))
    build(vectors, index("c", 8), "--force")
    kept = build(
        *(vectors, index("d", 9), "--keep", "1"),
        *("--releases", tmp_path / "releases"),
    )
    assert set(generations.by_age(vectors)) == {first, kept}


def test_mistakes(tmp_path, model):
    """Broken: a mistake is a traceback, or found after hours of work."""
    index = tiny_vectors.write_index(
        tmp_path / "index", "a", {"p": (None, ["relative.png"])}
    )
    vectors = tmp_path / "vectors"
    for flags, expected in (
        ([], "has no embeddings"),
        (["--saved_model", model], "--image_root DIR"),
        (
            ["--saved_model", model, "--image_root", tmp_path],
            "no picture that could be embedded. The first is",
        ),
        (["--saved_model", model, "--delta"], "without --delta first"),
        (["--recall", "1.5"], "expected a share"),
        (["--keep", "0"], "expected 1 or more"),
    ):
        code, _, err = run(vectors, "--product_index", index, *flags)
        assert code == 2, err
        assert expected in err
        assert generations.latest(vectors) is None


# Builds a delta again and again in a child that ends, as if killed, before its
# n-th operation on a file, until one comes through; prints what each leaves.
_KILLED = """
import json, os, pathlib, sys
import sqlite3
from beam_jobs import build_vector_index
from beam_jobs.vectors import build
from sicot_tf import files
from sicot_tf.data import generations

vectors = pathlib.Path(sys.argv[1])
flags = ["--output", str(vectors), "--product_index", *sys.argv[2:]]
left = []

def kill_at(count):
    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "sqlite3.connect"):
            count -= 1
            if not count:
                os._exit(9)
    sys.addaudithook(hook)

for count in range(1, 10_000, 37):
    child = os.fork()
    if not child:
        kill_at(count)
        try:
            build_vector_index.main(flags)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    latest = generations.resolve_generation(vectors)
    manifest = files.read_json(latest / generations.MANIFEST)
    whole = all(
        files.sha256(latest / name) == each["sha256"]
        for name, each in manifest["files"].items()
    )
    left.append((manifest["num_vectors"], whole))
    if status == 0:
        break
print(json.dumps(left))
"""


def test_killed_builder(tmp_path):
    """Broken: a kill leaves half a generation in use, or the next run can't
    go on."""
    stored = {str(n): np.eye(12)[n] for n in range(10)}
    indexes = [
        tiny_vectors.write_index(
            tmp_path / "index",
            f"index-{count}",
            {f"p{n}": (None, [str(n)]) for n in range(count)},
            vectors=stored,
        )
        for count in (8, 10)
    ]
    vectors = tmp_path / "vectors"
    build(vectors, indexes[0])
    finished = subprocess.run(
        [sys.executable, "-c", _KILLED, vectors, indexes[1], "--delta"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    left = json.loads(finished.stdout.splitlines()[-1])
    assert len(left) > 3
    assert left[-1] == [10, True]
    assert all(each in ([8, True], [10, True]) for each in left)
    # Neither work folders nor locks remain.
    assert not list(vectors.glob(".*"))
