"""The files of WebVision: lists of pictures, classes, titles.

`train_filelist_google.txt` lists pictures with their labels, line by line
with `train_meta_list_google.txt`, which names a JSON file and a row in it.
"""

import dataclasses
import json
import pathlib
import posixpath
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.readers import record_shards
from sicot_tf import files
from sicot_tf import progress

SOURCES = ("google", "flickr")
TEXT_FIELDS = ("title", "description", "tags")

# Row in the JSON file (from 1), path as listed, label (from 0).
Picture = tuple[int, str, int]


@dataclasses.dataclass(frozen=True)
class ImageList:
    """A list of pictures and the folders they, and their metadata, are in.

    The list `val` has neither `meta_list` nor `metadata`.
    """

    name: str
    filelist: pathlib.Path
    images: pathlib.Path
    meta_list: pathlib.Path | None = None
    metadata: pathlib.Path | None = None


def find_lists(
    root: pathlib.Path, sources: Sequence[str] = SOURCES
) -> list[ImageList]:
    """Finds the lists of the sources and of val, however they were unpacked.

    Raises:
        ValueError: if a list, pictures or metadata are not there.
    """
    lists = []
    for source in sources:
        # Where pictures stand apart, `google` may hold the metadata alone.
        images = _find_folder(
            f"folders with pictures of {source}",
            [
                root / "train_images_256" / source,
                root / f"{source}_images_resized",
                root / source,
            ],
            pathlib.Path.is_dir,
        )
        metadata = _find_folder(
            f"JSON files of {source}",
            [
                root / "meta" / source,
                root / f"{source}_json",
                root / source,
                images,
            ],
            lambda path: path.name.endswith(".json"),
        )
        filelist = find_file(root, f"train_filelist_{source}.txt")
        meta_list = find_file(root, f"train_meta_list_{source}.txt")
        lists.append(ImageList(source, filelist, images, meta_list, metadata))
    images = _find_folder(
        "validation pictures",
        [root / "val_images_resized", root / "val_images_256", root / "val"],
        pathlib.Path.is_file,
    )
    filelist = find_file(root, "val_filelist.txt")
    return [*lists, ImageList("val", filelist, images)]


def _find_folder(
    what: str,
    folders: Sequence[pathlib.Path],
    is_one: Callable[[pathlib.Path], bool],
) -> pathlib.Path:
    for folder in folders:
        if folder.is_dir() and any(map(is_one, folder.iterdir())):
            return folder
    raise ValueError(
        f"Expected {what} in one of {', '.join(map(str, folders))}. Unpack "
        "the archives there."
    )


def find_file(root: pathlib.Path, name: str) -> pathlib.Path:
    """A file of info.tar; some lists are also served beside it.

    Raises:
        ValueError: if it is not there.
    """
    for path in (root / "info" / name, root / name):
        if path.is_file():
            return path
    raise ValueError(f"Expected {root / 'info' / name}. Unpack info.tar there.")


def read_lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Numbers (from 1) and texts of the lines that are not blank."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
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
    num_lines = 0
    for number, line in progress.bar(
        read_lines(image_list.filelist), image_list.name, "lines"
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
        num_meta_lines = sum(1 for _ in read_lines(image_list.meta_list))
        if num_meta_lines != num_lines:
            raise ValueError(
                f"Expected as many lines in {image_list.meta_list} as in "
                f"{image_list.filelist} ({num_lines:,}), received "
                f"{num_meta_lines:,}. Unpack info.tar again."
            )
    return num_lines


def read_synsets(path: pathlib.Path) -> list[tuple[str, str]]:
    """WordNet id and words of each label: `n01440764 tench, Tinca tinca`."""
    rows = [line.partition(" ") for _, line in read_lines(path)]
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
    path: pathlib.Path, wordnet_ids: Collection[str]
) -> list[str]:
    """The ids that start the lines of a file, sorted.

    Raises:
        ValueError: if there is none, or one that `wordnet_ids` lacks.
    """
    chosen = {line.split()[0] for _, line in read_lines(path)}
    unknown = sorted(chosen.difference(wordnet_ids))
    if unknown or not chosen:
        raise ValueError(
            f"Expected lines that start with a WordNet id of synsets.txt in "
            f"{path}, received {unknown[:10] or 'none'}."
        )
    return sorted(chosen)


def digest_metadata(folder: pathlib.Path) -> str:
    """A digest of the names and sizes of the JSON files of a folder."""
    return record_shards.digest(
        sorted(
            (path.name, path.stat().st_size) for path in folder.glob("*.json")
        )
    )


def read_metadata(path: pathlib.Path) -> list[Any]:
    """What a JSON file tells of the pictures of one query.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is not a list in JSON.
    """
    # A stray byte of another encoding stays inside its own title.
    entries = json.loads(path.read_text("utf-8-sig", errors="surrogateescape"))
    if not isinstance(entries, list):
        raise ValueError(f"Expected a list in {path}.")
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
