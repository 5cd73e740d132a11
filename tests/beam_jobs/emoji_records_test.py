"""Tests of raw records of emoji: classes, long tail, drawings, titles."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
from PIL import Image

from beam_jobs import emoji_records
from beam_jobs.readers import emoji
from beam_jobs.readers import emoji_long_tail
from beam_jobs.readers import emoji_packages
from beam_jobs.readers import emoji_sources
from beam_jobs.records import raw_records
from sicot_tf.data import publishing
from sicot_tf.stores import opening
from tests.helpers import object_stores

_BANANA = "1F34C"
_HEART = "2764"


def _square(color):
    return f'<path fill="{color}" d="M0 0h9v9H0z"/>'


def _write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _write_icon_set(node_modules, name, icons, chars, aliases=None):
    icons = {
        icon: {"body": body} if isinstance(body, str) else body
        for icon, body in icons.items()
    }
    value = {"width": 9, "height": 9, "icons": icons, "aliases": aliases or {}}
    _write_json(node_modules / "@iconify-json" / name / "icons.json", value)
    _write_json(node_modules / "@iconify-json" / name / "chars.json", chars)


def _write_packages(cache):
    """Packages as npm lays them out, with three emoji and a flag."""
    root = cache / "node_modules"
    for name, version in emoji_packages.PACKAGES.items():
        _write_json(root / name / "package.json", {"version": version})
    base = root / "emojibase-data"
    groups = {"4": "food-drink", "0": "smileys-emotion", "2": "component"}
    groups |= {"1": "people-body", "9": "flags"}
    subgroups = {"42": "food-fruit", "14": "heart", "25": "person-role"}
    subgroups |= {"97": "flag", "32": "skin-tone"}
    _write_json(
        base / "meta" / "groups.json",
        {"groups": groups, "subgroups": subgroups},
    )
    _write_json(
        base / "meta" / "unicode-names.json",
        {
            "1F34C": "BANANA",
            "2764": "HEAVY BLACK HEART",
            "1F469-200D-1F33E": "WOMAN, EAR OF RICE",
        },
    )
    english = [
        ("1F34C", "banana", ["fruit", "potassium"], 4, 42),
        ("2764", "red heart", ["love", "red"], 0, 14),
        ("1F469-200D-1F33E", "woman farmer", ["farmer"], 1, 25),
        ("1F3C1", "chequered flag", ["racing"], 9, 97),
        ("1F3FB", "light skin tone", [], 2, 32),
    ]
    keys = ("hexcode", "label", "tags", "group", "subgroup")
    rows = [dict(zip(keys, row)) for row in english]
    rows.append({"hexcode": "1F1E6", "label": "regional indicator A"})
    _write_json(base / "en" / "data.json", rows)
    chinese = [{"hexcode": "1F34C", "label": "香蕉", "tags": ["水果", "钾"]}]
    _write_json(base / "zh" / "data.json", chinese)
    codes = {"1F34C": "banana", "2764": ["heart", "red_heart"]}
    codes["1F469-200D-1F33E"] = "female-farmer"
    for annotator in ("cldr", "emojibase", "iamcal", "joypixels"):
        _write_json(base / "en" / "shortcodes" / f"{annotator}.json", codes)
    _write_json(
        root / "emojilib" / "dist" / "emoji-en-US.json",
        {"🍌": ["banana", "fruit", "monkey"], "❤️": ["red_heart", "love"]},
    )
    openmoji = root / "openmoji"
    tags = [("1F34C", "banana", "yellow"), ("2764", "red heart", "")]
    keys = ("hexcode", "annotation", "openmoji_tags")
    _write_json(
        openmoji / "data" / "openmoji.json",
        [dict(zip(keys, row)) for row in tags],
    )
    (openmoji / "color" / "svg").mkdir(parents=True)
    for hexcode, color in (("1F34C", "#ff0"), ("2764", "red")):
        (openmoji / "color" / "svg" / f"{hexcode}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
            f"{_square(color)}</svg>"
        )
    assets = root / "@lobehub" / "fluent-emoji-3d" / "assets"
    assets.mkdir(parents=True)
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    picture.save(assets / "2764-fe0f.webp", lossless=True)

    banana, red = _square("#fe0"), _square("#e00")
    chars = {"1f34c": "banana", "2764": "red-heart"}
    _write_icon_set(
        root,
        "noto",
        {"banana": banana, "red-heart": red, "woman-farmer": _square("blue")},
        chars | {"1f469-200d-1f33e": "woman-farmer"},
    )
    # One drawing for two classes.
    both = {"banana": red, "red-heart": red}
    _write_icon_set(root, "fluent-emoji-flat", both, chars)
    # The right half is empty, so the mirrored one's left half is.
    half = '<path fill="red" d="M0 0h4.5v9H0z"/>'
    _write_icon_set(
        root,
        "twemoji",
        {"tree": half, "banana": {"body": banana, "hidden": True}},
        chars | {"1f3c1": "tree"},
        {"red-heart": {"parent": "tree", "hFlip": True}},
    )
    _write_icon_set(root, "noto-v1", {"red-heart": red}, {})
    # Found by its short code; the cat is a face in this set.
    _write_icon_set(root, "fxemoji", {"heart": red, "cat": banana}, {})
    _write_icon_set(root, "fluent-emoji", {"banana": banana}, {})
    _write_icon_set(root, "emojione", {"banana": banana}, {})
    _write_icon_set(root, "emojione-v1", {}, {})


def _pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture)


class ClassesTest(unittest.TestCase):
    def test_choice(self):
        """Fails when a class is chosen that can't be trained or tested."""
        splits = {
            "c": {"train", "val", "test"},
            "b": {"train", "val"},
            "a": {"test", "train"},
            "d": {"test"},
        }
        choose = emoji_long_tail.choose_classes
        self.assertEqual(choose(splits, 0, seed=0), ["a", "c"])
        self.assertEqual(choose(splits, 2, seed=5), ["a", "c"])
        with self.assertRaisesRegex(ValueError, "1 to 2, or 0.*received 3"):
            choose(splits, 3, seed=0)

    def test_choice_follows_the_seed_alone(self):
        """Fails when equal seeds choose differently, or all seeds alike."""
        names = [f"{number:02}" for number in range(40)]
        splits = {name: ("train", "test") for name in names}
        backwards = {name: splits[name] for name in reversed(names)}
        chosen = emoji_long_tail.choose_classes(splits, 10, seed=0)
        self.assertEqual(
            chosen, emoji_long_tail.choose_classes(backwards, 10, seed=0)
        )
        self.assertEqual(chosen, sorted(chosen))
        self.assertEqual(len(set(chosen) & set(names)), 10)
        self.assertNotEqual(
            chosen, emoji_long_tail.choose_classes(splits, 10, seed=1)
        )


