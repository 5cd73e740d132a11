"""A run's SavedModel answers as its evaluation does, without our code."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.training import exporting
from tests.helpers import tiny_road

# Runs where the package can't be imported; prints answers as JSON.
_LOAD = """
import json, sys
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
model = tf.saved_model.load(sys.argv[1])
images = np.load(sys.argv[2], allow_pickle=True)
answer = model.signatures["serving_default"](image_bytes=tf.constant(images))
saved_model = saved_model_pb2.SavedModel.FromString(
    open(sys.argv[1] + "/saved_model.pb", "rb").read())
graph = saved_model.meta_graphs[0].graph_def
ops = {n.op for n in graph.node}
names = " ".join([n.name for n in graph.node] +
                 [v.name for v in model.variables])
for function in graph.library.function:
    ops |= {n.op for n in function.node_def}
    names += " ".join(n.name for n in function.node_def)
functions = {f.signature.name for f in graph.library.function}
assert not [m for m in sys.modules if m.startswith("sicot_tf")]
print(json.dumps({
    "sku_id": [[s.decode() for s in row] for row in answer["sku_id"].numpy()],
    "score": answer["score"].numpy().tolist(),
    "recognised": answer["recognised"].numpy().tolist(),
    "unknown_ops": sorted(
        op for op in ops - functions if not hasattr(tf.raw_ops, op)),
    "text": [w for w in ("word", "title", "attention") if w in names],
    "signatures": sorted(model.signatures),
}))
"""


class ExportTest(tf.test.TestCase):
    def test_without_our_code_it_answers_as_evaluation_does(self):
        """Breaks if export changes an answer, keeps a text layer, or needs
        an op or module that a server does not have."""
        directory = tiny_road.exported()
        files = dataset.RecordFiles(tiny_road.generation(), "test")
        images = [
            tf.io.parse_single_example(
                files.read(i), records.EVALUATION_FEATURES
            )["image"].numpy()
            for i in range(len(files))
        ]
        path = pathlib.Path(self.get_temp_dir()) / "images.npy"
        np.save(path, np.array(images, dtype=object))
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        finished = subprocess.run(
            [sys.executable, "-I", "-c", _LOAD, str(directory), str(path)],
            cwd=self.get_temp_dir(),
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(finished.returncode, 0, msg=finished.stderr)
        answer = json.loads(finished.stdout)
        self.assertEqual(answer["unknown_ops"], [])
        self.assertEqual(answer["text"], [])
        self.assertEqual(
            answer["signatures"],
            [
                "embedding",
                "localization",
                "recognition",
                "serving_default",
                "serving_pixels",
            ],
        )
        found = np.load(tiny_road.evaluated() / "predictions.npz")
        classes = dataset.read_classes(tiny_road.generation() / "classes.jsonl")
        self.assertAllClose(
            answer["score"], found["top_scores"][:, :3], atol=1e-5
        )
        self.assertEqual(answer["recognised"], [True] * len(files))
        self.assertEqual(
            [row[0] for row in answer["sku_id"]],
            [classes[i]["sku_id"] for i in found["top_labels"][:, 0]],
        )

    def test_a_second_export_of_the_same_checkpoint_is_the_first(self):
        """Breaks if every call makes a new version of the same model."""
        directory = tiny_road.exported()
        again = exporting.export(
            tiny_road.trained("cotrain"), directory.parent, top_k=3
        )
        self.assertEqual(again, directory)
        other = exporting.export(
            tiny_road.trained("visual"), directory.parent, top_k=3
        )
        self.assertEqual(other.name, "2")

    def test_changes_after_training(self):
        """Breaks if a version hides what was changed in it, or every call
        with the same change makes another."""
        output = pathlib.Path(self.get_temp_dir()) / "changed"
        run_dir = tiny_road.trained("visual")
        versions = [
            exporting.export(
                run_dir, output, changes=config.PostHocConfig(**changes)
            )
            for changes in (
                {"logit_adjustment": 1.0},
                {"logit_adjustment": 1.0},
                {"logit_adjustment": 0.5},
            )
        ]
        self.assertEqual([each.name for each in versions], ["1", "1", "2"])
        for version, tau in (("1", 1.0), ("2", 0.5)):
            info = files.read_json(
                output / version / "assets.extra" / "export.json"
            )
            self.assertEqual(info["post_hoc"], {"logit_adjustment": tau})

    def test_words_of_a_run_without(self):
        """Breaks if a version without words is taken for one with them."""
        output = pathlib.Path(self.get_temp_dir()) / "words"
        with self.assertRaisesRegex(ValueError, "export it without --words"):
            exporting.export(tiny_road.trained("visual"), output, words=True)
        self.assertFalse(output.exists())

    def test_what_it_was_made_from(self):
        """Breaks if a served model can't be traced to its run."""
        info = json.loads(
            (tiny_road.exported() / "assets.extra" / "export.json").read_text()
        )
        self.assertEqual(info["dataset"], tiny_road.generation().name)
        self.assertEqual(info["step"], 60)
        self.assertEqual(info["model"]["backbone"], "SmallCNN")
        self.assertNotIn("post_hoc", info)
        # Without a calibration, scores stay and all are recognised.
        self.assertEqual((info["temperature"], info["threshold"]), (1.0, 0.0))


if __name__ == "__main__":
    tf.test.main()
