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
import contextlib
import dataclasses
import importlib.metadata
import os
import pathlib
import shutil
from collections.abc import Iterator
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
from sicot_tf.data import generations
from sicot_tf.stores import local_folder

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
    output: pathlib.Path,
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
    with _going_on(output, identity) as work:
        counts = _draw_shards(
            work,
            shards.WriteShardFn(
                goods, drawn, work / "shop", work / "counts", shard_skus
            ),
            -(-shop.num_skus // shard_skus),
            _num_pictures(shop),
            pipeline_options,
        )
        _write_reports(work / "shop", goods, drawn, identity, counts)


def _draw_shards(
    work: pathlib.Path,
    write_shard: shards.WriteShardFn,
    num_shards: int,
    num_pictures: int,
    pipeline_options: beam_options.PipelineOptions,
) -> collections.Counter[str]:
    """Writes the shards that are not finished; the counts of all."""
    folder = work / "counts"
    with progress.watch(
        "Pictures",
        local_folder.LocalFolder(folder),
        "*.json",
        total=num_pictures,
        count=lambda key: {"done": _pictures_in(files.read_json(folder / key))},
        unit="pictures",
    ):
        runners.run_each(
            pipeline_options,
            [
                shard
                for shard in range(num_shards)
                if not (folder / f"{shard:05d}.json").exists()
            ],
            shards.WriteShards(write_shard),
        )
    counts = collections.Counter()
    for path in sorted(folder.glob("*.json")):
        counts.update(files.read_json(path))
    return counts


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


@contextlib.contextmanager
def _going_on(
    output: pathlib.Path, identity: Mapping[str, Any]
) -> Iterator[pathlib.Path]:
    """A hidden folder whose `shop` becomes `output` when all is written.

    What a killed command with the same settings wrote is still there.
    """
    output = pathlib.Path(os.path.realpath(output))
    with generations.work_folder(output.parent, output.name) as work:
        begun = work / "settings.json"
        if not begun.exists() or files.read_json(begun) != identity:
            shutil.rmtree(work)
            for name in ("shop", "counts"):
                (work / name).mkdir(parents=True)
            files.write_json(begun, identity)
        # A kill may have left a file that was not renamed yet.
        for path in (work / "shop").glob(".*.tmp"):
            path.unlink()
        yield work
        files.rename_folder(work / "shop", output)


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
    folder: pathlib.Path,
    goods: products.Products,
    drawn: pathlib.Path,
    identity: Mapping[str, Any],
    counts: Mapping[str, int],
) -> None:
    """All that is not in shards; the summary last."""
    files.write_lines(folder / "noise_words.txt", titles.noise_words())
    files.write_text(folder / "LICENSES.md", _licenses_text(counts))
    contact_sheet.write(
        folder / "contact_sheet.html", goods, drawings.Drawings(drawn), counts
    )
    sizes = {"skus": goods.shop.num_skus}
    sizes["head_skus"] = products.num_head(goods.shop)
    files.write_json(
        folder / "summary.json",
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


def print_summary(output: pathlib.Path) -> None:
    """Prints the counts, where things are and what to run next."""
    summary = files.read_json(output / "summary.json")
    for name, count in summary["counts"].items():
        print(f"{name.replace('_', ' '):20}{count:>12,}")
    shop = summary["settings"]["shop"]
    print(f"\n{_GENERATED}")
    print(f"Look at {output / 'contact_sheet.html'} (licences: LICENSES.md).")
    print(
        f"Next: python -m beam_jobs.build_dataset --input "
        f"'{output}/records-*.jsonl' --output {output.parent / 'dataset'} "
        f"--image_size {shop['image_size']} "
        f"--head_threshold {shop['head_to']}"
    )
    print(
        f"Or:   python -m beam_jobs.build_product_index --input "
        f"'{output}/catalogue-*.jsonl' --output {output.parent / 'index'}"
    )