class LongTailTest(unittest.TestCase):
    def test_shares(self):
        """Fails when the shares or the rule for head classes change.

        12 classes: round(2.04) = 2 head, which only h and i can be;
        round(3.96) = 4 keep two, 6 keep one.
        """
        num_drawings = dict.fromkeys("abcdefg", 4) | {"h": 5, "i": 6}
        num_drawings |= dict.fromkeys("jkl", 1)
        groups = emoji_long_tail.assign_long_tail(num_drawings, seed=0)
        self.assertEqual(groups["head"], ["h", "i"])
        self.assertEqual(
            [len(groups[name]) for name in ("head", "two", "one")], [2, 4, 6]
        )
        every = groups["head"] + groups["two"] + groups["one"]
        self.assertEqual(sorted(every), sorted(num_drawings))

    def test_no_class_is_rich_enough(self):
        """Fails when a class with 4 drawings is called head.

        10 classes: round(3.3) = 3 keep two, 7 keep one.
        """
        num_drawings = dict.fromkeys("abcdefghij", 4)
        groups = emoji_long_tail.assign_long_tail(num_drawings, seed=0)
        self.assertEqual(
            [len(groups[name]) for name in ("head", "two", "one")], [0, 3, 7]
        )

    def test_groups_follow_the_seed_alone(self):
        """Fails when the order of the dict leaks in, or the seed is lost."""
        num_drawings = {f"{number:02}": 6 for number in range(50)}
        backwards = dict(reversed(num_drawings.items()))
        groups = emoji_long_tail.assign_long_tail(num_drawings, seed=0)
        self.assertEqual(
            groups, emoji_long_tail.assign_long_tail(backwards, seed=0)
        )
        self.assertNotEqual(
            groups, emoji_long_tail.assign_long_tail(num_drawings, seed=1)
        )

    def test_kept_drawings(self):
        """Fails when more than the limit is kept, or the order decides."""
        ids = ["a/1", "b/1", "c/1", "d/1", "e/1"]
        keep = emoji_long_tail.keep_drawings
        self.assertEqual(keep(["b/1", "a/1"], 2, seed=0), ["a/1", "b/1"])
        self.assertEqual(keep(["a/1"], 2, seed=0), ["a/1"])
        kept = keep(ids, 2, seed=0)
        self.assertEqual(len(set(kept) & set(ids)), 2)
        self.assertEqual(keep(ids[::-1], 2, seed=0), kept)
        # 10 pairs: 20 seeds that all draw the same one would be no draw.
        pairs = {tuple(keep(ids, 2, seed=seed)) for seed in range(20)}
        self.assertGreater(len(pairs), 1)


