"""Which embedding finds the product of a query picture in the catalogue.

Of a generated shop: every query picture of a split against all pictures of the
catalogue, a product as near as its nearest picture. Compared are the
classifier's features of the whole picture and of the recogniser's own box, and
signature `search` of each export named. Intervals of 95 % draw products anew.

Vectors of the catalogue are kept in --work, by model.

examples:
  python -m benchmarks.search.recall --shop shop --split val \\
      --model with_box=models/box/1 --model without=models/whole/1
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import flags
from benchmarks.search import ranks
from sicot_tf import command_line
from sicot_tf import files

_BATCH = 64


def main(argv: list[str] | None = None) -> None:
    """Prints the tables and writes them as JSON."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--shop", type=pathlib.Path, required=True)
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=VERSION",
        help="a version with signature search; the first one's embedding and "
        "localization are the classifier",
    )
    parser.add_argument(
        "--max_queries", type=int, default=0, help="of the split; 0: all"
    )
    parser.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("search-recall")
    )
    arguments = parser.parse_args(argv)
    command_line.set_up_logging("info")
    command_line.import_tensorflow()

    # === What is there ===
    shop = arguments.shop
    queries = [
        each
        for each in _rows(shop, "queries")
        if each["split"] == arguments.split
    ][: arguments.max_queries or None]
    known = {each["sku_id"] for each in _rows(shop, "records")}
    catalogue = [
        (each["product_id"], path)
        for each in _rows(shop, "catalogue")
        for path in each.get("images") or [each["image"]]
    ]
    models = dict(each.split("=", 1) for each in arguments.model)
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(
        f"{len(queries)} queries of {arguments.split}, {len(catalogue)} "
        f"pictures of {len({each for each, _ in catalogue})} products, "
        f"{sum(each['sku_id'] not in known for each in queries)} queries of "
        "SKUs the classifier does not know"
    )

    # === Ranks of the right product ===
    found: dict[str, np.ndarray] = {}
    boxes: dict[str, np.ndarray] = {}
    photos = [(shop / each["image"]).read_bytes() for each in queries]
    products = np.array([each["product_id"] for each in queries])
    product_ids = np.array([each for each, _ in catalogue])
    pictures = [shop / path for _, path in catalogue]
    first = pathlib.Path(next(iter(models.values())))
    ask = _open(first)
    vectors = _catalogue(ask, "embedding", first, pictures, arguments.work)
    asked = _ask_all(ask("embedding"), photos)["embedding"]
    found["classifier, whole picture"] = ranks.of_products(
        _unit(asked), vectors, product_ids, products
    )
    boxes["classifier's heat"], crops = _localized(ask("localization"), photos)
    asked = _ask_all(ask("embedding"), crops)["embedding"]
    found["classifier, its own box"] = ranks.of_products(
        _unit(asked), vectors, product_ids, products
    )
    for name, version in models.items():
        ask = _open(pathlib.Path(version))
        vectors = _catalogue(
            ask, "search", pathlib.Path(version), pictures, arguments.work
        )
        asked = _ask_all(ask("search"), photos)
        found[name] = ranks.of_products(
            asked["embedding"], vectors, product_ids, products
        )
        boxes[name] = asked["box"]
    _report(queries, known, photos, found, boxes, arguments)


