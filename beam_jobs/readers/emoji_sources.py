"""Reads the npm packages that hold the drawings of emoji and their words.

    node_modules -> read_classes -> read_drawings -> read_titles
                                 |-> write_images

A class is one emoji. A source is one group of artists who drew it, with the
words of the annotators that belong to the source.
"""

import collections
import concurrent.futures
import dataclasses
import importlib.util
import io
import multiprocessing
import os
import pathlib
import re
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from PIL import Image

from beam_jobs.readers import emoji_packages
from sicot_tf import files
from sicot_tf import progress

# Firefox's set calls other things by these names: its `wave` is of water and
# its `dog` is the face. Found by looking; its `tramcar` is a black square.
_MISNAMED = (
    "bow cat couple dog down keyboard kiss mouse pig pout pouting sunglasses "
    "tiger tramcar umbrella up wave"
).split()


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One picture: its name in the package, and an SVG text or WebP bytes."""

    icon_name: str
    image: str | bytes


def read_classes(node_modules: pathlib.Path) -> dict[str, dict[str, str]]:
    """The emoji without skin tones, by code points such as `1F469-200D-1F33E`.

    Returns:
        For each `sku_id` the fields of a raw record that all its drawings
        share: sku_id, sku_name, category (`group/subgroup`), title_zh. The
        categories of flags start with `flags/`.
    """
    emojibase = node_modules / "emojibase-data"
    names = files.read_json(emojibase / "meta" / "groups.json")
    chinese = _by_sku_id(files.read_json(emojibase / "zh" / "data.json"))
    classes = {}
    english = _by_sku_id(files.read_json(emojibase / "en" / "data.json"))
    for sku_id, row in english.items():
        # Single letters of flags have no group; "component" holds skin tones
        # and hair that are only seen as part of other emoji.
        group = names["groups"].get(str(row.get("group")), "component")
        if group == "component":
            continue
        words = chinese.get(sku_id, {"label": ""})
        classes[sku_id] = {
            "sku_id": sku_id,
            "sku_name": row["label"],
            "category": f"{group}/{names['subgroups'][str(row['subgroup'])]}",
            "title_zh": " ".join([words["label"], *words.get("tags", [])]),
        }
    return classes


def read_drawings(
    node_modules: pathlib.Path,
    source: str,
    classes: Mapping[str, Mapping[str, str]],
) -> dict[str, Drawing]:
    """What a source drew of the classes, by `sku_id`.

    Drawings that stand for two classes (Twitter has one for ten families)
    can't be told apart by anyone and are left out.
    """
    package = node_modules / emoji_packages.SOURCES[source].package
    if source == "fluent3d":
        drawings = {
            _sku_id(path.stem): Drawing("", path.read_bytes())
            for path in sorted((package / "assets").glob("*.webp"))
            if _sku_id(path.stem) in classes
        }
    elif source == "openmoji":
        drawings = {
            _sku_id(path.stem): Drawing("", path.read_text("utf-8"))
            for path in sorted((package / "color" / "svg").glob("*.svg"))
            if _sku_id(path.stem) in classes
        }
    else:
        icons = _read_icons(package)
        icon_names = _code_points(package)
        if not icon_names:
            if source == "fxemoji":
                for name in _MISNAMED:
                    icons.pop(name, None)
            icon_names = match_names(icons, _class_names(node_modules, classes))
        drawings = {
            sku_id: Drawing(icon_name, icons[icon_name])
            for sku_id, icon_name in icon_names.items()
            if icon_name in icons
        }
    drawings = {id_: drawings[id_] for id_ in classes if id_ in drawings}
    uses = collections.Counter(item.image for item in drawings.values())
    return {id_: item for id_, item in drawings.items() if uses[item.image] < 2}


def _read_icons(package: pathlib.Path) -> dict[str, str]:
    """SVG texts by icon name, from the one file of an Iconify package."""
    icon_set = files.read_json(package / "icons.json")
    # Hidden icons were taken out of the set or go by another name now.
    icons = {
        name: icon
        for name, icon in icon_set["icons"].items()
        if not icon.get("hidden")
    }
    for name, alias in icon_set.get("aliases", {}).items():
        if alias["parent"] in icons:
            icons[name] = icons[alias["parent"]] | alias
    drawn = {}
    for name, icon in icons.items():
        width = icon.get("width", icon_set["width"])
        height = icon.get("height", icon_set["height"])
        body = icon["body"]
        if icon.get("hFlip"):
            body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
        # Square, whatever the proportions of the icon in the view box.
        side = max(width, height)
        drawn[name] = (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{side}" height="{side}" viewBox="0 0 {width} {height}">'
            f"{body}</svg>"
        )
    return drawn


def _class_names(
    node_modules: pathlib.Path, classes: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str]]:
    """Every name of every class, `(name, sku_id)`, the surest names first."""
    pairs = []
    for sku_id, row in classes.items():
        label = row["sku_name"]
        pairs += [(label, sku_id), (label.replace("flag:", "flag for"), sku_id)]
    for name in ("noto", "fluent-emoji-flat", "twemoji"):
        icon_names = _code_points(node_modules / "@iconify-json" / name)
        pairs += [(icon_names[id_], id_) for id_ in icon_names]
    unicode_names = _unicode_names(node_modules)
    pairs += [(unicode_names[id_], id_) for id_ in unicode_names]
    for annotator in ("cldr", "emojibase", "iamcal", "joypixels"):
        codes = _short_codes(node_modules, annotator)
        pairs += [(code, id_) for id_ in codes for code in codes[id_]]
    return [(name, sku_id) for name, sku_id in pairs if sku_id in classes]


def match_names(
    icon_names: Iterable[str], class_names: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Finds the icons of classes by name, for sets without code points.

    Only letters and digits count: `Man’s shoe` is `mans-shoe`.

    Args:
        icon_names: the names in a set.
        class_names: `(name, sku_id)`; a name is the first class's that has
            it, and a class takes the first of its names that is in the set.

    Returns:
        Icon names by `sku_id`.
    """

    def letters(name: str) -> str:
        return re.sub(r"[^a-z0-9]", "", name.lower())

    icons = {letters(name): name for name in sorted(icon_names, reverse=True)}
    owners: dict[str, str] = {}
    for name, sku_id in class_names:
        owners.setdefault(letters(name), sku_id)
    matches: dict[str, str] = {}
    for name, sku_id in owners.items():
        if name in icons:
            matches.setdefault(sku_id, icons[name])
    return matches