class SourcesTest(unittest.TestCase):
    def test_families_stay_together(self):
        """Fails when one artist's drawings are on both sides of the split."""
        splits = {}
        for name, source in emoji_packages.SOURCES.items():
            family = name.split("-")[0].removesuffix("3d")
            splits.setdefault(family, set()).add(source.split)
            self.assertIn(source.package, emoji_packages.PACKAGES)
            self.assertIn(source.words, emoji_packages.WORDS)
        self.assertEqual(
            splits,
            {
                "noto": {"train"},
                "fxemoji": {"train"},
                "fluent": {"train"},
                "emojione": {"val"},
                "openmoji": {"test"},
                "twemoji": {"test"},
            },
        )

    def test_match_names(self):
        """Fails when an icon goes to a class whose name is less sure."""
        names = [
            ("man’s shoe", "1F45E"),
            ("wave", "1F30A"),
            # The name is taken; the next one of the class is not.
            ("wave", "1F44B"),
            ("waving_hand", "1F44B"),
            # A class keeps its first name.
            ("hand", "1F44B"),
        ]
        icons = ["hand", "mans-shoe", "wavinghand", "wave", "other"]
        self.assertEqual(
            emoji_sources.match_names(icons, names),
            {"1F45E": "mans-shoe", "1F30A": "wave", "1F44B": "wavinghand"},
        )

    def test_render_svg_on_white(self):
        """Fails when transparency turns black or colours are swapped.

        Half of black over white is 255 / 2 = 127 or 128.
        """
        pixels = _pixels(
            emoji_sources.render_png(
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">'
                '<path fill="#f00" d="M0 0h2v2H0z"/>'
                '<path fill="#00f" d="M2 0h2v2H2z"/>'
                '<path fill-opacity=".5" d="M0 2h2v2H0z"/></svg>',
                16,
            )
        )
        self.assertEqual(pixels.shape, (16, 16, 3))
        np.testing.assert_array_equal(pixels[4, 4], [255, 0, 0])
        np.testing.assert_array_equal(pixels[4, 12], [0, 0, 255])
        np.testing.assert_allclose(pixels[12, 4], [127.5] * 3, atol=0.5)
        np.testing.assert_array_equal(pixels[12, 12], [255, 255, 255])

    def test_render_image_file_on_white(self):
        """Fails when a WebP drawing loses its size or its background."""
        picture = Image.new("RGBA", (8, 8), (9, 9, 9, 0))
        file = io.BytesIO()
        picture.save(file, "WEBP", lossless=True)
        pixels = _pixels(emoji_sources.render_png(file.getvalue(), 16))
        np.testing.assert_array_equal(pixels, np.full([16, 16, 3], 255))


