"""The files of WebVision: lists of pictures, classes, titles.

`train_filelist_google.txt` lists pictures with their labels, line by line
with `train_meta_list_google.txt`, which names a JSON file and a row in it.
"""

import dataclasses
import io
import itertools
import json
import posixpath
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.readers import record_shards
from sicot_tf import files
from sicot_tf import progress
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

SOURCES = ("google", "flickr")
TEXT_FIELDS = ("title", "description", "tags")

# Some pictures may be missing.
_NUM_LOOKED_FOR = 100

# Row in the JSON file (from 1), path as listed, label (from 0).
Picture = tuple[int, str, int]


@dataclasses.dataclass(frozen=True)
class ImageList:
    """A list of pictures and the folders they, and their metadata, are in.

    All are keys in the folder `root`. The list `val` has neither `meta_list`
    nor `metadata`.
    """

    root: locations.Location
    name: str
    filelist: str
    images: str
    meta_list: str | None = None
    metadata: str | None = None


def find_lists(
    root: locations.Location, sources: Sequence[str] = SOURCES
) -> list[ImageList]:
    """Finds the lists of the sources and of val, however they were unpacked.

    Raises:
        ValueError: if a list, pictures or metadata are not there.
    """
    place = opening.open_folder(root)
    lists = []
    for source in sources:
        filelist = find_file(place, f"train_filelist_{source}.txt")
        images = _find_folder(
            *(place, f"pictures of {source}", filelist, source),
            [f"train_images_256/{source}", f"{source}_images_resized", source],
        )
        meta_list = find_file(place, f"train_meta_list_{source}.txt")
        metadata = _find_folder(
            *(place, f"JSON files of {source}", meta_list, source),
            [f"meta/{source}", f"{source}_json", source, images],
        )
        lists.append(
            ImageList(root, source, filelist, images, meta_list, metadata)
        )
    filelist = find_file(place, "val_filelist.txt")
    images = _find_folder(
        *(place, "validation pictures", filelist, "val"),
        ["val_images_resized", "val_images_256", "val"],
    )
    return [*lists, ImageList(root, "val", filelist, images)]


def _find_folder(
    place: folder.Folder,
    what: str,
    filelist: str,
    name: str,
    folders: Sequence[str],
) -> str:
    """The folder that has one of the files that come first in a list.

    A folder of millions of files is not looked through.
    """
    lines = itertools.islice(read_lines(place, filelist), _NUM_LOOKED_FOR)
    listed = dict.fromkeys(
        below(line.rsplit(maxsplit=1)[0], name) for _, line in lines
    )
    for path in listed:
        for each in folders:
            if place.exists(f"{each}/{path}"):
                return each
    wanted = (str(locations.join(place.location, each)) for each in folders)
    raise ValueError(
        f"Expected {what} in one of {', '.join(wanted)}; found none of the "
        f"first {len(listed)} that {filelist} names. Unpack the archives there."
    )


def below(path: str, name: str) -> str:
    """`q00001/1.jpg` of `google/q00001/1.jpg`."""
    return path.removeprefix(f"{name}/")


def find_file(place: folder.Folder, name: str) -> str:
    """Key of a file of info.tar; some lists are also served beside it.

    Raises:
        ValueError: if it is not there.
    """
    for key in (f"info/{name}", name):
        if place.exists(key):
            return key
    path = locations.join(place.location, "info", name)
    raise ValueError(f"Expected {path}. Unpack info.tar there.")


def read_lines(place: folder.Folder, key: str) -> Iterator[tuple[int, str]]:
    """Numbers (from 1) and texts of the lines that are not blank."""
    with (
        place.open(key) as stream,
        io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape") as file,
    ):
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.strip()


def parse_line(line: str) -> tuple[str, int]:
    """A path and the number behind it.

    Raises:
        ValueError: if the line has no number.
    """
    path, number = line.rsplit(maxsplit=1)
    return path, int(number)


def check_list(image_list: ImageList, num_labels: int) -> int:
    """Reads a list through; returns its number of lines.

    Raises:
        ValueError: if the meta list is not as long, or for a label that
            synsets.txt does not have.
    """
    place = opening.open_folder(image_list.root)
    num_lines = 0
    for number, line in progress.bar(
        read_lines(place, image_list.filelist), image_list.name, "lines"
    ):
        num_lines += 1
        try:
            _, label = parse_line(line)
        except ValueError:
            continue  # Noted when the records are made.
        if not 0 <= label < num_labels:
            raise ValueError(
                f"{image_list.filelist}, line {number}: expected a label from "
                f"0 to {num_labels - 1}, as synsets.txt has them, received "
                f"{label}. Take the files of one version of WebVision."
            )
    if image_list.meta_list:
        num_meta_lines = sum(1 for _ in read_lines(place, image_list.meta_list))
        if num_meta_lines != num_lines:
            raise ValueError(
                f"Expected as many lines in {image_list.meta_list} as in "
                f"{image_list.filelist} ({num_lines:,}), received "
                f"{num_meta_lines:,}. Unpack info.tar again."
            )
    return num_lines