def read_titles(
    node_modules: pathlib.Path,
    source: str,
    classes: Mapping[str, Mapping[str, str]],
    drawings: Mapping[str, Drawing],
) -> dict[str, str]:
    """The words that a source's annotators give to its drawings, by `sku_id`.

    Words stand twice where two annotators agree, and may be few or beside the
    point (a banana is "yellow"): they are left as they are.
    """
    words = emoji_packages.SOURCES[source].words
    phrases = {id_: [item.icon_name] for id_, item in drawings.items()}
    labels = {id_: classes[id_]["sku_name"] for id_ in drawings}
    if words == "short_names":
        unicode_names = _unicode_names(node_modules)
        codes = _short_codes(node_modules, "iamcal")
        for id_ in phrases:
            phrases[id_] = [unicode_names.get(id_, labels[id_])]
            phrases[id_] += codes.get(id_, [])
    elif words == "emojione":
        # JoyPixels is the name of EmojiOne since 2019.
        codes = _short_codes(node_modules, "joypixels")
        for id_ in phrases:
            phrases[id_] += codes.get(id_, [])
    elif words == "openmoji":
        path = node_modules / "openmoji" / "data" / "openmoji.json"
        rows = _by_sku_id(files.read_json(path))
        for id_ in phrases:
            tags = rows[id_]["openmoji_tags"]
            phrases[id_] = [tags if tags.strip() else rows[id_]["annotation"]]
    elif words == "cldr":
        path = node_modules / "emojibase-data" / "en" / "data.json"
        rows = _by_sku_id(files.read_json(path))
        for id_ in phrases:
            phrases[id_] += [labels[id_], *rows[id_].get("tags", [])]
    else:
        path = node_modules / "emojilib" / "dist" / "emoji-en-US.json"
        keywords = {
            "-".join(f"{ord(part):04X}" for part in emoji): values
            for emoji, values in files.read_json(path).items()
        }
        keywords = {_sku_id(code): keywords[code] for code in keywords}
        for id_ in phrases:
            phrases[id_] += keywords.get(id_, [labels[id_]])
    return {
        # Slugs and lists to words: `red_car`, `man-farmer`, `love, red`.
        id_: re.sub(r"[_,\s-]+", " ", " ".join(parts)).strip().lower()
        for id_, parts in phrases.items()
    }


