"""A catalogue full of HTML, and what the service tells of it."""

import contextlib
import json
import pathlib
import sqlite3

import httpx

from benchmarks.soak.recognition.exchange import World
from sicot_tf.catalogue import product_index
from sicot_tf.recognition import answers
from tests.helpers import html_pages
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

_NUM_PHOTOS = 8


def write_catalogue(root: pathlib.Path) -> pathlib.Path:
    """The tests' index, with HTML in every text that a merchant writes."""
    index = tiny_recognizer.write_index(root)
    attack = html_pages.ATTACK
    attributes = {attack: attack, "price": attack, "link": "javascript:x"}
    [store] = index.glob(f"*/{product_index.STORE}")
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(
            "UPDATE products SET title = ?, tags = ?, attributes = ?",
            (attack, json.dumps([attack, "\0"]), json.dumps(attributes)),
        )
        connection.execute(
            "UPDATE products SET category = ? WHERE sku_id = 'sku-d'",
            (attack,),
        )
    return index


def ask(url: str) -> World:
    """Photos, SKUs and the pictures' URLs of a service that runs."""
    sku_ids = sorted({sku_id for _, sku_id, _ in tiny_recognizer.PRODUCTS})
    pictures = []
    with httpx.Client(base_url=url, timeout=120) as http:
        for sku_id in sku_ids:
            products = http.get(f"/v1/products/{sku_id}").json()["products"]
            for each in products:
                found = answers.Product.model_validate(each)
                # Those in other folders are not there.
                pictures += [
                    url
                    for url in found.pictures
                    if url.startswith("/") and http.get(url).status_code == 200
                ]
        photos = [tiny_server.make_jpeg(seed) for seed in range(_NUM_PHOTOS)]
        found = [http.post("/v1/search", content=each) for each in photos]
    return World(
        photos=photos,
        queries=[each.json()["search"]["query"] for each in found],
        sku_ids=sku_ids,
        pictures=pictures,
    )
