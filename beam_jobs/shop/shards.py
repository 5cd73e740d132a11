"""Beam transform of `shop_records`: a range of SKUs to its files.

number of a shard -> pictures
    -> records-, catalogue-, scenes-, queries-, clicks-
    -> WORK/counts/SSSSS.json, which appears last and marks it as finished
    -> what it counts
"""

import collections
import concurrent.futures
import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_jobs.readers import emoji_packages
from beam_jobs.readers import record_shards
from beam_jobs.shop import catalogue
from beam_jobs.shop import clicks
from beam_jobs.shop import drawings
from beam_jobs.shop import pictures
from beam_jobs.shop import products
from beam_jobs.shop import queries
from beam_jobs.shop import scenes
from beam_jobs.shop import titles
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

SOURCE = "generated shop"
# In the work folder.
COUNTS = "counts"
# Folders stay small enough to be listed; paths do not depend on the shards.
_FOLDER_SKUS = 100
_FOLDER_SCENES = 1000
# Pictures that are written at once; those that wait for it.
_NUM_THREADS = 16
_MAX_SAVED = 256


def picture_path(sku: products.Sku, name: str) -> str:
    """Where the picture `test-3`, or `catalogue`, of an SKU is."""
    folder = f"{sku.number // _FOLDER_SKUS:05d}"
    return f"images/{folder}/{sku.sku_id}-{name}.jpg"


def query_path(number: int) -> str:
    """Where the picture of a query is."""
    return f"queries/{number // _FOLDER_SCENES:05d}/query-{number:07d}.jpg"


