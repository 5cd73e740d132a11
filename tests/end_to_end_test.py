"""The whole road on a tiny shop: every station by its real command."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import tensorflow as tf

from beam_jobs import build_dataset
from beam_jobs import emoji_records
from sicot_tf import client
from sicot_tf import demo
from sicot_tf import evaluate
from sicot_tf import explain
from sicot_tf import export
from sicot_tf import serve
from sicot_tf import train
from sicot_tf.data import dataset
from tests.helpers import tiny_road
from tests.helpers import tiny_server

_ROOT = pathlib.Path(__file__).parent.parent


class EndToEndTest(tf.test.TestCase):
    def test_from_raw_records_to_a_recognised_product(self):
        """Breaks if two neighbouring stations no longer fit.

        Raw records, Beam, training, export, server and client, each a
        process; photos that training never saw are sent as their files.
        """
        exported = tiny_road.exported()
        lines = tiny_road.records().read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        photos = [row for row in rows if row["split"] == "test"][::3]
        port = tiny_server.free_port()
        command = [
            *(sys.executable, "-m", "sicot_tf.serve"),
            *("--model_name", "tiny", "--port", str(port)),
            *("--model_base_path", str(exported.parent.absolute())),
        ]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(subprocess.Popen(command))
            stack.callback(server.terminate)
            output = tiny_road.run_command(
                "sicot_tf.client",
                *[tiny_road.records().parent / row["image"] for row in photos],
                *("--server", f"localhost:{port}", "--model_name", "tiny"),
                *("--product_names", tiny_road.generation() / "classes.jsonl"),
                *("--top_k", "1", "--timeout", "60"),
            )
        lines = output.splitlines()
        self.assertLen(lines, 2 * len(photos))
        right = [
            f"  {row['sku_id']}  {row['sku_name']}" in answer
            for row, answer in zip(photos, lines[1::2])
        ]
        # Chance is one in eight.
        self.assertGreaterEqual(sum(right), len(photos) // 2)

    def test_the_dataset_counts_add_up(self):
        """Breaks if a record is lost between the raw file and the shards."""
        manifest = dataset.read_manifest(tiny_road.generation())
        self.assertEqual(manifest["counts"]["records_read"], 64)
        self.assertEqual(
            {
                split: len(dataset.RecordFiles(tiny_road.generation(), split))
                for split in ("train", "val", "test")
            },
            {"train": 32, "val": 8, "test": 24},
        )

    def test_every_command_explains_itself(self):
        """Breaks if a command has no help with examples."""
        for module in (
            build_dataset,
            client,
            demo,
            emoji_records,
            evaluate,
            explain,
            export,
            serve,
            train,
        ):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                with self.assertRaises(SystemExit) as stopped:
                    module.main(["--help"])
            self.assertEqual(stopped.exception.code, 0)
            command = f"python -m {module.__name__} "
            self.assertIn(command, output.getvalue())
            self.assertIn("examples", output.getvalue())

    def test_a_missing_python_is_named(self):
        """Breaks if `make` without a fitting Python ends in a puzzle."""
        folder = pathlib.Path(self.get_temp_dir())
        for name in ("Makefile", "setup.py"):
            shutil.copy(_ROOT / name, folder)
        (folder / "sicot_tf").mkdir()
        shutil.copy(_ROOT / "sicot_tf" / "__init__.py", folder / "sicot_tf")
        tools = folder / "tools"
        tools.mkdir()
        for name in ("make", "sh", "sed"):
            os.symlink(shutil.which(name), tools / name)
        finished = subprocess.run(
            ["make", "test"],
            cwd=folder,
            env={"PATH": str(tools)},
            capture_output=True,
            text=True,
        )
        self.assertNotEqual(finished.returncode, 0)
        self.assertIn("needs Python 3.11, 3.12 or 3.13", finished.stdout)


if __name__ == "__main__":
    tf.test.main()
