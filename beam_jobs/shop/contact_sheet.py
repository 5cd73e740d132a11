"""The contact sheet: a page that shows what was drawn, and says how it is made.

Everything on it is made anew, by number: no file of the shop is read.
"""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL import ImageDraw

from beam_jobs.shop import catalogue
from beam_jobs.shop import clicks
from beam_jobs.shop import drawings
from beam_jobs.shop import pictures
from beam_jobs.shop import products
from beam_jobs.shop import queries
from beam_jobs.shop import scenes
from beam_jobs.shop import titles
from sicot_tf.pages import page

_TEMPLATE = pathlib.Path(__file__).with_name("contact_sheet.html.jinja")
_NUM_HEAD, _NUM_TAIL = 6, 12
_NUM_SCENES, _NUM_QUERIES, _NUM_CLICKS = 4, 8, 5
_NUM_CATALOGUE = 3
_BOX = (230, 0, 60)


def write(
    path: pathlib.Path,
    goods: products.Products,
    drawn: drawings.Drawings,
    counts: Mapping[str, int],
) -> None:
    """Writes the page.

    Args:
        path: of the HTML file.
        counts: pictures by split, and products.
    """
    shop = goods.shop
    drawer = pictures.Pictures(shop, drawn)
    names = titles.Titles(goods)
    head = products.num_head(shop)
    ranks = [*_spread(0, head, _NUM_HEAD)]
    ranks += _spread(head, shop.num_skus, _NUM_TAIL)
    page.write_page(
        path,
        template=_TEMPLATE,
        title="A generated shop",
        shop=shop,
        num_head=head,
        counts=counts,
        noise_words=set(titles.noise_words()),
        cards=[
            _card(goods, drawer, names, goods.sku_of_rank(rank), rank < head)
            for rank in ranks
        ],
        scenes=[
            _boxed(*scenes.scene(goods, drawer, number), "scene_id")
            for number in range(min(_NUM_SCENES, shop.num_scenes))
        ],
        queries=[
            _boxed(
                *queries.draw(drawer, queries.query(goods, number)), "query_id"
            )
            for number in range(min(_NUM_QUERIES, shop.num_clicks))
        ],
        clicks=[
            _click(goods, number)
            for number in range(min(_NUM_CLICKS, shop.num_clicks))
        ],
        examination=clicks.examination(),
    )


def _spread(first: int, last: int, count: int) -> list[int]:
    """At most `count` numbers from first to before last, evenly."""
    count = min(count, last - first)
    return [first + each * (last - first) // count for each in range(count)]


def _card(
    goods: products.Products,
    drawer: pictures.Pictures,
    names: titles.Titles,
    sku: products.Sku,
    is_head: bool,
) -> dict[str, Any]:
    """An SKU with two pictures of each split, at most, and a title."""
    shop = goods.shop
    sizes = products.num_pictures(shop, sku)
    title, _, told = names.title(sku, "train", 0)
    return {
        "name": goods.name(sku),
        "sku_id": sku.sku_id,
        "head": is_head,
        "train": sizes["train"],
        "words": title.split(),
        "wrong": told != sku,
        "pictures": [
            (f"{split} {number}", drawer.picture(sku, split, number)[0])
            for split, size in sizes.items()
            for number in range(min(2, size))
        ]
        + [
            (f"catalogue {number}", drawer.catalogue_picture(sku, number)[0])
            for number in range(min(_NUM_CATALOGUE, shop.catalogue_pictures))
        ],
    }


def _boxed(jpeg: bytes, row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A scene or a query with its boxes drawn."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.load()
    pen = ImageDraw.Draw(picture)
    for each in row["objects"]:
        x_min, y_min, x_max, y_max = each["box"]
        pen.rectangle((x_min, y_min, x_max - 1, y_max - 1), outline=_BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    sku_ids = ", ".join(each["sku_id"] for each in row["objects"])
    return {
        "picture": file.getvalue(),
        "caption": f"{row[name]}, {row['split']}: {sku_ids}",
    }


def _click(goods: products.Products, number: int) -> list[str]:
    """A page of results as a row of a table."""
    page = clicks.page(goods, number)
    shown = [catalogue.product_id(each) for each in page.shown]
    places = ", ".join(str(place + 1) for place, _ in page.clicks)
    asked = f"{page.query.query_id}: {goods.name(page.query.sku)}"
    return [asked, ", ".join(shown), places or "nothing"]
