"""Raw records of emoji: drawings with words of annotators."""

import collections
import concurrent.futures
import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from beam_jobs.readers import emoji_long_tail
from beam_jobs.readers import emoji_packages
from beam_jobs.readers import emoji_sources
from sicot_tf import files
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_log = logging.getLogger(__name__)

# Raise it when the same settings should give other records.
_FORMAT_VERSION = 1
_SETTINGS, _RECORDS = "build.json", "records.jsonl"
# The settings come first, so that a killed command is known again. The records
# come last: once they are there, so is all that they name.
_RESULTS = (_SETTINGS, "images", "LICENSES.md", "long_tail.json", _RECORDS)
_NUM_THREADS = 16


def build(
    output: locations.Location,
    cache: pathlib.Path,
    *,
    num_classes: int = 400,
    image_size: int = 112,
    long_tail: str = "standard",
    include_flags: bool = False,
    seed: int = 0,
) -> locations.Location:
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
        Where the record file is.

    Raises:
        ValueError: if a setting is out of range, `output` holds something
            else or another process is at it, or resvg_py is missing.
        OSError: if npm is missing or fails.
    """
    _check_settings(long_tail, image_size)
    settings = {
        "format_version": _FORMAT_VERSION,
        "num_classes": num_classes,
        "image_size": image_size,
        "long_tail": long_tail,
        "include_flags": include_flags,
        "seed": seed,
        "packages": emoji_packages.PACKAGES,
    }
    records_path = locations.join(output, _RECORDS)
    if _is_built(output, settings):
        _log.info("%s is already built with these settings", records_path)
        return records_path
    emoji_sources.check_drawing_library()
    emoji_packages.fetch_packages(cache)

    drawings, records = _read_records(
        cache / "node_modules", num_classes, include_flags, seed
    )
    records, report = _keep(records, long_tail, seed)
    with publishing.only_builder(output):
        _write(output, records, drawings, image_size, report, settings)
    return records_path


def _check_settings(long_tail: str, image_size: int) -> None:
    if long_tail not in ("standard", "none"):
        raise ValueError(
            f"Expected long_tail standard or none, received {long_tail!r}."
        )
    if image_size < 16:
        raise ValueError(
            f"Expected an image_size of 16 pixels or more, received "
            f"{image_size}."
        )


def _keep(
    records: list[dict[str, str]], long_tail: str, seed: int
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The records of the long tail, and what is told of it."""
    report: dict[str, Any] = {"long_tail": long_tail, "seed": seed}
    if long_tail == "standard":
        records, groups = emoji_long_tail.cut_long_tail(records, seed)
        report["num_classes"] = {name: len(groups[name]) for name in groups}
        report["classes"] = groups
    report["num_records"] = collections.Counter(
        record["split"] for record in records
    )
    return records, report


def _write(
    output: locations.Location,
    records: list[dict[str, str]],
    drawings: Mapping[str, Mapping[str, emoji_sources.Drawing]],
    image_size: int,
    report: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Writes all into a folder of this machine, then moves it to its place."""
    place = opening.open_folder(output)
    with place.scratch() as made:
        emoji_sources.write_images(made, records, drawings, image_size)
        _write_json(made / "long_tail.json", report)
        (made / "LICENSES.md").write_text(
            emoji_packages.licenses_text(records, image_size), "utf-8"
        )
        lines = (json.dumps(each, ensure_ascii=False) for each in records)
        files.write_lines(made / _RECORDS, lines)
        _write_json(made / _SETTINGS, settings)
        place.upload(made / _SETTINGS, _SETTINGS)
        paths = [path for path in sorted(made.rglob("*")) if path.is_file()]
        with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as threads:
            uploads = [
                threads.submit(
                    place.upload, path, path.relative_to(made).as_posix()
                )
                for path in paths
                if path.name not in (_SETTINGS, _RECORDS)
            ]
            for upload in uploads:
                upload.result()
        place.upload(made / _RECORDS, _RECORDS)


def _is_built(output: locations.Location, settings: Mapping[str, Any]) -> bool:
    """Whether the records are there; refuses to write over anything else."""
    place = opening.open_folder(output)
    there = [
        name
        for name in _RESULTS
        if place.exists(name) or any(place.list(f"{name}/"))
    ]
    if not there:
        return False
    found = place.get_json(_SETTINGS) if _SETTINGS in there else {}
    if found == settings:
        # Or else a command was killed: what it wrote is written again.
        return _RECORDS in there
    differing = ", ".join(
        f"{name} {found.get(name)} instead of {value}"
        for name, value in settings.items()
        if found.get(name) != value and name != "packages"
    )
    raise ValueError(
        f"Expected a new folder, or one built with the same settings, but "
        f"{output} has {', '.join(there)} ({differing}). Choose another output "
        "folder, or delete it."
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
    chosen = set(emoji_long_tail.choose_classes(splits, num_classes, seed))
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


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", "utf-8")


def print_summary(output: locations.Location) -> None:
    """Counts by split and source, head and tail."""
    with opening.open_folder(output).open(_RECORDS) as file:
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
    num_head = sum(
        count >= emoji_long_tail.MIN_HEAD_DRAWINGS
        for count in num_images.values()
    )
    print(
        f"{len(num_images)} classes: {num_head} head (at least "
        f"{emoji_long_tail.MIN_HEAD_DRAWINGS} training images), "
        f"{len(num_images) - num_head} tail"
    )