def read_synsets(place: folder.Folder, key: str) -> list[tuple[str, str]]:
    """WordNet id and words of each label: `n01440764 tench, Tinca tinca`."""
    rows = [line.partition(" ") for _, line in read_lines(place, key)]
    return [(wordnet_id, words or wordnet_id) for wordnet_id, _, words in rows]


def choose_classes(
    wordnet_ids: Collection[str], num_classes: int, seed: int
) -> list[str]:
    """Chooses classes by a hash of seed and id: fewer are a part of more.

    Args:
        num_classes: how many; 0: all.

    Returns:
        The chosen ids, sorted.

    Raises:
        ValueError: if there are fewer than `num_classes`.
    """
    wordnet_ids = sorted(set(wordnet_ids))
    if not 0 <= num_classes <= len(wordnet_ids):
        raise ValueError(
            f"Expected num_classes from 1 to {len(wordnet_ids)}, or 0 for "
            f"all, received {num_classes}."
        )
    order = sorted(wordnet_ids, key=lambda each: files.stable_hash(seed, each))
    return sorted(order[: num_classes or None])


def read_class_list(
    path: locations.Location, wordnet_ids: Collection[str]
) -> list[str]:
    """The ids that start the lines of a file, sorted.

    Raises:
        ValueError: if there is none, or one that `wordnet_ids` lacks.
    """
    place = opening.open_folder(locations.parent(path))
    lines = read_lines(place, locations.name(path))
    chosen = {line.split()[0] for _, line in lines}
    unknown = sorted(chosen.difference(wordnet_ids))
    if unknown or not chosen:
        raise ValueError(
            f"Expected lines that start with a WordNet id of synsets.txt in "
            f"{path}, received {unknown[:10] or 'none'}."
        )
    return sorted(chosen)


def digest_metadata(image_list: ImageList) -> str:
    """A digest of the names and sizes of the JSON files of a list."""
    place = opening.open_folder(image_list.root).child(image_list.metadata)
    return record_shards.digest(
        sorted(
            (entry.key, entry.num_bytes)
            for entry in place.list(is_deep=False)
            if entry.key.endswith(".json")
        )
    )


def read_metadata(image_list: ImageList, json_file: str) -> list[Any]:
    """What a JSON file tells of the pictures of one query.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is not a list in JSON.
    """
    place = opening.open_folder(image_list.root)
    key = f"{image_list.metadata}/{below(json_file, image_list.name)}"
    # A stray byte of another encoding stays inside its own title.
    text = place.get(key).decode("utf-8-sig", "surrogateescape")
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError(f"Expected a list in {key}.")
    return entries


def match_metadata(
    pictures: Sequence[Picture], entries: Sequence[Any]
) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """Finds the metadata of pictures: by id, the file's stem, else by row.

    An entry that has the id of another picture is not taken by its row.

    Args:
        pictures: pictures of one JSON file.
        entries: what the file holds.

    Yields:
        For each picture its entry or None, and how it was found: `by_id`,
        `by_id_in_other_row`, `by_row` or `missing`.
    """
    by_id: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, dict) and entry.get("id") not in (None, ""):
            by_id.setdefault(str(entry["id"]), entry)
    stems = [
        posixpath.splitext(posixpath.basename(path))[0]
        for _, path, _ in pictures
    ]
    listed = set(stems)
    for (row, _, _), stem in zip(pictures, stems, strict=True):
        at_row = entries[row - 1] if 1 <= row <= len(entries) else None
        if stem in by_id:
            same = by_id[stem] is at_row
            yield by_id[stem], "by_id" if same else "by_id_in_other_row"
        elif isinstance(at_row, dict) and str(at_row.get("id")) not in listed:
            yield at_row, "by_row"
        else:
            yield None, "missing"


def join_text(entry: Mapping[str, Any], text_fields: Sequence[str]) -> str:
    """The texts of the fields, as they came; tags are a text or a list."""
    texts = []
    for name in text_fields:
        value = entry.get(name)
        values = value if isinstance(value, list) else [value]
        texts += [str(each) for each in values if isinstance(each, str | int)]
    return " ".join(text for text in texts if text.strip())
