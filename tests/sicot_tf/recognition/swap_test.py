"""Releases that change while the service is asked.

With more swaps: benchmarks/recognition/swap_under_load.py.
"""

import contextlib
import io
import pathlib
import tempfile
import unittest

from benchmarks.recognition import marked_releases
from benchmarks.recognition import swap_under_load
from sicot_tf.data import generations
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server


class SwapTest(unittest.TestCase):
    def test_answers_are_of_one_release(self):
        """Breaks if a request fails while a release changes, or is answered
        with the SKU of one model and the title of the other one's index, or
        with results of the other one's vectors."""
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        models = [root / "models" / "tiny" / name for name in ("1", "2")]
        tiny_server.write_saved_model(models[0])
        # The same classifier, whose classes have other names.
        reverse = tiny_server.SKU_IDS[::-1]
        tiny_server.write_saved_model(models[1], sku_ids=reverse)
        index = tiny_recognizer.write_index(root)
        found = marked_releases.write(
            root,
            models,
            generations.resolve_generation(index),
            tiny_recognizer.embedded_pictures(models[0]),
        )
        photo = tiny_server.make_jpeg(2)
        [place] = {
            names.index(answer)
            for names, answer in [
                (tiny_server.SKU_IDS, _best_sku(models[0], photo)),
                (reverse, _best_sku(models[1], photo)),
            ]
        }
        expected = {1: tiny_server.SKU_IDS[place], 2: reverse[place]}

        def find_fault(answer):
            sku_id = answer["objects"][0]["sku_id"]
            if sku_id != expected[answer["model_version"]]:
                return f"{sku_id} is not of version {answer['model_version']}"
            return None

        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            failures = swap_under_load.swap(
                root,
                found,
                [photo],
                catalogue_root=root / "catalogue",
                swaps=3,
                seconds=0.5,
                clients=2,
                find_fault=find_fault,
            )
        self.assertEqual(failures, [], output.getvalue())
        for each in found:
            self.assertIn(each.mark, output.getvalue())


def _best_sku(model: pathlib.Path, photo: bytes) -> str:
    import tensorflow as tf

    signature = tf.saved_model.load(str(model)).signatures["serving_default"]
    return signature(image_bytes=tf.constant([photo]))["sku_id"][0, 0].numpy(
    ).decode()  # fmt: skip


if __name__ == "__main__":
    unittest.main()
