"""The artists' drawings: chosen, rendered once, and kept for all workers.

    npm packages -> choose_types -> keep_drawings -> FOLDER/<artist>.npy
                                                  -> Drawings, memory-mapped

Train, val and test have different artists (`emoji_packages.SOURCES`), so that
a test picture shows a type as training never saw it.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from beam_jobs.readers import emoji_packages
from beam_jobs.readers import emoji_sources
from beam_jobs.shop import chance
from beam_jobs.shop import products
from beam_jobs.shop import titles
from sicot_tf import files
from sicot_tf import progress
from sicot_tf.data import generations

_GROUPS = (
    *("activities", "animals-nature", "food-drink", "objects"),
    "travel-places",
)
# Dozens of moons and clock faces, maps and places of worship: no products.
_NO_PRODUCTS = (
    *("place-building", "place-map", "place-religious", "sky-weather"),
    "time",
)  # "Closed mailbox with raised flag" is no name of a product.
_MAX_WORDS = 3

# For each artist what it drew of each type.
Sources = Mapping[str, Mapping[str, emoji_sources.Drawing]]


def choose_types(
    node_modules: pathlib.Path, seed: int
) -> tuple[list[products.Type], Sources]:
    """Things that a shop may sell and that artists of every split drew.

    What is named by a colour ("red apple"), a pattern, or a word of promotion
    is left out: such a word would say two things.

    Returns:
        All types in an order that the seed gives, and the drawings by artist
        and `type_id`.
    """
    classes = emoji_sources.read_classes(node_modules)
    drawn = {
        name: emoji_sources.read_drawings(node_modules, name, classes)
        for name in emoji_packages.SOURCES
    }
    reserved = titles.reserved_words()
    types, names = [], set()
    for type_id, row in sorted(classes.items()):
        words = re.findall(r"\w+", re.sub("['’]", "", row["sku_name"]).lower())
        name = " ".join(words)
        name_zh = row["title_zh"].partition(" ")[0]
        group, _, subgroup = row["category"].partition("/")
        splits = {
            source.split
            for artist, source in emoji_packages.SOURCES.items()
            if type_id in drawn[artist]
        }
        if (
            group in _GROUPS
            and subgroup not in _NO_PRODUCTS
            and splits == {"train", "val", "test"}
            and len(words) <= _MAX_WORDS
            and reserved.isdisjoint([*words, name_zh])
            and names.isdisjoint([name, name_zh])
        ):
            names |= {name, name_zh}
            types.append(products.Type(type_id, name, name_zh, row["category"]))
    types.sort(key=lambda each: chance.number(seed, "type", each.type_id))
    return types, drawn


def keep_drawings(
    folder: pathlib.Path,
    types: Sequence[products.Type],
    drawn: Sources,
    size: int,
) -> None:
    """Renders what each artist drew of the types.

    `<artist>.npy`, uint8 `[drawings, size, size, 4]`, and
    `<artist>.types.npy`, the place of each in `types`. A folder that is there
    is whole.

    Raises:
        ValueError: if a drawing can't be read, or another process renders the
            same.
    """
    if folder.is_dir():
        return
    with generations.work_folder(folder.parent, folder.name) as work:
        partial = work / "drawings"
        # What a killed command left.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        jobs = list(_make_room(partial, types, drawn, size))
        # Not forked: a caller may hold Beam's threads.
        with concurrent.futures.ProcessPoolExecutor(
            os.cpu_count(), multiprocessing.get_context("spawn")
        ) as pool:
            rendered = pool.map(
                _render,
                [name for _, _, name, _ in jobs],
                [image for _, _, _, image in jobs],
                [size] * len(jobs),
                chunksize=16,
            )
            bar = progress.bar(jobs, "Drawings", "drawings")
            for (pixels, row, _, _), each in zip(bar, rendered):
                pixels[row] = each
        files.rename_folder(partial, folder)


def _make_room(
    folder: pathlib.Path,
    types: Sequence[products.Type],
    drawn: Sources,
    size: int,
) -> Iterator[tuple[np.ndarray, int, str, str | bytes]]:
    """Makes the files; yields array, row, name and image of each drawing."""
    for artist, drawings in drawn.items():
        places = [
            place
            for place, each in enumerate(types)
            if each.type_id in drawings
        ]
        if places:
            np.save(folder / f"{artist}.types.npy", np.array(places))
            pixels = np.lib.format.open_memmap(
                folder / f"{artist}.npy",
                mode="w+",
                dtype=np.uint8,
                shape=(len(places), size, size, 4),
            )
            for row, place in enumerate(places):
                name = types[place].name
                image = drawings[types[place].type_id].image
                yield pixels, row, f"{name} by {artist}", image


def _render(name: str, image: str | bytes, size: int) -> np.ndarray:
    try:
        return np.asarray(emoji_sources.render(image, size))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected a drawing for {name}, but it can't be read ({error}). "
            "Delete the folder of npm packages and start again."
        ) from error


class Drawings:
    """The drawings that `keep_drawings` kept, by artist and type.

    Only what is looked at is read, and processes share it.
    """

    def __init__(self, folder: pathlib.Path):
        self._rows = {
            artist: {
                int(place): row
                for row, place in enumerate(
                    np.load(folder / f"{artist}.types.npy")
                )
            }
            for artist in emoji_packages.SOURCES
            if (folder / f"{artist}.npy").exists()
        }
        self._pixels = {
            artist: np.load(folder / f"{artist}.npy", mmap_mode="r")
            for artist in self._rows
        }

    def artists(self, split: str, type_index: int) -> list[str]:
        """Who drew a type for a split."""
        return [
            artist
            for artist, rows in self._rows.items()
            if emoji_packages.SOURCES[artist].split == split
            and type_index in rows
        ]

    def of_type(self, artist: str, type_index: int) -> np.ndarray:
        """`[size, size, 4]` uint8 pixels: RGB and how opaque they are."""
        row = self._rows[artist][type_index]
        return np.asarray(self._pixels[artist][row])

    def any_of(self, artist: str, rng: np.random.Generator) -> np.ndarray:
        """Any drawing of an artist."""
        pixels = self._pixels[artist]
        return np.asarray(pixels[rng.integers(len(pixels))])