class BuildTest(unittest.TestCase):
    """The whole command over small packages."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.cache = cls.folder / "cache"
        _write_packages(cls.cache)
        cls.output = cls.folder / "records"
        cls.printed = io.StringIO()
        with contextlib.redirect_stdout(cls.printed):
            emoji_records.main(cls.arguments(cls.output))
        lines = (cls.output / "records.jsonl").read_text("utf-8").splitlines()
        cls.records = {row["record_id"]: row for row in map(json.loads, lines)}

    @classmethod
    def arguments(cls, output):
        return [
            *("--output", str(output), "--cache", str(cls.cache)),
            *("--num_classes", "0", "--image_size", "16"),
            *("--long_tail", "none"),
        ]

    def test_records(self):
        """Fails when a drawing goes missing or a wrong one comes in.

        Left out: the farmer, whom no test source drew; flags; the hidden
        banana of twemoji; the one drawing fluent-emoji-flat has for both.
        """
        self.assertEqual(
            list(self.records),
            [
                f"emojione/{_BANANA}",
                f"fluent-emoji/{_BANANA}",
                f"fluent3d/{_HEART}",
                f"fxemoji/{_HEART}",
                f"noto-v1/{_HEART}",
                f"noto/{_BANANA}",
                f"noto/{_HEART}",
                f"openmoji/{_BANANA}",
                f"openmoji/{_HEART}",
                f"twemoji/{_HEART}",
            ],
        )
        self.assertEqual(
            self.records[f"openmoji/{_BANANA}"],
            {
                "record_id": "openmoji/1F34C",
                "image": "images/openmoji/1F34C.png",
                "title": "yellow",
                "sku_id": "1F34C",
                "sku_name": "banana",
                "category": "food-drink/food-fruit",
                "title_zh": "香蕉 水果 钾",
                "source": "openmoji",
                "split": "test",
                "license": "CC-BY-SA-4.0",
            },
        )

    def test_records_hold_to_the_contract(self):
        """Fails when the Beam job would reject what is written here."""
        for record in self.records.values():
            parsed = raw_records.parse_record(record)
            self.assertEqual(parsed["sku_id"], record["sku_id"])
            self.assertIn(parsed["split"], ("train", "val", "test"))

    def test_titles(self):
        """Fails when a source gets the words of another's annotators."""
        titles = {id_: row["title"] for id_, row in self.records.items()}
        self.assertEqual(
            titles,
            {
                # Icon name, EmojiOne short code.
                "emojione/1F34C": "banana banana",
                # Icon name, emojilib.
                "fluent-emoji/1F34C": "banana banana fruit monkey",
                # emojilib alone: the files have no names.
                "fluent3d/2764": "red heart love",
                # Icon name, CLDR name, CLDR keywords.
                "fxemoji/2764": "heart red heart love red",
                "noto-v1/2764": "red heart red heart love red",
                # Unicode name, short names.
                "noto/1F34C": "banana banana",
                "noto/2764": "heavy black heart heart red heart",
                # Community tags; the annotation where there are none.
                "openmoji/1F34C": "yellow",
                "openmoji/2764": "red heart",
                "twemoji/2764": "heavy black heart heart red heart",
            },
        )

    def test_images(self):
        """Fails when an image is missing, or its record shows another."""
        files = {
            str(path.relative_to(self.output))
            for path in self.output.glob("images/*/*")
        }
        self.assertEqual(
            files, {record["image"] for record in self.records.values()}
        )

        def pixel(record_id, row, column):
            path = self.output / self.records[record_id]["image"]
            return _pixels(path.read_bytes())[row, column].tolist()

        self.assertEqual(pixel("openmoji/1F34C", 8, 8), [255, 255, 0])
        self.assertEqual(pixel("noto/1F34C", 8, 8), [255, 238, 0])
        self.assertEqual(pixel("fluent3d/2764", 8, 8), [255, 0, 0])
        # Mirrored: the left half is empty.
        self.assertEqual(pixel("twemoji/2764", 8, 2), [255, 255, 255])
        self.assertEqual(pixel("twemoji/2764", 8, 13), [255, 0, 0])

    def test_licenses(self):
        """Fails when a source's licence, author or use isn't stated."""
        text = (self.output / "LICENSES.md").read_text("utf-8")
        self.assertIn("16 x 16 pixels on white", text)
        self.assertIn(
            "| noto | 2 | Apache-2.0 | Google "
            "| https://github.com/googlefonts/noto-emoji "
            "| @iconify-json/noto 1.2.9 |",
            text,
        )
        self.assertIn(
            "| twemoji | 1 | CC-BY-4.0 | Twitter, Inc. and other contributors",
            text,
        )
        self.assertIn("| openmoji | 2 | CC-BY-SA-4.0 |", text)
        self.assertIn(
            "| fluent3d, fluent-emoji, fluent-emoji-flat | icon name, "
            "emojilib keywords | MIT | emojilib 4.0.3 |",
            text,
        )

    def test_summary(self):
        """Fails when the counts or the next command aren't printed."""
        printed = self.printed.getvalue()
        # fluent-emoji, fluent3d, fxemoji, noto-v1: 1 each; noto: 2.
        self.assertRegex(printed, r"train +6 images .*noto 2")
        self.assertIn("2 classes: 0 head", printed)
        self.assertIn(
            "Next: python -m beam_jobs.build_dataset --input "
            f"{self.output / 'records.jsonl'} --output",
            printed,
        )

    def test_again(self):
        """Fails when a second run works anew, or writes over other records."""
        before = (self.output / "records.jsonl").stat().st_mtime_ns
        with self.assertLogs("beam_jobs", "INFO") as shown:
            emoji.build(
                self.output,
                self.cache,
                num_classes=0,
                image_size=16,
                long_tail="none",
            )
        self.assertIn("already built", shown.output[-1])
        after = (self.output / "records.jsonl").stat().st_mtime_ns
        self.assertEqual(before, after)
        with self.assertRaisesRegex(ValueError, "the same settings"):
            emoji.build(self.output, self.cache, seed=1)
        other = self.folder / "other"
        other.mkdir()
        (other / "records.jsonl").write_text("mine")
        with self.assertRaisesRegex(ValueError, "has records.jsonl"):
            emoji.build(other, self.cache)

    def test_long_tail_and_equal_bytes(self):
        """Fails when equal settings differ, or the tail isn't cut.

        2 classes: round(0.34) = 0 head, round(0.66) = 1 keeps two, the other
        keeps one. The flag isn't drawn by a train source.
        """
        outputs = [self.folder / name for name in ("first", "second")]
        for output in outputs:
            emoji.build(
                output,
                self.cache,
                num_classes=0,
                image_size=16,
                include_flags=True,
            )
        first, second = (
            {
                str(path.relative_to(output)): path.read_bytes()
                for path in output.rglob("*")
                if path.is_file()
            }
            for output in outputs
        )
        self.assertEqual(first, second)
        report = json.loads(first["long_tail.json"])
        self.assertEqual(report["num_classes"], {"head": 0, "two": 1, "one": 1})
        self.assertEqual(
            report["num_records"], {"train": 3, "val": 1, "test": 3}
        )
        rows = [
            json.loads(line) for line in first["records.jsonl"].splitlines()
        ]
        kept = [row["sku_id"] for row in rows if row["split"] == "train"]
        [two], [one] = report["classes"]["two"], report["classes"]["one"]
        self.assertEqual(sorted(kept), sorted([two, two, one]))

    def test_on_a_store(self):
        """Fails when records on a store differ, or come before pictures."""
        arguments = {"num_classes": 0, "image_size": 16, "long_tail": "none"}
        with object_stores.s3_bucket() as bucket:
            output = f"{bucket}/records"
            store = opening.open_folder(output)
            upload = type(store).upload

            def fail(self, path, key):
                upload(self, path, key)
                if key == "long_tail.json":
                    raise OSError("The store is full.")

            with (
                mock.patch.object(type(store), "upload", fail),
                self.assertRaisesRegex(OSError, "full"),
            ):
                emoji.build(output, self.cache, **arguments)
            self.assertFalse(store.exists("records.jsonl"))
            with (
                publishing.only_builder(output),
                self.assertRaisesRegex(ValueError, "Another process"),
            ):
                emoji.build(output, self.cache, **arguments)
            emoji.build(output, self.cache, **arguments)
            found = {
                entry.key: store.get(entry.key)
                for entry in store.list()
                if entry.key != ".lock"
            }
        local = opening.open_folder(self.output)
        self.assertEqual(
            found, {entry.key: local.get(entry.key) for entry in local.list()}
        )

    def test_damaged_drawing(self):
        """Fails when nobody can tell which drawing stopped the build."""
        cache = self.folder / "damaged"
        _write_packages(cache)
        package = cache / "node_modules" / "@lobehub" / "fluent-emoji-3d"
        (package / "assets" / "2764-fe0f.webp").write_bytes(b"RIFF")
        output = self.folder / "from_damaged"
        with self.assertRaisesRegex(ValueError, "fluent3d/2764"):
            emoji.build(output, cache, num_classes=0, long_tail="none")
        self.assertFalse((output / "records.jsonl").exists())


class NpmTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def run_command(self, path):
        return subprocess.run(
            [sys.executable, "-m", "beam_jobs.emoji_records"]
            + ["--output", str(self.folder / "records")],
            env={**os.environ, "PATH": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )

    def write_npm(self, text):
        npm = self.folder / "bin" / "npm"
        npm.parent.mkdir()
        npm.write_text(f"#!{sys.executable}\n{text}")
        npm.chmod(0o755)
        return npm.parent

    def test_npm_is_missing(self):
        """Fails when a machine without npm gets a traceback."""
        finished = self.run_command(self.folder / "nothing")
        self.assertEqual(finished.returncode, 2)
        self.assertIn("npm is missing", finished.stderr)
        self.assertIn("https://nodejs.org", finished.stderr)
        self.assertNotIn("Traceback", finished.stderr)
        self.assertFalse((self.folder / "records").exists())

    def test_npm_fails(self):
        """Fails when npm's own words are lost."""
        path = self.write_npm(
            "import sys\n"
            "print('npm error network down', file=sys.stderr)\n"
            "sys.exit(7)\n"
        )
        finished = self.run_command(path)
        self.assertEqual(finished.returncode, 1)
        self.assertIn("failed with code 7", finished.stderr)
        self.assertIn("npm error network down", finished.stderr)
        self.assertNotIn("Traceback", finished.stderr)

    def test_only_what_lacks_is_installed(self):
        """Fails when an old version stays, or a right one is fetched again.

        This npm lays out packages as the real one does, without a network.
        """
        path = self.write_npm(
            "import json, pathlib, sys\n"
            "root = pathlib.Path(sys.argv[3]) / 'node_modules'\n"
            "for word in sys.argv[4:]:\n"
            "    if word.startswith('--'): continue\n"
            "    name, version = word.rsplit('@', 1)\n"
            "    (root / name).mkdir(parents=True)\n"
            "    text = json.dumps({'version': version, 'new': True})\n"
            "    (root / name / 'package.json').write_text(text)\n"
        )
        cache = self.folder / "cache"
        node_modules = cache / "node_modules"
        for name, version in emoji_packages.PACKAGES.items():
            if name != "openmoji":
                version = "1.0.0" if name == "emojilib" else version
                _write_json(
                    node_modules / name / "package.json", {"version": version}
                )
        with mock.patch.dict(os.environ, {"PATH": str(path)}):
            emoji_packages.fetch_packages(cache)
        found = {
            name: json.loads(
                (node_modules / name / "package.json").read_text("utf-8")
            )
            for name in emoji_packages.PACKAGES
        }
        self.assertEqual(
            {name: package["version"] for name, package in found.items()},
            emoji_packages.PACKAGES,
        )
        self.assertEqual(
            [name for name, package in found.items() if "new" in package],
            ["emojilib", "openmoji"],
        )
        self.assertEqual(list(cache.iterdir()), [node_modules])


if __name__ == "__main__":
    unittest.main()
