"""Builds a shop: types and drawings, then shard by shard, then what is told.

    npm packages -> drawings -> WriteShards (Beam) -> DIR

DIR/records-SSSSS-of-NNNNN.jsonl  raw records of single products
    catalogue-, scenes-, queries-, clicks-  the same products elsewhere
    images/ scenes/ queries/      the pictures
    noise_words.txt               words of promotion, one a line
    LICENSES.md                   of the drawings
    contact_sheet.html            what was drawn
    summary.json                  settings and counts
"""

import collections
import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Mapping
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.readers import emoji_packages
from beam_jobs.readers import emoji_sources
from beam_jobs.readers import record_shards
from beam_jobs.shop import appeal
from beam_jobs.shop import catalogue
from beam_jobs.shop import clicks
from beam_jobs.shop import contact_sheet
from beam_jobs.shop import drawings
from beam_jobs.shop import products
from beam_jobs.shop import settings
from beam_jobs.shop import shards
from beam_jobs.shop import titles
from sicot_tf import config
from sicot_tf import files
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening
from sicot_tf.stores import uploads

# Raise it when the same settings are to give another shop than before.
_FORMAT_VERSION = 2
_MIN_SHARD_SKUS = 50
_MAX_SHARDS = 1000
# A drawing takes at most so much of a picture, and more is never kept.
_DRAWING_SHARE = 0.7
_MAX_DRAWING = 320
_GENERATED = (
    "This shop is generated: no such product, brand, price or click exists."
)
# What shapes the bytes of pictures and titles.
_LIBRARIES = ("numpy", "Pillow", "resvg_py")