class WriteShardFn(beam.DoFn):
    """Writes a shard that is not there yet; yields what it counts.

    Args:
        goods: the products.
        drawn: the folder of `drawings.keep_drawings`.
        shop: the folder where the files go.
        work: that of the marks of finished shards, `COUNTS`.
        shard_skus: SKUs of a shard.
    """

    def __init__(
        self,
        goods: products.Products,
        drawn: locations.Location,
        shop: locations.Location,
        work: locations.Location,
        shard_skus: int,
    ):
        self._goods = goods
        self._drawn = drawn
        self._locations = shop, work
        self._shard_skus = shard_skus
        self._num_shards = -(-goods.shop.num_skus // shard_skus)

    def setup(self) -> None:
        """Opens the drawings."""
        self._folder, self._work = map(opening.open_folder, self._locations)
        drawn = opening.open_folder(self._drawn)
        self._open = contextlib.ExitStack()
        copies = self._open.enter_context(tempfile.TemporaryDirectory())
        self._titles = titles.Titles(self._goods)
        self._pictures = pictures.Pictures(
            self._goods.shop,
            drawings.Drawings(
                local_copies.at_hand(drawn, pathlib.Path(copies))
            ),
        )
        # Of pictures that are on their way to the disk or the store.
        self._threads = self._open.enter_context(
            concurrent.futures.ThreadPoolExecutor(_NUM_THREADS)
        )

    def teardown(self) -> None:
        """Removes what was copied."""
        self._open.close()

    def process(self, shard: int) -> Iterator[dict[str, int]]:
        mark = f"{COUNTS}/{shard:05d}.json"
        if self._work.exists(mark):
            yield self._work.get_json(mark)
            return
        self._saved: collections.deque[concurrent.futures.Future[None]] = (
            collections.deque()
        )
        counts = collections.Counter()
        self._write(
            "records",
            shard,
            (
                record
                for sku in self._skus(shard)
                for record in self._records(sku, counts)
            ),
        )
        self._write(
            "catalogue",
            shard,
            (self._product(sku, counts) for sku in self._skus(shard)),
        )
        shop = self._goods.shop
        self._write(
            "scenes",
            shard,
            (
                self._scene(number, counts)
                for number in self._range(shard, shop.num_scenes)
            ),
        )
        self._write(
            "queries",
            shard,
            (
                self._query(number, counts)
                for number in self._range(shard, shop.num_clicks)
            ),
        )
        self._write(
            "clicks",
            shard,
            (
                row
                for number in self._range(shard, shop.num_clicks)
                for row in self._page(number, counts)
            ),
        )
        self._wait(0)
        self._work.put_json(mark, counts)
        yield dict(counts)

    def _write(self, kind: str, shard: int, rows: Iterator[Any]) -> None:
        name = f"{kind}-{shard:05d}-of-{self._num_shards:05d}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        record_shards.write_lines(self._folder, self._work, name, lines)

    def _range(self, shard: int, total: int) -> range:
        """The part of `total` that falls to a shard."""
        first, last = (
            each * total // self._num_shards for each in (shard, shard + 1)
        )
        return range(first, last)

    def _skus(self, shard: int) -> Iterator[products.Sku]:
        first = shard * self._shard_skus
        last = min(first + self._shard_skus, self._goods.shop.num_skus)
        return (self._goods.sku(number) for number in range(first, last))

    def _records(
        self, sku: products.Sku, counts: collections.Counter[str]
    ) -> Iterator[dict[str, Any]]:
        """Draws the pictures of an SKU; their raw records."""
        name = self._goods.name(sku)
        category = self._goods.types[sku.type].category
        sizes = products.num_pictures(self._goods.shop, sku)
        for split, size in sizes.items():
            for picture in range(size):
                jpeg, artist = self._pictures.picture(sku, split, picture)
                title, language, told = self._titles.title(sku, split, picture)
                path = picture_path(sku, f"{split}-{picture}")
                self._save(path, jpeg)
                counts[split] += 1
                counts[f"by {artist}"] += 1
                counts["wrong_titles"] += told != sku
                yield {
                    "record_id": f"{sku.sku_id}/{split}-{picture}",
                    "image": path,
                    "sku_id": sku.sku_id,
                    "sku_name": name,
                    "title": title,
                    # Of another product if the title is wrong.
                    "title_sku_id": told.sku_id,
                    "lang": language,
                    "category": category,
                    "split": split,
                    "source": f"{SOURCE}/{artist}",
                    "license": emoji_packages.SOURCES[artist].license,
                }

    def _product(
        self, sku: products.Sku, counts: collections.Counter[str]
    ) -> dict[str, Any]:
        paths = []
        for number in range(self._goods.shop.catalogue_pictures):
            jpeg, artist = self._pictures.catalogue_picture(sku, number)
            name = f"catalogue-{number}" if number else "catalogue"
            paths.append(picture_path(sku, name))
            self._save(paths[-1], jpeg)
            counts["catalogue_pictures"] += 1
            counts[f"by {artist}"] += 1
        counts["products"] += 1
        counts["new_skus"] += products.is_new(self._goods.shop, sku.rank)
        return catalogue.record(self._goods, self._titles, sku, paths)

    def _scene(
        self, number: int, counts: collections.Counter[str]
    ) -> dict[str, Any]:
        jpeg, row = scenes.scene(self._goods, self._pictures, number)
        path = f"scenes/{number // _FOLDER_SCENES:05d}/scene-{number:06d}.jpg"
        self._save(path, jpeg)
        counts["scenes"] += 1
        for artist in {each["source"] for each in row["objects"]}:
            counts[f"by {artist}"] += 1
        return {**row, "image": path}

    def _query(
        self, number: int, counts: collections.Counter[str]
    ) -> dict[str, Any]:
        asked = queries.query(self._goods, number)
        jpeg, row = queries.draw(self._pictures, asked)
        path = query_path(number)
        self._save(path, jpeg)
        counts["queries"] += 1
        for artist in {each["source"] for each in row["objects"]}:
            counts[f"by {artist}"] += 1
        return {**row, "image": path}

    def _page(
        self, number: int, counts: collections.Counter[str]
    ) -> list[dict[str, Any]]:
        """The rows of a page of results."""
        page = clicks.page(self._goods, number)
        counts["clicks"] += len(page.clicks)
        counts["pages_without_click"] += not page.clicks
        counts["double_clicks"] += page.num_double
        counts["bot_pages"] += page.is_bot
        counts["bot_clicks"] += page.is_bot * len(page.clicks)
        return clicks.rows(page, query_path(number))

    def _save(self, path: str, jpeg: bytes) -> None:
        self._wait(_MAX_SAVED)
        save = self._threads.submit(self._folder.put, path, jpeg)
        self._saved.append(save)

    def _wait(self, num_left: int) -> None:
        """Raises what went wrong with a picture."""
        while len(self._saved) > num_left:
            self._saved.popleft().result()


@beam.typehints.with_input_types(int)
@beam.typehints.with_output_types(dict[str, int])
class WriteShards(beam.PTransform):
    """Numbers of shards to their files and counts; finished ones stay."""

    def __init__(self, write_shard: WriteShardFn):
        super().__init__()
        self._write_shard = write_shard

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | "WriteShard" >> beam.ParDo(self._write_shard)
