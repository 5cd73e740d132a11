"""Adds, changes, removes and finds products of a live vector index.

A change is searchable as soon as a service looks for it, within a second; the
next build folds it in. `export` hands all changes over to the catalogue.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import pathlib
import typing
from collections.abc import Iterator
from typing import Any

from sicot_tf import command_line

if typing.TYPE_CHECKING:
    from sicot_tf.catalogue import gallery
    from sicot_tf.catalogue import product_index

_ACTIONS = ("add", "change", "remove", "find", "list", "export")
# Of unit vectors of one picture by one model, on two machines.
_SAME = 0.99

_EXAMPLES = """
rows of --rows: product_id; images (a list, or text with | between) or image,
relative to the file; sku_id (without it a class of its own), title, category,
tags; all else becomes an attribute. Rows that can't be used stand in --rejects
with line and reason.

examples:
  python -m sicot_tf.gallery add --vector_index vectors \\
      --model_server localhost:8500 --product_id mug-7 --title 'Red mug' \\
      --category cups --image front.jpg side.jpg --attribute price=9.5
  python -m sicot_tf.gallery add --vector_index vectors \\
      --saved_model saved_models/sicot/2 --rows new.csv
  python -m sicot_tf.gallery change --vector_index vectors \\
      --saved_model saved_models/sicot/2 --product_index index \\
      --product_id mug-7 --attribute price=8
  python -m sicot_tf.gallery remove --vector_index vectors --product_id mug-7
  python -m sicot_tf.gallery find --vector_index vectors --title mug
  python -m sicot_tf.gallery find --vector_index vectors \\
      --saved_model saved_models/sicot/2 --image photo.jpg
  python -m sicot_tf.gallery list --vector_index vectors
  python -m sicot_tf.gallery export --vector_index vectors --output changes

exit codes: 0 done, also where some rows were rejected; 2 refused, or no row
could be used; 1 another error.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.gallery", __doc__, _EXAMPLES)
    parser.add_argument("action", choices=_ACTIONS)
    path = {"type": pathlib.Path}
    parser.add_argument(
        *("--vector_index",),
        **path,
        required=True,
        metavar="VECTORS",
        help="folder of beam_jobs.build_vector_index",
    )
    parser.add_argument(
        *("--product_index",),
        **path,
        metavar="INDEX",
        help="what the catalogue says of products, to change and find them",
    )
    parser.add_argument(
        *("--image_root",),
        **path,
        metavar="DIR",
        help="folder of the catalogue's relative picture paths (default: that "
        "of the catalogue file, if it is beside the product index)",
    )
    model = parser.add_argument_group("the model that made the vectors")
    model.add_argument(
        *("--saved_model",),
        **path,
        metavar="DIR",
        help="saved_models/sicot/2: in this process",
    )
    model.add_argument("--model_server", metavar="HOST:PORT", help="or there")
    model.add_argument(
        "--model_name", default="sicot", help="there (default: %(default)s)"
    )
    model.add_argument(
        "--model_version", type=int, help="there (default: the newest)"
    )
    _add_product(parser)
    parser.add_argument(
        *("--rejects",),
        **path,
        default=pathlib.Path("gallery_rejects.jsonl"),
        metavar="FILE",
        help="rows that can't be used (default: %(default)s)",
    )
    parser.add_argument(
        "--output", **path, metavar="DIR", help="of export: records, pictures"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=20,
        help="lines of find and list (default: %(default)s)",
    )
    return parser


