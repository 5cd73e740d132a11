import collections
import contextlib
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL.Image
import tensorflow as tf

from beam_jobs import mine_clicks
from beam_jobs import replay_rejects
from beam_jobs.clicks import write_shards
from sicot_tf import files
from sicot_tf.data import generations
from tests.helpers import mistakes
from tests.helpers import tiny_clicks

row = tiny_clicks.row
_SKUS = {each: f"sku {each}" for each in "abcdef"}


def _mine(folder, *flags, output="triplets"):
    mine_clicks.main(
        [
            *("--clicks", str(folder / "clicks*.jsonl")),
            *("--catalogue", str(folder / "catalogue.jsonl")),
            *("--output", str(folder / output), *flags),
        ]
    )
    return generations.resolve_generation(folder / output)


def _triplets(generation, split="train"):
    paths = sorted(map(str, generation.glob(f"{split}-*.tfrecord")))
    return [
        {
            name: value.numpy()
            for name, value in tf.io.parse_single_example(
                example, write_shards.TRIPLET_FEATURES
            ).items()
        }
        for example in tf.data.TFRecordDataset(paths)
    ]


def _ids(triplets):
    names = ("query_id", "positive_id", "negative_id")
    return sorted(
        tuple(each[name].decode() for name in names) for each in triplets
    )


def _digests(generation):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in generation.iterdir()
        if path.name != generations.RUN
    }


class MineClicksTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        tiny_clicks.write_pictures(self.folder, [*"abcdef", "query", "other"])
        tiny_clicks.write_catalogue(self.folder, _SKUS)

    def _log(self, *rows):
        tiny_clicks.write_rows(self.folder / "clicks.jsonl", rows)

    def test_products_that_were_looked_at(self):
        """Breaks if a product far below the click, one that was clicked on
        another page of the picture, or one of the same SKU is a negative."""
        tiny_clicks.write_catalogue(self.folder, {**_SKUS, "b": "sku c"})
        self._log(
            # Above c: a, and b of its SKU; below it d, which was looked at,
            # and e, which was not.
            row("1", "abcdef", 3),
            # Of another page of this picture: d was clicked.
            row("2", "fd", 2),
        )
        generation = _mine(self.folder, "--negatives", "9")
        self.assertEqual(
            _ids(_triplets(generation)),
            [("1", "c", "a"), ("2", "d", "f")],
        )

    def test_example(self):
        """Breaks if a reader does not find the pictures it is told of."""
        self._log(row("1", "ab", 2))
        (example,) = _triplets(_mine(self.folder))
        for name, source in (
            ("query", "query"),
            ("positive", "b"),
            ("negative", "a"),
        ):
            pixels = tf.io.decode_image(example[f"{name}/encoded"]).numpy()
            image = PIL.Image.open(self.folder / "pictures" / f"{source}.png")
            # JPEG at quality 90 of noise.
            difference = np.abs(np.float32(pixels) - np.float32(image)).mean()
            self.assertLess(difference, 20)
        self.assertEqual(example["weight"], 1)
        self.assertEqual(example["negative_kind"], b"shown")

    def test_weights(self):
        """Breaks if a click further down does not weigh more, by the bias and
        no more than the clip, or the mean is not 1."""
        examination = self.folder / "examination.json"
        examination.write_text("[1, 0.5, 0.01]")
        self._log(row("1", "ab", 1), row("2", "cd", 2), row("3", "aef", 3))
        generation = _mine(
            self.folder,
            *("--examination", str(examination), "--max_weight", "5"),
            *("--negatives", "1"),
        )
        weights = {
            each["query_id"].decode(): each["weight"]
            for each in _triplets(generation)
        }
        # 1, 2 and 5 (1 / 0.01 is clipped); their mean is 8 / 3.
        self.assertAllClose(
            weights, {"1": 3 / 8, "2": 6 / 8, "3": 15 / 8}, atol=1e-6
        )

    def test_every_row_is_counted_once(self):
        """Breaks if a row is lost, or counted under another reason."""
        (self.folder / "pictures" / "broken.png").write_bytes(b"no picture")
        again = row("1", "ab", 2, time="2026-11-27T10:00:01Z")
        hasty = [
            row(
                f"h{n}", "ab", visitor="hasty", time=f"2026-11-27T11:{n:02}:00Z"
            )
            for n in range(5)
        ]
        self._log(
            row("1", "ab", 2),
            again,
            row("1", "ba", 2),
            row("2", "cd"),
            row("3", "e", 1, image="pictures/other.png"),
            row("4", "ax", 2),
            row("5", "ab", 2, split="test"),
            row("6", "ab", 2, image="pictures/broken.png"),
            row("7", "ab", 2, image="pictures/none.png"),
            *hasty,
            "no JSON",
            {**row("8", "ab", 2), "position": 1},
        )
        generation = _mine(self.folder, "--max_pages_per_hour", "4")
        report = files.read_json(generation / "report.json")
        found = {k: v for k, v in report["rows"].items() if v}
        self.assertEqual(
            found,
            {
                "mined": 1,
                "double_click": 1,
                "other_page": 1,
                "no_click": 1,
                "no_negative": 1,
                "unknown_product": 1,
                "test_split": 1,
                "bad_query_picture": 2,
                "robot_pages": 5,
                "rejected": 2,
            },
        )
        self.assertEqual(report["rows_read"], sum(found.values()))
        self.assertEqual(report["robots"], {"robot_pages": 1})
        lines = (generation / "rejects.jsonl").read_text().splitlines()
        self.assertEqual(
            collections.Counter(json.loads(x)["reason"] for x in lines),
            {
                "bad_json": 1,
                "not_at_position": 1,
                "other_page": 1,
                "unknown_product": 1,
                "not_an_image": 1,
                "missing_image": 1,
            },
        )

    def test_mended_rejects(self):
        """Breaks if rejects can't be given to --clicks once their cause is
        gone."""
        self._log(row("1", "ab", 2), row("2", "xa", 1))
        generation = _mine(self.folder)
        tiny_clicks.write_pictures(self.folder, "x")
        tiny_clicks.write_catalogue(self.folder, {**_SKUS, "x": "sku x"})
        rejects = (generation / "rejects.jsonl").read_bytes()
        (self.folder / "clicks.jsonl").write_bytes(rejects)
        expected = [("2", "x", "a")]
        self.assertEqual(_ids(_triplets(_mine(self.folder))), expected)
        # The other way; the file may lie elsewhere.
        again = self.folder / "elsewhere" / "again.jsonl"
        again.parent.mkdir()
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            replay_rejects.main([str(generation), "--output", str(again)])
        self.assertIn("python -m beam_jobs.mine_clicks", told.getvalue())
        again.rename(self.folder / "clicks.jsonl")
        self.assertEqual(_ids(_triplets(_mine(self.folder))), expected)

    def test_robots(self):
        """Breaks if who clicks too fast, or always at the first place, is
        taken for a customer, or a customer for a robot."""
        rows = []
        for number in range(40):
            time_ = f"2026-11-{number % 28 + 1:02}T{number % 24:02}:00:00Z"
            rows += [
                row(f"p{number}", "ab", 1 + number % 2, visitor="person"),
                row(f"f{number}", "ab", 1, visitor="first"),
            ]
            for each in rows[-2:]:
                each["time"] = time_
        for number in range(12):
            time_ = f"2026-11-27T10:00:{number:02}Z"
            rows.append(row(f"q{number}", "ab", 2, visitor="quick", time=time_))
        for number in range(5):
            time_ = f"2026-11-{number + 1:02}T10:00:00Z"
            for place in range(1, 7):
                rows.append(
                    row(f"e{number}", "abcdef", place, visitor="all")
                    | {"time": time_}
                )
        self._log(*rows, row("last", "cd", 2))
        generation = _mine(self.folder, "--max_clicks_per_hour", "10")
        report = files.read_json(generation / "report.json")
        # 65 of 123 clicks at the first place: 40 in a row have a chance of
        # 8e-12, and the limit is 1e-4.
        self.assertEqual(
            report["robots"],
            {"robot_clicks": 1, "robot_everything": 1, "robot_first_place": 1},
        )
        self.assertEqual(report["rows"]["robot_everything"], 30)
        self.assertEqual(report["rows"]["robot_first_place"], 40)
        self.assertEqual(report["rows"]["robot_clicks"], 12)

    def test_no_triplet(self):
        """Breaks if an empty data set passes for a result."""
        self._log(row("1", "ab"))
        with mistakes.assert_told(self, "none that leaves a triplet"):
            _mine(self.folder)
        self.assertFalse((self.folder / "triplets" / "LATEST").exists())

    def test_killed_and_with_more_processes(self):
        """Breaks if a kill leaves half a result, or the number of processes
        changes a byte."""
        for part in range(3):
            tiny_clicks.write_rows(
                self.folder / f"clicks-{part}.jsonl",
                [
                    row(f"{part}/{n}", "abcdef", 1 + n % 4, split=None)
                    | {"image": f"pictures/{'abcdef'[n % 6]}.png"}
                    for n in range(20)
                ],
            )
        flags = ("--shard_triplets", "7", "--seed", "3")
        expected = _digests(_mine(self.folder, *flags))
        self._kill_at_first_part(flags)
        self.assertFalse((self.folder / "killed" / "LATEST").exists())
        generation = _mine(
            self.folder, *flags, "--num_processes", "2", output="killed"
        )
        self.assertEqual(_digests(generation), expected)
        self.assertGreater(len(expected), 6)

    def _kill_at_first_part(self, flags):
        process = subprocess.Popen(
            [sys.executable, "-m", "beam_jobs.mine_clicks"]
            + ["--clicks", str(self.folder / "clicks*.jsonl")]
            + ["--catalogue", str(self.folder / "catalogue.jsonl")]
            + ["--output", str(self.folder / "killed"), *flags],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not list(self.folder.glob("killed/.work-*/parts/*.parquet")):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    tf.test.main()