def build(
    output: locations.Location,
    cache: pathlib.Path,
    shop: settings.ShopConfig,
    pipeline_options: beam_options.PipelineOptions,
    *,
    shard_skus: int = 0,
) -> None:
    """Builds a shop in a new folder, or goes on with a killed build of it.

    Args:
        output: a new folder, or one that an equal call filled.
        cache: where npm packages and rendered drawings are, or go.
        shard_skus: SKUs that a worker takes at a time; 0: 50, and more where
            that gave over 1,000 shards. All but the names of the shards is
            the same with any.

    Raises:
        ValueError: if a setting is out of range, or `output` holds something
            else, or resvg_py is missing.
        OSError: if npm is missing or fails.
    """
    settings.check(shop)
    if shard_skus < 0:
        raise ValueError(
            f"Expected shard_skus of 0 or more, received {shard_skus}."
        )
    shard_skus = shard_skus or max(
        _MIN_SHARD_SKUS, -(-shop.num_skus // _MAX_SHARDS)
    )
    emoji_sources.check_drawing_library()
    identity = {
        "format_version": _FORMAT_VERSION,
        "shop": config.to_dict(shop),
        "shard_skus": shard_skus,
        "packages": emoji_packages.PACKAGES,
        "library_versions": {
            name: importlib.metadata.version(name) for name in _LIBRARIES
        },
    }
    if record_shards.is_written(output, identity):
        return
    emoji_packages.fetch_packages(cache)
    goods, drawn = render(cache, shop)
    with record_shards.writing(output, identity) as (result, work):
        counts = _draw_shards(
            work,
            shards.WriteShardFn(
                goods,
                uploads.for_workers(drawn, work.child("drawings")),
                *(result.location, work.location),
                shard_skus,
            ),
            -(-shop.num_skus // shard_skus),
            _num_pictures(shop),
            pipeline_options,
        )
        _write_reports(result, work, goods, drawn, identity, counts)


def _draw_shards(
    work: folder.Folder,
    write_shard: shards.WriteShardFn,
    num_shards: int,
    num_pictures: int,
    pipeline_options: beam_options.PipelineOptions,
) -> collections.Counter[str]:
    """Writes the shards that are not finished; the counts of all."""
    marks = work.child(shards.COUNTS)
    with progress.watch(
        "Pictures",
        marks,
        "*.json",
        total=num_pictures,
        count=lambda key: {"done": _pictures_in(marks.get_json(key))},
        unit="pictures",
    ):
        _, counts = runners.sum_each(
            pipeline_options,
            list(range(num_shards)),
            shards.WriteShards(write_shard),
            work,
        )
    return collections.Counter(dict(sorted(counts.items())))


def render(
    cache: pathlib.Path, shop: settings.ShopConfig
) -> tuple[products.Products, pathlib.Path]:
    """The products, and the folder of the drawings of their types."""
    types, drawn = drawings.choose_types(cache / "node_modules", shop.seed)
    goods = products.Products(shop, types)
    size = min(_MAX_DRAWING, round(_DRAWING_SHARE * shop.image_size))
    name = files.json_sha256(
        [
            [dataclasses.astuple(each) for each in goods.types],
            [size, emoji_packages.PACKAGES],
            importlib.metadata.version("resvg_py"),
        ]
    )
    folder = (cache / "drawings" / name[:16]).absolute()
    drawings.keep_drawings(folder, goods.types, drawn, size)
    return goods, folder


def _num_pictures(shop: settings.ShopConfig) -> int:
    """Pictures of all kinds."""
    train = sum(
        products.num_train_pictures(shop, rank) for rank in range(shop.num_skus)
    )
    num_new = sum(products.is_new(shop, rank) for rank in range(shop.num_skus))
    held_out = shop.val_pictures + shop.test_pictures
    return (
        train
        + held_out * (shop.num_skus - num_new)
        + shop.catalogue_pictures * shop.num_skus
        + shop.num_scenes
        + shop.num_clicks
    )


def _pictures_in(counts: Mapping[str, int]) -> int:
    kinds = ("train", "val", "test", "catalogue_pictures", "scenes", "queries")
    return sum(counts.get(kind, 0) for kind in kinds)


def _write_reports(
    result: folder.Folder,
    work: folder.Folder,
    goods: products.Products,
    drawn: pathlib.Path,
    identity: Mapping[str, Any],
    counts: Mapping[str, int],
) -> None:
    """All that is not in shards; the summary last."""
    record_shards.write_lines(
        result, work, "noise_words.txt", titles.noise_words()
    )
    result.put("LICENSES.md", _licenses_text(counts).encode())
    with work.scratch() as scratch:
        sheet = scratch / "contact_sheet.html"
        contact_sheet.write(sheet, goods, drawings.Drawings(drawn), counts)
        result.upload(sheet, sheet.name)
    sizes = {"skus": goods.shop.num_skus}
    sizes["head_skus"] = products.num_head(goods.shop)
    result.put_json(
        "summary.json",
        {
            "generated": _GENERATED,
            "settings": identity,
            "counts": sizes
            | {
                name: count
                for name, count in counts.items()
                if not name.startswith("by ")
            },
            "currency": catalogue.CURRENCY,
            "examination": clicks.examination(),
            "appeal": appeal.description(),
            "bots": clicks.bots(goods.shop),
            "types": [dataclasses.asdict(each) for each in goods.types],
        },
    )


def _licenses_text(counts: Mapping[str, int]) -> str:
    """The licences and authors of the drawings, as Markdown."""
    lines = [
        "# Licences of the drawings in these pictures",
        "",
        _GENERATED,
        "The drawings were changed: tinted, turned, and set on labels with "
        "invented badges. Names of types are those of CLDR (emojibase-data "
        f"{emoji_packages.PACKAGES['emojibase-data']}, MIT).",
        "",
        *emoji_packages.license_table(
            {
                name.removeprefix("by "): count
                for name, count in counts.items()
                if name.startswith("by ")
            }
        ),
        "",
        emoji_packages.CREATIVE_COMMONS,
    ]
    return "\n".join(lines) + "\n"


def print_summary(output: locations.Location) -> None:
    """Prints the counts, where things are and what to run next."""
    summary = opening.open_folder(output).get_json("summary.json")
    sheet = locations.join(output, "contact_sheet.html")
    parent = locations.parent(output)
    dataset, index = (locations.join(parent, n) for n in ("dataset", "index"))
    for name, count in summary["counts"].items():
        print(f"{name.replace('_', ' '):20}{count:>12,}")
    shop = summary["settings"]["shop"]
    print(f"\n{_GENERATED}")
    print(f"Look at {sheet} (licences: LICENSES.md).")
    print(
        f"Next: python -m beam_jobs.build_dataset --input "
        f"'{output}/records-*.jsonl' --output {dataset} "
        f"--image_size {shop['image_size']} "
        f"--head_threshold {shop['head_to']}"
    )
    print(
        f"Or:   python -m beam_jobs.build_product_index --input "
        f"'{output}/catalogue-*.jsonl' --output {index}"
    )