def _add_product(parser: argparse.ArgumentParser) -> None:
    product = parser.add_argument_group("products")
    product.add_argument(
        "--rows", type=pathlib.Path, metavar="FILE", help="CSV or JSON Lines"
    )
    product.add_argument("--product_id", help="or one product by flags")
    product.add_argument("--sku_id", help="the class it belongs to")
    product.add_argument("--title", help="of find: a part of it")
    product.add_argument("--category")
    product.add_argument("--tags", nargs="+")
    product.add_argument(
        "--image", nargs="+", metavar="FILE", help="of find: a photo"
    )
    product.add_argument(
        "--attribute",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="price and any other field",
    )


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.gallery`."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    _check(parser, arguments)
    from sicot_tf.catalogue import gallery
    from sicot_tf.data import generations
    from sicot_tf.recognition.stages import pictures

    image_root = arguments.image_root
    if arguments.product_index and image_root is None:
        image_root = pictures.find_root(
            generations.resolve_generation(arguments.product_index)
        )
    with gallery.Gallery(
        arguments.vector_index, arguments.product_index, image_root
    ) as opened:
        {
            "add": _change,
            "change": _change,
            "remove": _change,
            "find": _find,
            "list": _list,
            "export": _export,
        }[arguments.action](opened, arguments)


def _check(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    action = arguments.action
    has_model = bool(arguments.saved_model) + bool(arguments.model_server)
    if has_model > 1:
        parser.error("--saved_model and --model_server: give one of them")
    needs_model = action in ("add", "change") or (
        action == "find" and arguments.image
    )
    if needs_model and not has_model:
        parser.error(f"{action}: give --saved_model or --model_server")
    if action in ("add", "change", "remove"):
        if bool(arguments.rows) == bool(arguments.product_id):
            parser.error(f"{action}: give either --rows or --product_id")
    if action == "find" and not (
        arguments.product_id or arguments.title or arguments.image
    ):
        parser.error("find: give --product_id, --title or --image")
    if action == "export" and not arguments.output:
        parser.error("export: give --output")
    if arguments.limit < 1:
        parser.error(f"--limit: expected 1 or more, received {arguments.limit}")
    for each in arguments.attribute:
        if "=" not in each:
            parser.error(f"--attribute: expected NAME=VALUE, received {each!r}")


@contextlib.contextmanager
def _embed(
    opened: "gallery.Gallery", arguments: argparse.Namespace
) -> Iterator["gallery.Embed"]:
    """The model that made the vectors, or a refusal."""
    from sicot_tf.recognition import embedders

    if arguments.saved_model:
        command_line.import_tensorflow()
        yield embedders.of_saved_model(
            *(arguments.saved_model, opened.signature),
            opened.saved_model_sha256,
        )
        return
    with embedders.of_server(
        *(arguments.model_server, arguments.model_name),
        *(arguments.model_version, opened.signature),
    ) as embed:
        _probe(opened, embed, arguments.model_server)
        yield embed


def _probe(
    opened: "gallery.Gallery", embed: "gallery.Embed", address: str
) -> None:
    """A server does not tell which model it has: a known picture does."""
    import numpy as np

    known = opened.known_picture()
    if known is None:
        print(f"Nothing tells whether {address} has the model of the index.")
        return
    data, vector = known
    [found] = embed([data])
    similarity = found @ vector / max(np.linalg.norm(found), 1e-6)
    if found.shape != vector.shape or not similarity >= _SAME:
        raise ValueError(
            f"{address} has another model than the one that made the vectors "
            f"of {opened.generation}: a picture of the index is only "
            f"{similarity:.3f} similar to itself. Name the version that was "
            "released with it: --model_version."
        )


def _change(opened: "gallery.Gallery", arguments: argparse.Namespace) -> None:
    """add, change or remove."""
    from sicot_tf import progress
    from sicot_tf.catalogue import gallery_rows

    action = arguments.action
    folder = pathlib.Path()
    if arguments.rows:
        folder = arguments.rows.parent
        rows = list(gallery_rows.read(arguments.rows))
    else:
        rows = [(0, _row_of_flags(arguments))]
    rejects = []
    with contextlib.ExitStack() as stack:
        embed = None
        if action != "remove":
            embed = stack.enter_context(_embed(opened, arguments))
        for line, row in progress.bar(rows, "Products", "products"):
            try:
                fields = gallery_rows.check(row, folder)
                if action == "add":
                    opened.add(fields, embed)
                elif action == "change":
                    opened.change(fields, embed)
                else:
                    opened.remove(fields["product_id"])
            except gallery_rows.RowError as error:
                rejects.append((line, error, row))
    _report(arguments, len(rows) - len(rejects), rejects)


def _row_of_flags(arguments: argparse.Namespace) -> dict[str, Any]:
    attributes = (each.partition("=") for each in arguments.attribute)
    return {name: value for name, _, value in attributes} | {
        "product_id": arguments.product_id,
        "sku_id": arguments.sku_id,
        "title": arguments.title,
        "category": arguments.category,
        "tags": arguments.tags,
        "images": arguments.image,
    }


def _report(
    arguments: argparse.Namespace, num_done: int, rejects: list
) -> None:
    from sicot_tf import files

    if rejects and not arguments.rows:
        raise ValueError(f"{rejects[0][1].reason}: {rejects[0][1]}")
    if rejects:
        files.write_lines(
            arguments.rejects,
            (
                json.dumps(
                    {
                        "reason": error.reason,
                        "message": str(error),
                        "line": line,
                        "record": row,
                    },
                    ensure_ascii=False,
                )
                for line, error, row in rejects
            ),
        )
        line, error, _ = rejects[0]
        print(
            f"{len(rejects):,} rows rejected, see {arguments.rejects}; the "
            f"first in line {line}, {error.reason}: {error}"
        )
    if not num_done:
        raise ValueError(f"No row of {arguments.rows} could be used.")
    past = {"add": "added", "change": "changed", "remove": "removed"}
    print(
        f"{num_done:,} products {past[arguments.action]}: a running service "
        "has that within a second. Next, so that the catalogue has it too: "
        f"python -m sicot_tf.gallery export --vector_index "
        f"{arguments.vector_index} --output changes"
    )


def _find(opened: "gallery.Gallery", arguments: argparse.Namespace) -> None:
    if arguments.image:
        return _find_alike(opened, arguments)
    found = []
    if arguments.product_id:
        product = opened.product(arguments.product_id)
        if product is None and opened.is_there(arguments.product_id):
            raise ValueError(
                f"{arguments.product_id} is in the index; what it is, only "
                "the catalogue tells: give --product_index."
            )
        found = [product] if product else []
    else:
        found = opened.titled(arguments.title, arguments.limit)
    for each in found:
        print(json.dumps(dataclasses.asdict(each), ensure_ascii=False))
    print(f"{len(found):,} products found.")


def _find_alike(
    opened: "gallery.Gallery", arguments: argparse.Namespace
) -> None:
    """Products by the first photo of --image, the most similar first."""
    import numpy as np

    from sicot_tf.catalogue import vector_index

    with (
        _embed(opened, arguments) as embed,
        vector_index.VectorIndex(opened.generation) as index,
    ):
        index.apply_updates()
        [vector] = embed([pathlib.Path(arguments.image[0]).read_bytes()])
        vector = np.float32(vector / max(np.linalg.norm(vector), 1e-6))
        # A product may have many pictures.
        [hits] = index.search(
            vector[None], 5 * arguments.limit, category=arguments.category
        )
    best: dict[str, float] = {}
    for hit in hits:
        best.setdefault(hit.product_id, hit.similarity)
    for product_id, similarity in list(best.items())[: arguments.limit]:
        product = opened.product(product_id)
        print(f"{similarity:6.3f}  {product_id}  {_describe(product)}")
    print(f"{min(len(best), arguments.limit):,} products found.")


def _list(opened: "gallery.Gallery", arguments: argparse.Namespace) -> None:
    """The newest changes."""
    changes = opened.changes()
    for each in changes[-arguments.limit :]:
        time = datetime.datetime.fromtimestamp(each.changed_at, datetime.UTC)
        state = "folded " if each.sequence <= opened.folded else "waiting"
        if each.product is not None and (
            each.saved_model_sha256 != opened.saved_model_sha256
        ):
            state = "another model's"
        print(
            f"{each.sequence:8}  {time:%Y-%m-%d %H:%M:%S}  {state}  "
            f"{each.product_id}  {_describe(each.product)}"
        )
    waiting = sum(each.sequence > opened.folded for each in changes)
    print(
        f"{len(changes):,} products changed live, {waiting:,} since "
        f"{opened.generation.name} was built. Next: python -m "
        "beam_jobs.build_vector_index --delta folds them in."
    )


def _describe(product: "product_index.Product | None") -> str:
    if product is None:
        return "-"
    return f"{product.title!r}, {product.category or 'no category'}"


def _export(opened: "gallery.Gallery", arguments: argparse.Namespace) -> None:
    count = opened.export(arguments.output)
    print(
        f"{count:,} records in {arguments.output / 'changes.jsonl'}. Next: "
        "python -m beam_jobs.build_product_index --mode delta --input "
        f"{arguments.output / 'changes.jsonl'} --output "
        f"{arguments.product_index or 'index'}"
    )


if __name__ == "__main__":
    main()
