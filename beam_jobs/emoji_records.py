"""Makes raw records of real drawings with the words of real annotators.

    npm packages -> classes, drawings, titles -> long tail -> PNG files
        -> DIR/records.jsonl, DIR/images/, DIR/LICENSES.md

The products are emoji, drawn by ten sets of artists. Train, val and test
hold different artists, so a test picture is a style never seen in training.
"""

import argparse
import collections
import importlib.util
import json
import pathlib
import random
import shutil
import sys
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.readers import emoji_packages
from beam_jobs.readers import emoji_sources

_EXAMPLES = """
examples:
  python -m beam_jobs.emoji_records --output records
  python -m beam_jobs.emoji_records --output records --num_classes 0
  python -m beam_jobs.emoji_records --output records --long_tail none

Node.js 18 or later is needed for npm, and internet on the first run (about
54 MB, 285 MB unpacked). Flags are told apart easily, so they are left out.
"""
# Raise it when the same settings should give other records.
_FORMAT_VERSION = 1
_HEAD_SHARE = 0.17
_TWO_SHARE = 0.33
# What the metrics call a head class.
_MIN_HEAD_DRAWINGS = 5
# The records last: where they are, all that they name is there too.
_RESULTS = (
    "images",
    "LICENSES.md",
    "long_tail.json",
    "build.json",
    "records.jsonl",
)


def build(
    output: pathlib.Path,
    cache: pathlib.Path,
    *,
    num_classes: int = 400,
    image_size: int = 112,
    long_tail: str = "standard",
    include_flags: bool = False,
    seed: int = 0,
) -> pathlib.Path:
    """Writes raw records, their images and their licences.

    Args:
        output: a new folder, or one that an earlier call filled.
        cache: where the npm packages are, or go.
        num_classes: how many classes to choose; 0: all.
        image_size: side of the images in pixels.
        long_tail: `standard` (`assign_long_tail`) or `none`, which keeps
            every training drawing.
        include_flags: takes the 270 flags too.
        seed: of the choice of classes and of the long tail.

    Returns:
        The path of the record file.

    Raises:
        ValueError: if a setting is out of range, or `output` holds something
            else.
        ImportError: if resvg_py is missing.
        OSError: if npm is missing or fails.
    """
    if long_tail not in ("standard", "none"):
        raise ValueError(
            f"Expected long_tail standard or none, received {long_tail!r}."
        )
    if image_size < 16:
        raise ValueError(
            f"Expected an image_size of 16 pixels or more, received "
            f"{image_size}."
        )
    settings = {
        "format_version": _FORMAT_VERSION,
        "num_classes": num_classes,
        "image_size": image_size,
        "long_tail": long_tail,
        "include_flags": include_flags,
        "seed": seed,
        "packages": emoji_packages.PACKAGES,
    }
    records_path = output / "records.jsonl"
    if _is_built(output, settings):
        print(f"{records_path} is already built with these settings.")
        return records_path
    if importlib.util.find_spec("resvg_py") is None:
        raise ImportError(
            "resvg_py, which draws the SVG files, is missing: "
            "pip install 'sicot-tf[demo]'"
        )
    emoji_packages.fetch_packages(cache)

    drawings, records = _read_records(
        cache / "node_modules", num_classes, include_flags, seed
    )
    report: dict[str, Any] = {"long_tail": long_tail, "seed": seed}
    if long_tail == "standard":
        records, groups = _cut_long_tail(records, seed)
        report["num_classes"] = {name: len(groups[name]) for name in groups}
        report["classes"] = groups
    report["num_records"] = collections.Counter(
        record["split"] for record in records
    )

    partial = output / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    emoji_sources.write_images(partial, records, drawings, image_size)
    _write_json(partial / "long_tail.json", report)
    _write_json(partial / "build.json", settings)
    (partial / "LICENSES.md").write_text(
        emoji_packages.licenses_text(records, image_size), "utf-8"
    )
    with (partial / records_path.name).open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    for name in _RESULTS:
        (partial / name).rename(output / name)
    partial.rmdir()
    return records_path


def _is_built(output: pathlib.Path, settings: Mapping[str, Any]) -> bool:
    """Whether the records are there; refuses to write over anything else."""
    there = [name for name in _RESULTS if (output / name).exists()]
    if not there:
        return False
    found = {}
    if "build.json" in there:
        found = json.loads((output / "build.json").read_text("utf-8"))
    if found == settings and there == list(_RESULTS):
        return True
    differing = ", ".join(
        f"{name} {found.get(name)} instead of {value}"
        for name, value in settings.items()
        if found.get(name) != value and name != "packages"
    )
    raise ValueError(
        f"Expected a new folder, or one built with the same settings, but "
        f"{output} has {', '.join(there)} ({differing or 'not complete'}). "
        "Choose another output folder, or delete it."
    )


def _read_records(
    node_modules: pathlib.Path, num_classes: int, include_flags: bool, seed: int
) -> tuple[dict[str, dict[str, emoji_sources.Drawing]], list[dict[str, str]]]:
    """All drawings by source and class; the records of the chosen classes."""
    classes = emoji_sources.read_classes(node_modules)
    if not include_flags:
        classes = {
            sku_id: row
            for sku_id, row in classes.items()
            if not row["category"].startswith("flags/")
        }
    drawings = {
        source: emoji_sources.read_drawings(node_modules, source, classes)
        for source in emoji_packages.SOURCES
    }
    splits = collections.defaultdict(set)
    for source, drawn in drawings.items():
        for sku_id in drawn:
            splits[sku_id].add(emoji_packages.SOURCES[source].split)
    chosen = set(choose_classes(splits, num_classes, seed))
    records = []
    for source, about in emoji_packages.SOURCES.items():
        titles = emoji_sources.read_titles(
            node_modules, source, classes, drawings[source]
        )
        records += [
            {
                "record_id": f"{source}/{sku_id}",
                "image": f"images/{source}/{sku_id}.png",
                "title": titles[sku_id],
                **classes[sku_id],
                "source": source,
                "split": about.split,
                "license": about.license,
            }
            for sku_id in drawings[source]
            if sku_id in chosen
        ]
    return drawings, sorted(records, key=lambda row: row["record_id"])