def _unicode_names(node_modules: pathlib.Path) -> dict[str, str]:
    """Unicode names; sequences have none, only the names of their parts."""
    path = node_modules / "emojibase-data" / "meta" / "unicode-names.json"
    names = {
        _sku_id(code): name for code, name in files.read_json(path).items()
    }
    return {id_: name for id_, name in names.items() if "-" not in id_}


def _short_codes(
    node_modules: pathlib.Path, annotator: str
) -> dict[str, list[str]]:
    folder = node_modules / "emojibase-data" / "en" / "shortcodes"
    return {
        _sku_id(code): [names] if isinstance(names, str) else names
        for code, names in files.read_json(folder / f"{annotator}.json").items()
    }


def _code_points(package: pathlib.Path) -> dict[str, str]:
    """An Iconify package's icon names by `sku_id`; five sets have none."""
    chars = files.read_json(package / "chars.json")
    return {_sku_id(code): icon_name for code, icon_name in chars.items()}


def _by_sku_id(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {_sku_id(row["hexcode"]): row for row in rows}


def _sku_id(code_points: str) -> str:
    """`1f469-200d-2764-fe0f` to `1F469-200D-2764`.

    FE0F asks for colour and is written by some packages only.
    """
    parts = code_points.upper().split("-")
    return "-".join(part for part in parts if part != "FE0F")


def check_drawing_library() -> None:
    """Raises ValueError if nothing can draw SVG files."""
    if importlib.util.find_spec("resvg_py") is None:
        raise ValueError(
            "resvg_py, which draws the SVG files, is missing: "
            "pip install 'sicot-tf[demo]'"
        )


def render(image: str | bytes, size: int) -> Image.Image:
    """Draws an SVG text, or the bytes of an image file.

    Returns:
        `size` x `size` RGBA pixels; equal input, equal pixels.
    """
    # Here, because only the demo extra installs it.
    import resvg_py

    if isinstance(image, str):
        # Without system fonts: the same picture on every machine.
        image = resvg_py.svg_to_bytes(
            svg_string=image, width=size, height=size, skip_system_fonts=True
        )
    with Image.open(io.BytesIO(image)) as picture:
        return picture.convert("RGBA").resize((size, size), Image.LANCZOS)


def render_png(image: str | bytes, size: int) -> bytes:
    """A drawing on white: a PNG of `size` x `size` RGB pixels."""
    canvas = Image.new("RGBA", (size, size), "white")
    canvas.alpha_composite(render(image, size))
    png = io.BytesIO()
    canvas.convert("RGB").save(png, "PNG")
    return png.getvalue()


def _draw(record_id: str, image: str | bytes, size: int) -> bytes:
    """`render_png` with an error that tells which drawing it was."""
    try:
        return render_png(image, size)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected a drawing for {record_id}, but it can't be read "
            f"({error}). Delete the folder of npm packages and start again."
        ) from error


def write_images(
    folder: pathlib.Path,
    records: Sequence[Mapping[str, str]],
    drawings: Mapping[str, Mapping[str, Drawing]],
    size: int,
) -> None:
    """Renders the drawings of raw records, on all cores.

    Args:
        folder: what the `image` fields are relative to.
        records: raw records.
        drawings: by source, then by `sku_id`.
        size: side of the images in pixels.

    Raises:
        ValueError: if a drawing can't be read.
    """
    for source in sorted({record["source"] for record in records}):
        (folder / "images" / source).mkdir(parents=True)
    # Not forked: a caller may hold TensorFlow's threads.
    with concurrent.futures.ProcessPoolExecutor(
        os.cpu_count(), multiprocessing.get_context("spawn")
    ) as pool:
        rendered = pool.map(
            _draw,
            [record["record_id"] for record in records],
            [drawings[row["source"]][row["sku_id"]].image for row in records],
            [size] * len(records),
            chunksize=16,
        )
        bar = progress.bar(records, "Rendering", "images")
        for record, png in zip(bar, rendered):
            (folder / record["image"]).write_bytes(png)
