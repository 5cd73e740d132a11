"""Search training by its command: resumed, on two workers, exported."""

import dataclasses
import pathlib
import shutil

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf import files
from sicot_tf.data import images
from sicot_tf.search_training import exporting
from sicot_tf.search_training import runs as search_runs
from sicot_tf.training import runs
from tests.helpers import tiny_road
from tests.helpers import tiny_server
from tests.helpers import tiny_triplets

# 20 triplets in batches of 8: 3 steps an epoch, 6 in all; the third of an
# epoch is padded.
_FLAGS = (
    *("--global_batch_size", 8, "--epochs", 2, "--embedding_dim", 16),
    *("--log_steps", 1, "--checkpoint_steps", 2, "--view", "mask_and_zoom"),
)


class TrainSearchTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.recogniser = tiny_road.trained("visual")
        cls.folder = cls.recogniser.parent / "search"
        tiny_triplets.write(cls.folder / "triplets", 20)
        cls.whole = cls.folder / "whole"
        cls._train(cls.whole)

    @classmethod
    def _train(cls, run_dir, *flags):
        return tiny_road.log_of_command(
            "sicot_tf.train_search",
            *("--triplets", cls.folder / "triplets"),
            *("--init_from", cls.recogniser, "--run_dir", run_dir),
            *(*_FLAGS, *flags),
        )

    def _curve(self, run_dir):
        return runs.read_curve(run_dir / "metrics.jsonl")

    def test_resumed_it_is_the_same(self):
        """Breaks if a run that was killed after step 5 goes on otherwise.

        Its last checkpoint is that of step 4, its curve has a row more.
        """
        killed = self.folder / "killed"
        shutil.copytree(self.whole, killed)
        shutil.rmtree(killed / "checkpoints" / "step-00000006")
        lines = (killed / "metrics.jsonl").read_text().splitlines(True)
        (killed / "metrics.jsonl").write_text("".join(lines[:6]) + "{half")
        self.assertIn("resumed at step 4", self._train(killed))
        self.assertEqual(
            (killed / "metrics.jsonl").read_text(),
            (self.whole / "metrics.jsonl").read_text(),
        )
        first, second = map(tiny_road.read_checkpoint, (self.whole, killed))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)

    def test_two_workers_train_like_one(self):
        """Breaks if negatives of the other worker, or their gradients, are
        left out: two real processes, every step within 1e-5."""
        two = self.folder / "two"
        self.assertIn("2 workers", self._train(two, "--num_workers", 2))
        curves = [self._curve(each) for each in (self.whole, two)]
        self.assertLen(curves[0], 8)
        for first, second in zip(*curves, strict=True):
            self.assertEqual(set(first), set(second))
            for name in ("loss", "val_recall_1"):
                if name in first:
                    self.assertAllClose(
                        first[name], second[name], rtol=0, atol=1e-5
                    )

    def test_other_settings_are_refused(self):
        """Breaks if a run goes on with other settings under its name."""
        run = search_runs.load(self.whole)
        changed = dataclasses.replace(run.search, margin=0.3, epochs=5)
        with self.assertRaisesRegex(ValueError, "settings: margin: 0.1, now"):
            search_runs.create(
                *(self.whole, changed, run.model),
                *(self.folder / "triplets", self.recogniser),
                write=True,
            )

    def test_exported_and_served(self):
        """Breaks if the signature answers otherwise than the trained network,
        with a box of another picture, or if a picture that is none does harm.
        """
        output = self.folder / "models" / "tiny"
        tiny_road.run_command(
            "sicot_tf.export",
            *("--run_dir", self.recogniser, "--output", output),
            *("--search_run", self.whole),
        )
        restored = exporting.restore(self.whole)
        info = files.read_json(output / "1" / "assets.extra" / "export.json")
        self.assertEqual(info["search"], restored.info)
        photos = [
            tiny_triplets.picture("red", "circle", 5),
            tiny_triplets.picture("blue", "square", 6),
        ]
        size = restored.model.input["image"].shape[1]
        pairs = [images.decode_whole(each, size) for each in photos]
        expected = restored.model(
            {
                "image": tf.stack([each[0] for each in pairs]),
                "extents": tf.stack([each[1] for each in pairs]),
            }
        )
        server = tiny_server.ServerProcess(
            pathlib.Path(self.get_temp_dir()) / "log",
            *("--port", str(port := tiny_server.free_port())),
            *("--model_name", "tiny"),
            *("--model_base_path", str(output.resolve())),
        )
        try:
            with server.connect(f"localhost:{port}") as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(
                    channel
                )
                answer = stub.Predict(_request(photos), timeout=60).outputs
                for name in ("embedding", "box"):
                    self.assertAllClose(
                        tf.make_ndarray(answer[name]),
                        expected[name],
                        atol=1e-5,
                    )
                for wrong, text in (
                    ([b"no picture"], "Expected a JPEG, PNG"),
                    ([photos], "Shape must be rank 1|not compatible"),
                ):
                    with self.assertRaisesRegex(grpc.RpcError, text) as raised:
                        stub.Predict(_request(wrong), timeout=60)
                    self.assertEqual(
                        raised.exception.code(),
                        grpc.StatusCode.INVALID_ARGUMENT,
                    )
        finally:
            server.kill()


def _request(photos):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = "search"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(photos))
    return request
