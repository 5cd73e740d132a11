"""The gallery's commands on an index that a running service has open."""

import contextlib
import io
import json

import numpy as np
import pytest

from beam_jobs import build_product_index
from beam_jobs import build_vector_index
from sicot_tf import gallery
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue.gallery import Gallery
from sicot_tf.catalogue.vector_index import VectorIndex
from tests.helpers import tiny_vectors


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_vectors.write_model(tmp_path_factory.mktemp("model") / "1")


@pytest.fixture
def vectors(tmp_path, model):
    """A vector index of two products: pictures 0 and 1."""
    for seed in range(6):
        (tmp_path / f"{seed}.png").write_bytes(tiny_vectors.picture(seed))
    (tmp_path / "page.png").write_text("<html>")
    index = tiny_vectors.write_index(
        tmp_path / "index",
        "first",
        {
            "p": ("cups", [str(tmp_path / "0.png")]),
            "q": ("cups", [str(tmp_path / "1.png")]),
        },
    )
    folder = tmp_path / "vectors"
    with contextlib.redirect_stdout(io.StringIO()):
        build_vector_index.main(
            [
                *("--product_index", str(index), "--output", str(folder)),
                *("--saved_model", str(model)),
            ]
        )
    return folder


def run(vectors, action, *flags):
    """Exit code, standard output and error."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            gallery.main(
                [action, "--vector_index", str(vectors), *map(str, flags)]
            )
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def nearest(index, seed):
    vector = tiny_vectors.searched(tiny_vectors.picture(seed))
    [[hit]] = index.search(vector[None], 1)
    return hit.product_id, round(hit.similarity, 4)


def test_add_change_remove_are_live_at_once(tmp_path, vectors, model):
    """Broken: a service that runs does not find what was added, or still
    finds what was removed."""
    flags = ("--saved_model", model, "--product_index", tmp_path / "index")
    with VectorIndex(vectors) as index:
        code, out, err = run(
            *(vectors, "add", *flags, "--product_id", "new"),
            *("--title", "Red mug", "--category", "mugs"),
            *("--image", tmp_path / "2.png", tmp_path / "3.png"),
            *("--attribute", "price=9.5", "maker=Me"),
        )
        assert code == 0, err
        assert out.startswith("1 products added: ")
        assert index.apply_updates() == 1
        assert nearest(index, 3) == ("new", 1.0)
        changed, product = index.product("new")
        assert changed and product.sku_id == "new"
        assert product.attributes == {"price": 9.5, "maker": "Me"}
        assert product.images == [
            str(tmp_path / "2.png"),
            str(tmp_path / "3.png"),
        ]
        # Only what is given changes; the pictures need not be there any more.
        (tmp_path / "2.png").unlink()
        code, _, err = run(
            *(vectors, "change", *flags, "--product_id", "new"),
            *("--attribute", "price=8"),
        )
        assert code == 0, err
        # What the catalogue has, with another picture.
        code, _, err = run(
            *(vectors, "change", *flags, "--product_id", "p"),
            *("--image", tmp_path / "4.png"),
        )
        assert code == 0, err
        assert run(vectors, "remove", "--product_id", "q")[0] == 0
        assert index.apply_updates() == 3
        _, product = index.product("new")
        assert product.attributes == {"price": 8, "maker": "Me"}
        assert product.title == "Red mug"
        assert nearest(index, 2) == ("new", 1.0)
        assert nearest(index, 4) == ("p", 1.0)
        assert nearest(index, 0)[1] < 1
        assert nearest(index, 1)[0] != "q"
        assert index.product("p")[1].title == "title of p"
        assert index.num_vectors == 3

    code, out, _ = run(vectors, "list")
    assert [line.split()[3:5] for line in out.splitlines()[:-1]] == [
        ["waiting", "new"],
        ["waiting", "p"],
        ["waiting", "q"],
    ]
    assert "3 products changed live, 3 since" in out
    code, out, _ = run(vectors, "find", "--title", "MUG")
    assert json.loads(out.splitlines()[0])["product_id"] == "new"
    code, out, _ = run(
        *(vectors, "find", *flags, "--image", tmp_path / "4.png"),
    )
    assert out.splitlines()[0] == " 1.000  p  'title of p', cups"


def test_rows_of_a_file(tmp_path, vectors, model):
    """Broken: one bad row costs the others, or nobody says which it was."""
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "product_id,images,title,price\n"
        "a,2.png|3.png,Two,1.5\n"
        "p,2.png,There,1\n"
        "b,none.png,Gone,1\n"
        "c,page.png,No picture,1\n"
        ",2.png,Nameless,1\n"
        "d,,Blind,1\n"
        "e,2.png,Long,1,2\n"
        "f,5.png,,\n"
    )
    rejects = tmp_path / "rejects.jsonl"
    flags = ("--saved_model", model, "--rejects", rejects)
    code, out, err = run(vectors, "add", *flags, "--rows", rows)
    assert code == 0, err
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(each["line"], each["reason"]) for each in found] == [
        (3, "already_there"),
        (4, "missing_image"),
        (5, "decode_error"),
        (6, "missing_field"),
        (7, "no_image"),
        (8, "bad_row"),
    ]
    assert found[0]["record"]["title"] == "There"
    assert "6 rows rejected" in out and "2 products added" in out
    with VectorIndex(vectors) as index:
        assert index.apply_updates() == 2
        assert index.num_vectors == 5
        assert index.product("a")[1].attributes == {"price": 1.5}
    # The same file again: all is there, none can be used.
    code, _, err = run(vectors, "add", *flags, "--rows", rows)
    assert code == 2 and "No row of" in err


def test_export_goes_through_the_catalogue(tmp_path, vectors, model):
    """Broken: after the next build of the catalogue live changes are gone, or
    come twice, or a removed product comes back."""
    (tmp_path / "catalogue").mkdir()
    catalogue = tmp_path / "catalogue" / "all.jsonl"
    catalogue.write_text(
        "".join(
            json.dumps(
                {
                    "product_id": name,
                    "sku_id": name,
                    "title": "",
                    "images": [str(tmp_path / f"{seed}.png")],
                    "updated_at": 1,
                }
            )
            + "\n"
            for seed, name in enumerate("pq")
        )
    )
    index = tmp_path / "real_index"
    flags = ("--saved_model", model)
    run(
        *(vectors, "add", *flags, "--product_id", "new", "--title", "Mug"),
        *("--image", tmp_path / "2.png", "--attribute", "price=2"),
    )
    run(vectors, "remove", "--product_id", "q")
    output = tmp_path / "changes"
    code, out, err = run(vectors, "export", "--output", output)
    assert code == 0, err
    assert "2 records in" in out
    with contextlib.redirect_stdout(io.StringIO()):
        build_product_index.main(
            ["--input", str(catalogue), "--output", str(index)]
        )
        build_product_index.main(
            [
                *("--input", str(output / "changes.jsonl")),
                *("--output", str(index), "--mode", "delta", "--force"),
            ]
        )
    with product_index.ProductIndex(index) as opened:
        assert opened.product("q") is None
        product = opened.product("new")
        assert (product.title, product.attributes) == ("Mug", {"price": 2})
        [picture] = product.images
        assert (output / picture).read_bytes() == tiny_vectors.picture(2)
    with contextlib.redirect_stdout(io.StringIO()):
        build_vector_index.main(
            [
                *("--product_index", str(index), "--output", str(vectors)),
                *("--saved_model", str(model), "--image_root", str(output)),
            ]
        )
    with VectorIndex(vectors) as opened:
        assert opened.apply_updates() == 0
        assert opened.num_vectors == 2
        assert nearest(opened, 2) == ("new", 1.0)
        # It is the catalogue's now.
        assert opened.product("new") == (False, None)


def test_refuses_another_model(tmp_path, vectors):
    """Broken: vectors of two models stand in one index."""
    other = tiny_vectors.write_model(tmp_path / "2", salt="other")
    code, _, err = run(
        *(vectors, "add", "--saved_model", other, "--product_id", "x"),
        *("--image", tmp_path / "2.png"),
    )
    assert code == 2 and "by another model than" in err
    assert not (vectors / vector_updates.UPDATES).exists() or (
        vector_updates.VectorUpdates(vectors).last_sequence == 0
    )


def test_probe(vectors):
    """Broken: a server with another model is not noticed."""
    with Gallery(vectors) as opened:
        gallery._probe(
            opened, lambda data: [tiny_vectors.searched(data[0])], "here"
        )
        with pytest.raises(ValueError, match="another model than the one"):
            gallery._probe(
                opened, lambda data: [tiny_vectors.colours(data[0])], "there"
            )


def test_mistakes(tmp_path, vectors, model):
    """Broken: a mistyped line is a traceback, or changes something."""
    image = ("--image", tmp_path / "2.png")
    some = ("--saved_model", model)
    for flags, expected in (
        (("add", "--product_id", "x", *image), "give --saved_model or"),
        (("add", *some), "either --rows or --product_id"),
        (("find",), "give --product_id, --title or --image"),
        (("export",), "give --output"),
        (("remove", "--product_id", "none"), "unknown_product"),
        (("add", *some, "--product_id", "p", *image), "already_there"),
        (("change", *some, "--product_id", "x"), "Nothing is known of x"),
        (("find", "--product_id", "p"), "give --product_index"),
        (("add", *some, "--rows", tmp_path / "0.png"), "a .csv or .jsonl"),
        (
            ("add", "--product_id", "x", *image, "--model_server", "no"),
            "error",
        ),
    ):
        action, *rest = flags
        code, _, err = run(vectors, action, *rest)
        assert code == 2, (flags, err)
        assert expected in err
    assert np.load(next(vectors.glob("2*/rows.npy"))).shape == (2, 12)
