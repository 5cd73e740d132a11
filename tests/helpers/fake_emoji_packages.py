"""npm packages of drawings as npm lays them out, with six things in them.

Every artist draws every thing: a shape of the thing in a colour of the artist.
"""

import json
import pathlib
from typing import Any

from PIL import Image
from PIL import ImageDraw

from beam_jobs.readers import emoji_packages

# Code point, name, Chinese name, corners of its shape in a square of 9.
THINGS = (
    ("1F34C", "banana", "香蕉", ((1, 1), (8, 1), (8, 8))),
    ("1F350", "pear", "梨", ((4, 0), (8, 8), (0, 8))),
    ("1F528", "hammer", "锤子", ((0, 0), (9, 0), (9, 4), (0, 4))),
    ("1F3B8", "guitar", "吉他", ((3, 0), (6, 0), (6, 9), (3, 9))),
    ("1F438", "frog", "青蛙", ((1, 1), (8, 1), (8, 8), (1, 8))),
    ("1FA81", "kite", "风筝", ((4, 0), (9, 4), (4, 9), (0, 4))),
)
# Left out of a shop: named by a colour; no product; of a group that is none.
OTHERS = (
    ("1F34F", "green apple", "青苹果", ((2, 2), (7, 2), (7, 7), (2, 7))),
    ("1F3C1", "chequered flag", "黑白旗", ((0, 0), (9, 0), (9, 9))),
)
_ICON_SETS = (
    *("noto", "noto-v1", "fxemoji", "fluent-emoji", "fluent-emoji-flat"),
    *("emojione", "emojione-v1", "twemoji"),
)


def write(cache: pathlib.Path) -> pathlib.Path:
    """Writes `cache/node_modules`, as if npm had just filled it."""
    root = cache / "node_modules"
    for name, version in emoji_packages.PACKAGES.items():
        _write_json(root / name / "package.json", {"version": version})
    _write_words(root / "emojibase-data")
    for number, name in enumerate(_ICON_SETS):
        colour = f"rgb({200 - 20 * number},{20 * number},90)"
        _write_json(
            root / "@iconify-json" / name / "icons.json",
            {
                "width": 9,
                "height": 9,
                "icons": {
                    _slug(thing): {"body": _shape(corners, colour)}
                    for _, thing, _, corners in THINGS + OTHERS
                },
            },
        )
        _write_json(
            root / "@iconify-json" / name / "chars.json",
            {code.lower(): _slug(thing) for code, thing, *_ in THINGS + OTHERS},
        )
    svgs = root / "openmoji" / "color" / "svg"
    svgs.mkdir(parents=True)
    assets = root / "@lobehub" / "fluent-emoji-3d" / "assets"
    assets.mkdir(parents=True)
    for code, _, _, corners in THINGS + OTHERS:
        (svgs / f"{code}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
            f"{_shape(corners, '#a50')}</svg>"
        )
        picture = Image.new("RGBA", (36, 36))
        points = [(4 * x, 4 * y) for x, y in corners]
        ImageDraw.Draw(picture).polygon(points, (90, 140, 60, 255))
        picture.save(assets / f"{code.lower()}.webp", lossless=True)
    return root


def _write_words(package: pathlib.Path) -> None:
    """Names of the things in two languages."""
    groups = {"4": "food-drink", "9": "flags"}
    subgroups = {"42": "food-fruit", "97": "flag"}
    _write_json(
        package / "meta" / "groups.json",
        {"groups": groups, "subgroups": subgroups},
    )
    _write_json(package / "meta" / "unicode-names.json", {})
    is_flag = {code: name.endswith("flag") for code, name, *_ in OTHERS}
    english = [
        {
            "hexcode": code,
            "label": name,
            "group": 9 if is_flag.get(code) else 4,
            "subgroup": 97 if is_flag.get(code) else 42,
        }
        for code, name, *_ in THINGS + OTHERS
    ]
    _write_json(package / "en" / "data.json", english)
    chinese = [
        {"hexcode": code, "label": name, "tags": ["东西"]}
        for code, _, name, _ in THINGS + OTHERS
    ]
    _write_json(package / "zh" / "data.json", chinese)
    for annotator in ("cldr", "emojibase", "iamcal", "joypixels"):
        _write_json(package / "en" / "shortcodes" / f"{annotator}.json", {})


def _shape(corners: Any, colour: str) -> str:
    points = " ".join(f"{x},{y}" for x, y in corners)
    return f'<polygon fill="{colour}" points="{points}"/>'


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")
