"""The npm packages of emoji: what is in them, by whom, under what licence.

fetch_packages -> emoji_sources reads them -> licenses_text
"""

import collections
import dataclasses
import json
import logging
import pathlib
import shutil
import subprocess
from collections.abc import Iterable
from collections.abc import Mapping

_log = logging.getLogger(__name__)

# Pinned: other versions have other drawings and other words.
PACKAGES = {
    "@iconify-json/emojione": "1.2.3",
    "@iconify-json/emojione-v1": "1.2.3",
    "@iconify-json/fluent-emoji": "1.2.7",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/fxemoji": "1.2.2",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/twemoji": "1.2.5",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "emojibase-data": "17.0.0",
    "emojilib": "4.0.3",
    "openmoji": "17.0.0",
}
# Kind of words: (what they are, the package they are in, its licence).
WORDS = {
    "short_names": ("Unicode name, short names", "emojibase-data", "MIT"),
    "cldr": ("icon name, CLDR name and keywords", "emojibase-data", "MIT"),
    "emojione": ("icon name, EmojiOne short codes", "emojibase-data", "MIT"),
    "emojilib": ("icon name, emojilib keywords", "emojilib", "MIT"),
    "openmoji": ("tags of the OpenMoji community", "openmoji", "CC-BY-SA-4.0"),
}
CREATIVE_COMMONS = (
    "CC-BY licences: https://creativecommons.org/licenses/by/4.0/ and "
    "https://creativecommons.org/licenses/by-sa/4.0/"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A set of drawings: its place in the split, licence, origin and words."""

    split: str
    package: str
    license: str
    author: str
    url: str
    words: str


# Families share drawings, so each family is on one side of the split:
# Google's two, Microsoft's three, EmojiOne's two.
SOURCES = {
    "noto": Source(
        split="train",
        package="@iconify-json/noto",
        license="Apache-2.0",
        author="Google",
        url="https://github.com/googlefonts/noto-emoji",
        words="short_names",
    ),
    "noto-v1": Source(
        split="train",
        package="@iconify-json/noto-v1",
        license="Apache-2.0",
        author="Google",
        url="https://github.com/googlefonts/noto-emoji",
        words="cldr",
    ),
    "fxemoji": Source(
        split="train",
        package="@iconify-json/fxemoji",
        license="Apache-2.0",
        author="Mozilla",
        url="https://github.com/mozilla/fxemoji",
        words="cldr",
    ),
    "fluent3d": Source(
        split="train",
        package="@lobehub/fluent-emoji-3d",
        license="MIT",
        author="Microsoft",
        url="https://github.com/microsoft/fluentui-emoji",
        words="emojilib",
    ),
    "fluent-emoji": Source(
        split="train",
        package="@iconify-json/fluent-emoji",
        license="MIT",
        author="Microsoft",
        url="https://github.com/microsoft/fluentui-emoji",
        words="emojilib",
    ),
    "fluent-emoji-flat": Source(
        split="train",
        package="@iconify-json/fluent-emoji-flat",
        license="MIT",
        author="Microsoft",
        url="https://github.com/microsoft/fluentui-emoji",
        words="emojilib",
    ),
    "emojione": Source(
        split="val",
        package="@iconify-json/emojione",
        license="CC-BY-4.0",
        author="EmojiOne",
        url="https://github.com/EmojiTwo/emojitwo",
        words="emojione",
    ),
    "emojione-v1": Source(
        split="val",
        package="@iconify-json/emojione-v1",
        license="CC-BY-SA-4.0",
        author="EmojiOne",
        url="https://github.com/joypixels/emojione-legacy",
        words="emojione",
    ),
    "openmoji": Source(
        split="test",
        package="openmoji",
        license="CC-BY-SA-4.0",
        author="the OpenMoji authors",
        url="https://openmoji.org",
        words="openmoji",
    ),
    "twemoji": Source(
        split="test",
        package="@iconify-json/twemoji",
        license="CC-BY-4.0",
        author="Twitter, Inc. and other contributors",
        url="https://github.com/jdecked/twemoji",
        words="short_names",
    ),
}


def fetch_packages(cache: pathlib.Path) -> None:
    """Installs the packages that `cache/node_modules` lacks, with npm.

    Raises:
        OSError: if npm is missing or fails; the message has its last lines.
    """
    node_modules = cache / "node_modules"
    missing = {
        name: version
        for name, version in PACKAGES.items()
        if _installed_version(node_modules / name) != version
    }
    if not missing:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            "npm is missing. The drawings and their words are npm "
            f"packages, and {len(missing)} of {len(PACKAGES)} "
            f"are not in {cache} yet. npm comes with Node.js 18 or later: "
            "https://nodejs.org, or `apt-get install npm`."
        )
    # In a folder of its own: a download that is cut short leaves nothing.
    partial = cache / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _log.info("downloading %d npm packages to %s", len(missing), cache)
    finished = subprocess.run(
        [npm, "install", "--prefix", str(partial), "--ignore-scripts"]
        + ["--no-audit", "--no-fund", "--no-save"]
        + [f"{name}@{version}" for name, version in missing.items()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if finished.returncode:
        tail = "\n".join(finished.stdout.splitlines()[-15:])
        raise ChildProcessError(
            f"npm install failed with code {finished.returncode}. "
            f"Its last lines:\n{tail}"
        )
    for name in missing:
        target = node_modules / name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (partial / "node_modules" / name).rename(target)
    shutil.rmtree(partial)


def _installed_version(package: pathlib.Path) -> str | None:
    try:
        return json.loads((package / "package.json").read_text("utf-8"))[
            "version"
        ]
    except FileNotFoundError:
        return None


def licenses_text(records: Iterable[Mapping[str, str]], image_size: int) -> str:
    """The licences and authors of what the records hold, as Markdown."""
    num_images = collections.Counter(record["source"] for record in records)
    lines = [
        "# Licences of the images and titles in this folder",
        "",
        "The images were changed: drawn as PNG files of "
        f"{image_size} x {image_size} pixels on white.",
        "",
        *license_table({name: num_images[name] for name in SOURCES}),
        "",
        "| titles of | words | licence | npm package |",
        "|---|---|---|---|",
    ]
    for kind, (words, package, license_name) in WORDS.items():
        names = [
            name for name, source in SOURCES.items() if source.words == kind
        ]
        version = PACKAGES[package]
        lines.append(
            f"| {', '.join(names)} | {words} | {license_name} "
            f"| {package} {version} |"
        )
    version = PACKAGES["emojibase-data"]
    lines.append(
        "| all (title_zh, sku_name, category) | CLDR names and keywords | MIT "
        f"| emojibase-data {version} |"
    )
    lines += ["", CREATIVE_COMMONS]
    return "\n".join(lines) + "\n"


def license_table(num_images: Mapping[str, int]) -> list[str]:
    """Licences, authors and origins of some sources, as lines of Markdown.

    Args:
        num_images: by name of the source.
    """
    lines = [
        "| source | images | licence | authors | origin | npm package |",
        "|---|---|---|---|---|---|",
    ]
    for name, source in SOURCES.items():
        if name in num_images:
            version = PACKAGES[source.package]
            lines.append(
                f"| {name} | {num_images[name]} | {source.license} | "
                f"{source.author} | {source.url} | {source.package} {version} |"
            )
    return lines