def choose_classes(
    splits: Mapping[str, Collection[str]], num_classes: int, seed: int
) -> list[str]:
    """Chooses among the classes that can be trained and tested.

    Args:
        splits: for each class the splits that have a drawing of it.
        num_classes: how many; 0: all.
        seed: of the choice.

    Returns:
        Classes with a drawing in train and in test, sorted.

    Raises:
        ValueError: if there are fewer than `num_classes`.
    """
    complete = sorted(
        sku_id
        for sku_id, drawn in splits.items()
        if "train" in drawn and "test" in drawn
    )
    if not 0 <= num_classes <= len(complete):
        raise ValueError(
            f"Expected num_classes from 1 to {len(complete)}, or 0 for all, "
            f"received {num_classes}."
        )
    if num_classes:
        random.Random(seed).shuffle(complete)
        complete = complete[:num_classes]
    return sorted(complete)


def assign_long_tail(
    num_drawings: Mapping[str, int], seed: int
) -> dict[str, list[str]]:
    """Parts classes by how many training drawings they keep.

    In shuffled order, 17 % of the classes, taken from those with at least 5
    drawings, are `head` and keep all; the next 33 % keep `two`, the rest
    `one`.

    Args:
        num_drawings: the training drawings of each class.
        seed: of the shuffle.

    Returns:
        Sorted classes under `head`, `two` and `one`.
    """
    order = sorted(num_drawings)
    random.Random(seed).shuffle(order)
    rich = [id_ for id_ in order if num_drawings[id_] >= _MIN_HEAD_DRAWINGS]
    head = rich[: round(_HEAD_SHARE * len(order))]
    rest = [id_ for id_ in order if id_ not in set(head)]
    num_two = round(_TWO_SHARE * len(order))
    return {
        "head": sorted(head),
        "two": sorted(rest[:num_two]),
        "one": sorted(rest[num_two:]),
    }


def keep_drawings(
    record_ids: Collection[str], limit: int, seed: int
) -> list[str]:
    """Draws at most `limit` records; the same ones whatever their order."""
    record_ids = sorted(record_ids)
    # Seeded by the records too: classes draw apart from each other.
    chance = random.Random(f"{seed}|{'|'.join(record_ids)}")
    return sorted(chance.sample(record_ids, min(limit, len(record_ids))))


def _cut_long_tail(
    records: Sequence[dict[str, str]], seed: int
) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Leaves out training records; the groups as `assign_long_tail`."""
    drawn = collections.defaultdict(list)
    for record in records:
        if record["split"] == "train":
            drawn[record["sku_id"]].append(record["record_id"])
    groups = assign_long_tail({id_: len(drawn[id_]) for id_ in drawn}, seed)
    kept = {id_ for sku_id in groups["head"] for id_ in drawn[sku_id]}
    for name, limit in (("two", 2), ("one", 1)):
        for sku_id in groups[name]:
            kept.update(keep_drawings(drawn[sku_id], limit, seed))
    records = [
        record
        for record in records
        if record["split"] != "train" or record["record_id"] in kept
    ]
    return records, groups


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", "utf-8")


def _print_summary(output: pathlib.Path) -> None:
    """Counts by split and source, head and tail."""
    with (output / "records.jsonl").open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    for split in ("train", "val", "test"):
        sources = collections.Counter(
            record["source"] for record in records if record["split"] == split
        )
        listed = ", ".join(f"{name} {sources[name]}" for name in sources)
        print(f"{split:<6}{sources.total():>6} images  ({listed})")
    num_images = collections.Counter(
        record["sku_id"] for record in records if record["split"] == "train"
    )
    num_head = sum(count >= _MIN_HEAD_DRAWINGS for count in num_images.values())
    print(
        f"{len(num_images)} classes: {num_head} head (at least "
        f"{_MIN_HEAD_DRAWINGS} training images), "
        f"{len(num_images) - num_head} tail"
    )


def main(argv: list[str] | None = None) -> None:
    """`python -m beam_jobs.emoji_records`."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.emoji_records",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        help="folder for records.jsonl and images/",
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        default=400,
        help="classes to choose; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--image_size",
        type=int,
        default=112,
        help="side of the images in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--long_tail",
        choices=("standard", "none"),
        default="standard",
        help="17%% of the classes keep all training images, 33%% two, the "
        "others one; none: all keep all (default: %(default)s)",
    )
    parser.add_argument(
        "--flags",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take the flags too",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of classes and long tail (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        help="where the npm packages go (default: OUTPUT/packages)",
    )
    arguments = parser.parse_args(argv)
    output = arguments.output
    try:
        records_path = build(
            output,
            arguments.cache or output / "packages",
            num_classes=arguments.num_classes,
            image_size=arguments.image_size,
            long_tail=arguments.long_tail,
            include_flags=arguments.flags,
            seed=arguments.seed,
        )
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    _print_summary(output)
    print(f"Records: {records_path} (licences: {output / 'LICENSES.md'})")
    print(
        f"Next: python -m beam_jobs.build_dataset --input {records_path} "
        f"--output {output.parent / 'dataset'}"
    )


if __name__ == "__main__":
    main()
