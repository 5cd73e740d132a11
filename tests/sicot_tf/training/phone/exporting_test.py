"""The folder for phones: whole, right, and usable without our code."""

import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import tensorflow as tf

from sicot_tf import export
from sicot_tf import files
from sicot_tf.data import images
from sicot_tf.training.phone import exporting
from tests.helpers import tiny_road

_PAGE = pathlib.Path(__file__).parents[4] / "docs" / "phone.md"
_NO_TENSORFLOW = """
assert not {"tensorflow", "keras", "sicot_tf"} & set(sys.modules)
np.save("square.npy", read_square(sys.argv[3], 32))
"""


def _snippet():
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    return code + _NO_TENSORFLOW


class ExportingTest(tf.test.TestCase):
    def test_the_page_of_the_docs_answers_as_the_server_does(self):
        """Breaks if a file is missing or wrong, the labels have another
        order, or a phone that does as the page says sees other pixels."""
        version = tiny_road.exported()
        folder = pathlib.Path(self.get_temp_dir()) / "phone"
        description = exporting.export(
            tiny_road.trained("cotrain"), version, folder
        )
        self.assertEqual(
            sorted(path.name for path in folder.iterdir()),
            [
                "labels.txt",
                "model_float.tflite",
                "model_int8.tflite",
                "phone.json",
            ],
        )
        self.assertEqual(files.read_json(folder / "phone.json"), description)
        for name, described in description["files"].items():
            self.assertEqual(files.sha256(folder / name), described["sha256"])
        # The tiny dataset has 32 training and 8 validation records.
        self.assertEqual(description["representative_pictures"], 32)
        measured = description["measured"]
        self.assertEqual(measured["records"], 8)
        self.assertLess(measured["float"]["max_difference"], 1e-5)
        self.assertEqual(measured["float"]["same_top1"], 1)
        self.assertLess(measured["int8"]["max_difference"], 0.1)

        # A wide photo, half transparent, of which the middle is seen.
        photo = tiny_road.draw("blue", "circle", seed=5).resize((120, 120))
        wide = PIL.Image.new("RGBA", (201, 120), (255, 0, 0, 0))
        wide.paste(photo, (40, 0))
        path = folder / "photo.png"
        wide.save(path)
        encoded = tf.constant([path.read_bytes()])
        served = tf.saved_model.load(str(version)).signatures[
            "serving_default"
        ](image_bytes=encoded)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        for model, tolerance in (
            ("model_float.tflite", 0.01),
            ("model_int8.tflite", 0.05),
        ):
            finished = subprocess.run(
                [sys.executable, "-I", "-c", _snippet(), folder, model, path],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            self.assertEqual(finished.returncode, 0, msg=finished.stderr)
            sku_id, score, recognised = finished.stdout.split()
            self.assertEqual(sku_id, served["sku_id"][0, 0].numpy().decode())
            self.assertAllClose(
                float(score), served["score"][0, 0], atol=tolerance
            )
            self.assertEqual(recognised, "yes")
        # Pillow rounds between the two directions, TensorFlow does not.
        seen = images.decode_for_inference(encoded[0], 32)
        difference = np.load(folder / "square.npy") - seen.numpy()
        self.assertLess(np.abs(difference).max(), 1.1)

    def test_a_version_of_other_weights_is_refused(self):
        """Breaks if a phone gets another model than the server."""
        folder = pathlib.Path(self.get_temp_dir()) / "other"
        with self.assertRaisesRegex(
            ValueError, "they are others. Export the run"
        ):
            exporting.export(
                tiny_road.trained("visual"), tiny_road.exported(), folder
            )
        self.assertFalse(folder.exists())

    def test_another_folder_is_left_alone(self):
        """Breaks if a mistyped path costs someone their files."""
        folder = pathlib.Path(self.get_temp_dir()) / "mine"
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        with self.assertRaisesRegex(ValueError, "Name another folder"):
            exporting.export(
                tiny_road.trained("cotrain"), tiny_road.exported(), folder
            )
        self.assertEqual(
            [each.name for each in folder.iterdir()], ["thesis.txt"]
        )

    def test_command(self):
        """Breaks if the flags don't reach the export, or its figures are not
        printed."""
        folder = pathlib.Path(self.get_temp_dir())
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            export.main(
                ["--run_dir", str(tiny_road.trained("cotrain"))]
                + ["--output", str(folder / "models")]
                + ["--top_k", "3", "--representative_pictures", "5"]
                + ["--litert", str(folder / "phones")]
            )
        printed = told.getvalue()
        self.assertIn(f"SavedModel: {folder}/models/1\n", printed)
        self.assertIn("Of 8 val records:\n", printed)
        self.assertRegex(printed, r"\nint8 +0\.\d\d +\d+\.00%")
        described = json.loads((folder / "phones/phone.json").read_text())
        self.assertEqual(described["representative_pictures"], 5)


if __name__ == "__main__":
    tf.test.main()
