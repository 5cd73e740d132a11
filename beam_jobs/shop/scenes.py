"""Scenes: one to four products in a picture, each in a box that is known."""

from typing import Any

from beam_jobs.shop import chance
from beam_jobs.shop import pictures
from beam_jobs.shop import products

_MAX_PRODUCTS = 4
_TRAIN_SHARE, _VAL_SHARE = 0.8, 0.1


def split_of(share: float) -> str:
    """The split of a random number below 1: 80, 10 and 10 %."""
    if share < _TRAIN_SHARE:
        return "train"
    return "val" if share < _TRAIN_SHARE + _VAL_SHARE else "test"


def scene(
    goods: products.Products, drawer: pictures.Pictures, number: int
) -> tuple[bytes, dict[str, Any]]:
    """A scene; the artists are those of its split.

    Returns:
        A JPEG, and its record without the path of the picture: `scene_id`,
        `split`, `source`, and `objects`, each with an `sku_id` and a `box`
        (x_min, y_min, x_max, y_max in pixels).
    """
    shop = goods.shop
    rng = chance.generator(shop.seed, "scene", number)
    split = split_of(rng.random())
    count = int(rng.integers(1, _MAX_PRODUCTS + 1))
    skus = [
        goods.sku(int(each)) for each in rng.integers(shop.num_skus, size=count)
    ]
    jpeg, artists, boxes = drawer.scene(skus, split, number)
    return jpeg, {
        "scene_id": f"scene/{number:06d}",
        "split": split,
        "objects": [
            {"sku_id": sku.sku_id, "box": box, "source": artist}
            for sku, box, artist in zip(skus, boxes, artists, strict=True)
        ],
        "generated": True,
    }
