import collections
import contextlib
import csv
import io
import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from benchmarks.server import load_generator
from benchmarks.server import load_requests
from tests.helpers import tiny_server

_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def _make_signature(**inputs):
    """Input name to type and shape; None for an unknown rank."""
    signature = meta_graph_pb2.SignatureDef()
    for name, (dtype, shape) in inputs.items():
        signature.inputs[name].dtype = dtype.as_datatype_enum
        signature.inputs[name].tensor_shape.CopyFrom(
            tf.TensorShape(shape).as_proto()
        )
    return signature


def _write_logs(path):
    """A log of each kind for the model half_plus_two."""
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(3)
    logs = [prediction_log_pb2.PredictionLog() for _ in range(4)]
    predict = logs[0].predict_log.request
    predict.model_spec.signature_name = "serving_default"
    predict.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    classify = logs[1].classify_log.request
    classify.model_spec.signature_name = "classify_x_to_y"
    classify.input.example_list.examples.append(example)
    regress = logs[2].regress_log.request
    regress.model_spec.signature_name = "regress_x_to_y"
    regress.input.example_list.examples.append(example)
    both = logs[3].multi_inference_log.request
    both.input.example_list.examples.append(example)
    task = both.tasks.add(method_name=tf.saved_model.REGRESS_METHOD_NAME)
    task.model_spec.signature_name = "regress_x_to_y2"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


class ServerTest(tf.test.TestCase):
    """Against the project's server, by both entrances."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        cls.logs = cls.root / "logs"
        _write_logs(cls.logs)
        cls.photo = cls.root / "photo.jpg"
        cls.photo.write_bytes(tiny_server.make_jpeg(1))
        server = tiny_server.shared()
        cls.tiny = server.tiny
        cls.grpc, cls.rest = server.grpc_address, server.rest_url

    def run_main(self, *arguments, model_name="tiny"):
        """Exit code, output and errors of a very short run."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                load_generator.main(
                    [
                        *("--model_name", model_name),
                        *("--concurrency", "1,3", "--seconds", "0.1"),
                        *("--timeout", "60"),
                        *map(str, arguments),
                    ]
                )
            except SystemExit as error:
                code = error.code
        return code, out.getvalue(), err.getvalue()

    def test_prints_a_line_for_each_number_of_clients(self):
        """Breaks if a way to ask gives no table, or errors."""
        pixels = ("--signature_name", "serving_pixels", "--batch_size", "2")
        warmup = ("--warmup_file", self.tiny / _WARMUP_FILE)
        for server in (self.grpc, self.rest):
            for inputs, number in (
                ((self.photo,), 1),
                ((self.photo, self.photo), 2),
                (pixels, 8),
                (warmup, 5),
            ):
                with self.subTest(server=server, inputs=inputs):
                    code, out, _ = self.run_main("--server", server, *inputs)
                    self.assertEqual(code, 0, out)
                    first, header, *lines = out.splitlines()
                    self.assertStartsWith(
                        first, f"{server}, tiny: {number} different requests"
                    )
                    self.assertEqual(header.split()[0], "concurrency")
                    rows = [line.split() for line in lines]
                    self.assertEqual([row[0] for row in rows], ["1", "3"])
                    # No errors; the column before the last.
                    self.assertEqual([row[-2] for row in rows], ["0", "0"])

    def test_output(self):
        """Breaks if the file lacks what was printed."""
        path = self.root / "table.csv"
        code, out, _ = self.run_main(
            *("--server", self.grpc, self.photo, "--output", path)
        )
        self.assertEqual(code, 0)
        with path.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        self.assertEqual([row["concurrency"] for row in rows], ["1", "3"])
        for row, line in zip(rows, out.splitlines()[2:], strict=False):
            self.assertEqual(f"{float(row['p99_ms']):.2f}", line.split()[4])

    def test_all_kinds_of_logs(self):
        """Breaks if gRPC gets less than four kinds of requests."""
        warmup = ("--warmup_file", self.logs)
        code, out, _ = self.run_main(
            "--server", self.grpc, *warmup, model_name="half"
        )
        self.assertEqual(code, 0)
        self.assertNotIn(" x ", out)
        code, _, err = self.run_main(
            "--server", self.rest, *warmup, model_name="half"
        )
        self.assertEqual(code, 2)
        self.assertIn("received classify_log. Give the gRPC port.", err)

    def test_errors_are_counted_by_their_text(self):
        """Breaks if a table praises a server that fails."""
        for address, code in (
            (self.grpc, "INVALID_ARGUMENT"),
            (self.rest, "400"),
        ):
            server = load_requests.connect(address, "tiny", 60)
            signature = server.signatures()["serving_default"]
            logs = load_requests.photo_requests(
                [tiny_server.make_jpeg(1), b"garbage"],
                signature,
                signature_name="serving_default",
                batch_size=1,
            )
            level = load_generator.run_level(
                server,
                [server.encode(log) for log in logs],
                concurrency=2,
                seconds=0.2,
            )
            [(text, number)] = level.errors.items()
            self.assertStartsWith(
                text, f"{code}: assertion failed: [Expected a JPEG"
            )
            self.assertGreater(number, 0)
            self.assertNotEmpty(level.latencies)
            self.assertEqual(level.row()["errors"], number)

    def test_refuses_early(self):
        """Breaks if a wrong name costs minutes of a test full of errors."""
        for arguments, text in (
            (
                ["--signature_name", "x"],
                "embedding, localization, recognition, serv",
            ),
            ([], "'image_bytes' is of strings, which can't be made up"),
            ([self.logs], "the first request: .*Expected a JPEG"),
            (["--warmup_file", self.root / "no"], "no: No such file"),
            (
                ["--signature_name", "serving_pixels", self.photo],
                r"one input of strings for photos, received image \(uint8\)",
            ),
        ):
            for server in (self.grpc, self.rest):
                _, _, err = self.run_main("--server", server, *arguments)
                self.assertRegex(err, f"(?s)error: .*{text}")
        for server, text in (
            (self.grpc, "NOT_FOUND: Servable not found for request"),
            (self.rest, "404: Servable not found for request"),
            # Nobody answers.
            (f"localhost:{tiny_server.free_port()}", "DEADLINE_EXCEEDED"),
            (f"http://localhost:{tiny_server.free_port()}", "refused"),
        ):
            code, _, err = self.run_main(
                *("--server", server, self.photo, "--timeout", "0.5"),
                model_name="other",
            )
            self.assertNotEqual(code, 0)
            self.assertRegex(err, f"error: .*{text}")


