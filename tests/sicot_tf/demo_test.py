"""Parts of the demo; its commands run in end_to_end_test.py."""

import contextlib
import importlib
import io
import json
import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf import demo
from sicot_tf.evaluation import metrics


class DemoTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def test_a_failed_command(self):
        """Breaks if the road goes on without what a command should have made,
        or tells a mistake twice."""
        road = demo._Road(*[self.folder] * 11)
        with (
            self.assertNoLogs("sicot_tf.demo"),
            self.assertRaises(SystemExit) as ended,
        ):
            road.run(
                demo._Station("Train", "sicot_tf.train", ("--epochs", "3"))
            )
        self.assertEqual(ended.exception.code, 2)
        with (
            self.assertLogs("sicot_tf.demo") as logged,
            self.assertRaises(SystemExit) as ended,
        ):
            road.run(demo._Station("Count", "sicot_tf.nothing", ()))
        self.assertEqual(ended.exception.code, 1)
        self.assertIn("sicot_tf.nothing failed", logged.output[0])

    def test_commands_have_the_flags(self):
        """Breaks if the road gives a command a flag that was renamed, or a
        run is held against one that was not trained before."""
        road = demo._Road(*[self.folder] * 11)
        trained = set()
        for quick in (False, True):
            for station in demo._stations(road, num_skus=100, quick=quick):
                shown = io.StringIO()
                main = importlib.import_module(station.module).main
                with contextlib.redirect_stdout(shown):
                    with self.assertRaises(SystemExit):
                        main(["--help"])
                flags = dict(zip(station.arguments, station.arguments[1:]))
                for flag in flags:
                    if str(flag).startswith("--"):
                        self.assertIn(flag, shown.getvalue())
                if station.module == "sicot_tf.train":
                    trained.add(flags["--run_dir"])
                elif station.module == "sicot_tf.evaluate":
                    self.assertIn(flags["--run_dir"], trained)
                    self.assertIn(flags["--compare_to"], trained)

    def test_accuracies(self):
        """Breaks if the last table shows a run with another one's numbers.

        Four classes of three photos, the first two head: all runs are right
        in the head, where only "recommended" is right in the tail.
        """
        labels = np.repeat(np.arange(4), 3)
        wrong = np.minimum(labels, 1)
        tables = {
            name: metrics.accuracy_table(
                labels,
                np.stack([found, (found + 1) % 4, (found + 2) % 4], axis=1),
                np.array([9, 9, 1, 1]),
                head_threshold=5,
            )
            for name, found in (
                ("recommended", labels),
                ("visual", wrong),
                ("cotrain", wrong),
                ("shuffled", wrong),
            )
        }
        rows = [
            line.replace("[", "").split()
            for line in demo._format_accuracies(
                # As an evaluation writes them.
                json.loads(json.dumps(tables, sort_keys=True))
            ).splitlines()
        ]
        self.assertEqual(rows[0][3:], ["overall", "head", "tail"])
        self.assertEqual(rows[1], ["classes", "4", "2", "2"])
        names = ["visual", "cotrain", "shuffled", "recommended"]
        self.assertEqual([row[0] for row in rows[2:]], names)
        for row in rows[2:]:
            head_and_tail = row[4], row[7]
            right = row[0] == "recommended"
            self.assertEqual(
                head_and_tail, ("100.0", "100.0" if right else "0.0")
            )

    def test_held_out_photos(self):
        """Breaks if a photo was trained on, or its class is unknown."""
        shop, dataset = self.folder / "shop", self.folder / "dataset"
        shop.mkdir()
        (dataset / "0a1b").mkdir(parents=True)
        (dataset / "LATEST").write_text("0a1b\n")
        (dataset / "0a1b" / "classes.jsonl").write_text('{"sku_id": "a"}\n')
        for number, sku_id, split in (
            (1, "a", "train"),
            (2, "a", "test"),
            (3, "b", "test"),
        ):
            row = {"record_id": str(number), "sku_id": sku_id, "split": split}
            path = shop / f"records-{number:05d}-of-00003.jsonl"
            path.write_text(json.dumps(row | {"image": str(number)}) + "\n")
        (photo,) = demo._held_out_photos(shop, dataset)
        self.assertEqual(photo["record_id"], "2")
        self.assertEqual(photo["image"], str(shop / "2"))

    def test_answers_of_the_client(self):
        """Breaks if the product of one photo stands below another one."""
        output = (
            "a b.jpg\n   87.3%  sku-1  red cup\n          Red cup [cup]\n"
            "c.jpg\n   40.0%  sku-2  blue cup\n          no product\n"
        )
        self.assertEqual(
            demo._read_answers(output),
            [
                ["a b.jpg", "87.3%  sku-1  red cup", "Red cup [cup]"],
                ["c.jpg", "40.0%  sku-2  blue cup", "no product"],
            ],
        )


if __name__ == "__main__":
    tf.test.main()