def _rows(shop: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(shop.glob(f"{kind}-*.jsonl")):
        rows += map(json.loads, path.read_text("utf-8").splitlines())
    return rows


def _open(version: pathlib.Path) -> Callable[[str], Callable]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    # The signatures live as long as what they were loaded with.
    return lambda name: _Signature(loaded, name)


class _Signature:
    """A signature that keeps its model."""

    def __init__(self, loaded: Any, name: str):
        self._loaded = loaded
        self._call = loaded.signatures[name]

    def __call__(self, images: Any) -> dict[str, Any]:
        return self._call(image_bytes=images)


def _ask_all(signature: Callable, photos: list) -> dict[str, np.ndarray]:
    """All outputs for pictures given as bytes or paths."""
    import tensorflow as tf

    from sicot_tf import progress

    parts = []
    with progress.bar(
        description="pictures", unit="pictures", total=len(photos)
    ) as bar:
        for start in range(0, len(photos), _BATCH):
            batch = [
                each if isinstance(each, bytes) else each.read_bytes()
                for each in photos[start : start + _BATCH]
            ]
            answer = signature(tf.constant(batch))
            parts.append({k: v.numpy() for k, v in answer.items()})
            bar.update(len(batch))
    return {k: np.concatenate([each[k] for each in parts]) for k in parts[0]}


def _catalogue(
    ask: Callable,
    signature: str,
    version: pathlib.Path,
    pictures: list[pathlib.Path],
    work: pathlib.Path,
) -> np.ndarray:
    """Unit vectors of the catalogue, computed once for each model."""
    from sicot_tf.catalogue import product_index

    model = product_index.embedding_model_sha256(version)[:16]
    path = work / f"{signature}-{model}-{len(pictures)}.npy"
    if not path.exists():
        rows = _unit(_ask_all(ask(signature), pictures)["embedding"])
        with files.replacing(path) as temporary:
            with open(temporary, "wb") as file:
                np.save(file, rows)
    return np.load(path)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _localized(
    signature: Callable, photos: list[bytes]
) -> tuple[np.ndarray, list[bytes]]:
    """The recogniser's main boxes in shares, and the squares around them."""
    import io

    import PIL.Image

    from sicot_tf.recognition import settings as recognition_settings
    from sicot_tf.recognition.stages import localization

    heat = _ask_all(signature, photos)["heat_map"]
    settings = recognition_settings.RecognitionSettings()
    boxes, crops = [], []
    for photo, heat_map in zip(photos, heat):
        with PIL.Image.open(io.BytesIO(photo)) as image:
            size = dict(width=image.width, height=image.height)
            box, *_ = localization.find_boxes(
                heat_map, **size, settings=settings
            )
            boxes.append(np.array(box) / np.tile([*size.values()], 2))
            buffer = io.BytesIO()
            square = localization.to_square(box, **size)
            image.convert("RGB").crop(square).save(buffer, "PNG")
            crops.append(buffer.getvalue())
    return np.array(boxes), crops


def _report(
    queries: list[dict[str, Any]],
    known: set[str],
    photos: list[bytes],
    found: dict[str, np.ndarray],
    boxes: dict[str, np.ndarray],
    arguments: argparse.Namespace,
) -> None:
    """Tables by kind of query and whether its SKU was trained on."""
    import io

    import PIL.Image

    kinds = np.array([each["kind"] for each in queries])
    is_known = np.array([each["sku_id"] in known for each in queries])
    skus = np.array([each["sku_id"] for each in queries])
    groups = {"all": kinds == kinds}
    for kind in ("scene", "photo"):
        groups[kind] = kinds == kind
        groups[f"{kind}, known SKU"] = (kinds == kind) & is_known
        groups[f"{kind}, unknown SKU"] = (kinds == kind) & ~is_known
    table: dict[str, Any] = {}
    for group, chosen in groups.items():
        if not chosen.any():
            continue
        print(f"\n{group}: {chosen.sum()} queries")
        table[group] = {"queries": int(chosen.sum())}
        for name, each in found.items():
            row = ranks.measures(each[chosen], skus[chosen])
            table[group][name] = row
            print(f"  {name:28}", ranks.described(row))
        base = found["classifier, its own box"]
        for name in list(found)[2:]:
            gain = ranks.gain(found[name][chosen], base[chosen], skus[chosen])
            table[group][f"{name}, gain"] = gain
            print(
                f"  {name} over the classifier's own box, recall@1: "
                f"{gain[0]:+.1f} ({gain[1]:+.1f} to {gain[2]:+.1f}) points"
            )

    # === Boxes ===
    sizes = np.array(
        [PIL.Image.open(io.BytesIO(photo)).size * 2 for photo in photos]
    )
    right = np.array([each["box"] for each in queries]) / sizes
    print("\nmean intersection over union with the box of the product")
    table["iou"] = {}
    for name, each in boxes.items():
        overlaps = ranks.overlap(each, right)
        row = {
            kind: float(100 * overlaps[kinds == kind].mean())
            for kind in ("scene", "photo")
        }
        table["iou"][name] = row
        print(f"  {name:28} {row['scene']:.1f} scene, {row['photo']:.1f} photo")
    path = arguments.work / f"recall-{arguments.split}.json"
    files.write_json(path, table)
    print(f"\nWritten: {path}")


if __name__ == "__main__":
    main()