class RequestsTest(tf.test.TestCase):
    def random_inputs(self, signature, shapes=(), batch_size=2):
        return [
            {
                name: tf.make_ndarray(tensor)
                for name, tensor in log.predict_log.request.inputs.items()
            }
            for log in load_requests.random_requests(
                signature,
                signature_name="s",
                batch_size=batch_size,
                shapes=dict(shapes),
            )
        ]

    def test_random_tensors_fit_the_signature(self):
        """Breaks if a type or a shape is one that the server refuses."""
        signature = _make_signature(
            image=(tf.uint8, [None, 4, 4, 3]),
            ids=(tf.int64, [None, None]),
            mask=(tf.bool, [None]),
            half=(tf.float16, []),
            weights=(tf.float32, [3, 2]),
        )
        found = self.random_inputs(signature, {"ids": [5, 7]})
        self.assertEqual(
            {
                name: (value.dtype.name, value.shape)
                for name, value in found[0].items()
            },
            {
                "image": ("uint8", (2, 4, 4, 3)),
                "ids": ("int64", (5, 7)),
                "mask": ("bool", (2,)),
                "half": ("float16", ()),
                "weights": ("float32", (3, 2)),
            },
        )
        # Different from each other, the same the next time.
        self.assertNotAllEqual(found[0]["image"], found[1]["image"])
        again = self.random_inputs(signature, {"ids": [5, 7]})
        self.assertAllEqual(found[1]["image"], again[1]["image"])

    def test_what_is_open(self):
        """Breaks if the message does not say what to type."""
        for shape, known in (([None, None, 3], "2,?,3"), (None, "any")):
            signature = _make_signature(x=(tf.float32, shape))
            with self.assertRaisesRegex(ValueError, re.escape(f"({known})")):
                self.random_inputs(signature)
        with self.assertRaisesRegex(ValueError, r"x \(float32\).*'y'"):
            self.random_inputs(signature, {"y": [1]})

    def test_photos_follow_each_other(self):
        """Breaks if one photo stands for all."""
        signature = _make_signature(image=(tf.string, [None]))
        logs = load_requests.photo_requests(
            [b"a", b"b", b"c"], signature, signature_name="s", batch_size=2
        )
        self.assertEqual(
            [
                list(log.predict_log.request.inputs["image"].string_val)
                for log in logs
            ],
            [[b"a", b"b"], [b"b", b"c"], [b"c", b"a"]],
        )


class LevelTest(tf.test.TestCase):
    def test_row(self):
        """Breaks if a percentile is another: of 1 to 200 ms half are at most
        100 ms."""
        row = load_generator.Level(
            concurrency=3,
            seconds=4.0,
            latencies=np.arange(200, 0, -1) / 1000,
            errors=collections.Counter({"400: a": 2, "400: b": 1}),
            client_cores=0.5,
        ).row()
        self.assertEqual(row["requests_per_second"], 50)
        self.assertEqual(row["errors"], 3)
        self.assertAllClose(
            [row[f"{name}_ms"] for name in ("p50", "p95", "p99", "max")],
            [100, 190, 198, 200],
        )


if __name__ == "__main__":
    tf.test.main()
