"""iMaterialist Product 2019 (FGVC6): its lists, titles and pictures."""

import math
import os
import pathlib
import posixpath
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.readers import record_shards
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import progress
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Raise it when equal input is to give other records than before.
_FORMAT_VERSION = 1
# About 50 MB.
_SHARD_RECORDS = 200_000
_TITLE_FIELDS = ("id", "title")
_LISTS = {"train.json": "train", "val.json": "test"}


def build(
    root: locations.Location,
    output: locations.Location,
    *,
    titles: locations.Location | None = None,
    encoding: str = "utf-8",
    shard_records: int = _SHARD_RECORDS,
) -> None:
    """Writes the records into a new folder.

    About 0.6 kB of memory a record.

    Args:
        root: holds train.json, val.json and, somewhere below, the pictures.
        output: a new folder, or one that an equal call filled.
        titles: the file of titles; None: all titles are empty.
        encoding: of the text of the titles, if JSON Lines or CSV.
        shard_records: how many records a shard has.

    Raises:
        ValueError: if a file is missing or not what it should be, or
            `output` holds something else.
    """
    place = opening.open_folder(root)
    inputs = [(place, name) for name in _LISTS]
    if titles:
        parent = opening.open_folder(locations.parent(titles))
        inputs.append((parent, locations.name(titles)))
    for where, name in inputs:
        if not where.exists(name):
            path = locations.join(where.location, name)
            raise ValueError(f"Expected the file {path}.")
    notes = record_shards.Notes()
    rows = sorted(
        row for name in _LISTS for row in read_list(place, name, notes)
    )
    wanted = {bare_id(image_id) for _, image_id, _ in rows}
    images = find_images(place, wanted)
    settings = {
        "format_version": _FORMAT_VERSION,
        "shard_records": shard_records,
        "root": record_shards.path_from(output, root),
        "inputs": {
            name: record_shards.sha256(where, name) for where, name in inputs
        },
        "encoding": encoding,
        "pictures": record_shards.digest(sorted(images.items())),
    }
    if record_shards.is_written(output, settings):
        return

    title_by_id = read_titles(titles, wanted, notes, encoding) if titles else {}
    num_shards = max(1, math.ceil(len(rows) / shard_records))
    with record_shards.writing(output, settings) as (result, work):
        for shard in range(num_shards):
            shard_rows = rows[shard * shard_records :][:shard_records]
            made = make_records(
                shard_rows, settings["root"], images, title_by_id, notes
            )
            record_shards.write_shard(
                *(result, work, shard, num_shards, made, notes)
            )
        class_names = {sku_id: sku_id for _, _, sku_id in rows}
        record_shards.write_notes(notes, result, settings, class_names)


def bare_id(name: str) -> str:
    """The id of a file name, an image or a title: up to the first dot."""
    return name.partition(".")[0]


def read_list(
    place: folder.Folder, name: str, notes: record_shards.Notes
) -> Iterator[tuple[str, str, str]]:
    """Name of the list, id and class of each image of train.json, val.json.

    Raises:
        ValueError: if the file does not hold a list of images.
    """
    content = place.get_json(name)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        path = locations.join(place.location, name)
        raise ValueError(
            f'Expected {{"images": [{{"id": ..., "class": ...}}]}} in '
            f"{path}, received {content!r:.100}."
        )
    for number, image in enumerate(images):
        notes.counts[name, "images"] += 1
        row = image if isinstance(image, dict) else {}
        image_id, label = row.get("id"), row.get("class")
        if isinstance(image_id, str) and image_id and type(label) is int:
            yield name, image_id, str(label)
        else:
            notes.add_problem(
                "bad_image", list=name, number=number, image=image
            )


def find_images(place: folder.Folder, wanted: set[str]) -> dict[str, str]:
    """Paths below the root by id: flat, in folders by hash or by class.

    Of several files of one id the first is taken.

    Args:
        wanted: the ids looked for.
    """
    images: dict[str, str] = {}
    with progress.bar(description="Pictures", unit="files") as bar:
        for key in _keys(place):
            image_id = bare_id(posixpath.basename(key))
            if image_id in wanted:
                images.setdefault(image_id, key)
            bar.update()
    return images


def _keys(place: folder.Folder) -> Iterator[str]:
    """All files, those of a folder before those of the folders within."""
    if locations.is_remote(place.location):
        keys = (entry.key for entry in place.list())
        yield from sorted(keys, key=_order)
        return
    # Folders of pictures may be links, and need no look at each file.
    for inside, subfolders, names in os.walk(place.location, followlinks=True):
        subfolders.sort()
        below = pathlib.Path(inside).relative_to(place.location).as_posix()
        for name in sorted(names):
            yield posixpath.normpath(posixpath.join(below, name))


def _order(key: str) -> list[tuple[bool, str]]:
    *folders, name = key.split("/")
    return [*((True, each) for each in folders), (False, name)]


def read_titles(
    path: locations.Location,
    wanted: set[str],
    notes: record_shards.Notes,
    encoding: str = "utf-8",
) -> dict[str, str]:
    """Titles by id, the first of each.

    Args:
        wanted: the ids whose titles are kept.

    Raises:
        ValueError: if the file has none of them.
    """
    title_by_id: dict[str, str] = {}
    counts = {name: 0 for name in ("read", "without_record", "second_of_id")}
    found = record_files.RecordFile(str(path), locations.name(path))
    record_files.check_encodings([found], encoding, _TITLE_FIELDS, "title file")
    with (
        record_files.naming(found.path, "title file"),
        record_files.open_file(found.path) as file,
    ):
        rows = raw_records.read_rows(
            file,
            found.name,
            encoding=encoding,
            fields=_TITLE_FIELDS,
            needed=_TITLE_FIELDS,
        )
        for line, row, content in progress.bar(rows, "Titles", "titles"):
            counts["read"] += 1
            fields = row if isinstance(row, dict) else {}
            image_id, title = fields.get("id"), fields.get("title")
            if "title" in fields and title is None:
                title = ""
            if not isinstance(image_id, str) or not isinstance(title, str):
                notes.add_problem("bad_title", line=line, text=content[:500])
            elif bare_id(image_id) not in wanted:
                counts["without_record"] += 1
            elif bare_id(image_id) in title_by_id:
                counts["second_of_id"] += 1
            else:
                title_by_id[bare_id(image_id)] = title
    if not title_by_id:
        raise ValueError(
            f"Expected fields id and title in {path}, with ids as in "
            "train.json and val.json; received none of these."
        )
    for name, count in counts.items():
        notes.counts["titles", name] = count
    return title_by_id


def make_records(
    rows: Sequence[tuple[str, str, str]],
    root: str,
    images: Mapping[str, str],
    title_by_id: Mapping[str, str],
    notes: record_shards.Notes,
) -> Iterator[dict[str, Any]]:
    """The records of rows of `read_list`, in their order.

    A picture without a file stays: `build_dataset` rejects it as
    `missing_image`.
    """
    for name, image_id, sku_id in rows:
        bare = bare_id(image_id)
        title = title_by_id.get(bare, "")
        notes.counts[name, "pictures_not_there"] += bare not in images
        notes.counts[name, "records_without_title"] += not title.strip()
        yield {
            "record_id": f"{name.removesuffix('.json')}/{bare}",
            "image": posixpath.join(root, images.get(bare, image_id)),
            "sku_id": sku_id,
            "title": title,
            "split": _LISTS[name],
            "source": "imaterialist",
        }
