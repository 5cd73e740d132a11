import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import grpc
import numpy as np
import tensorflow as tf
import tiny_server
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis import regression_pb2

from sicot_tf import serve
from sicot_tf.serving import servable

_SIDE = tiny_server.IMAGE_SIZE


class Slow(tf.Module):
    """Requests that end when the test wants, and one that never ends."""

    @tf.function(input_signature=[tf.TensorSpec([2], tf.string, name="paths")])
    def write_in_turn(self, paths):
        first = tf.io.write_file(paths[0], "began")
        with tf.control_dependencies([first]):
            second = tf.io.write_file(paths[1], "ended")
        with tf.control_dependencies([second]):
            return {"done": tf.constant([True])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="start")])
    def count_for_ever(self, start):
        [count] = tf.while_loop(
            lambda n: n >= 0, lambda n: (n + 1) % 1000, [start]
        )
        return {"count": count}


def predict_request(
    inputs: dict[str, object], signature_name: str = ""
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.model_spec.signature_name = signature_name
    for alias, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(value)
    return request


class ServeTest(tf.test.TestCase):
    """One server for all tests; the highest of its versions is 0012."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        base_path = cls.root / "tiny"
        tiny_server.write_saved_model(base_path / "0012")
        # Neither older versions nor other names may be loaded.
        for name in ("9", "latest", ".13.tmp-1"):
            (base_path / name).mkdir()
        cls.port = tiny_server.free_port()
        cls.server = tiny_server.ServerProcess(
            cls.root / "log",
            *("--model_name", "tiny"),
            *("--model_base_path", str(base_path)),
            *("--port", str(cls.port)),
        )
        cls.addClassCleanup(cls.server.kill)
        cls.channel = cls.server.connect(f"localhost:{cls.port}")
        cls.addClassCleanup(cls.channel.close)
        cls.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            cls.channel
        )
        cls.models = model_service_pb2_grpc.ModelServiceStub(cls.channel)

    def assert_fails(self, call, request, code, text):
        """Checks code and text, and that the next good request works."""
        with self.assertRaises(grpc.RpcError) as raised:
            call(request, timeout=30)
        self.assertEqual(
            (raised.exception.code(), raised.exception.details()), (code, text)
        )
        self.stub.Predict(
            predict_request({"image_bytes": [tiny_server.make_jpeg(1)]}),
            timeout=30,
        )

    def assert_invalid(self, request, text):
        self.assert_fails(
            self.stub.Predict,
            request,
            grpc.StatusCode.INVALID_ARGUMENT,
            text,
        )

    def test_warm_up_ran_before_the_port_opened(self):
        """Else the first customer waits for graph optimisation."""
        log = self.server.log_text
        self.assertLess(
            log.index("Warm-up requests answered: 3"),
            log.index("Running gRPC ModelServer"),
        )

    def test_answers_equal_the_loaded_saved_model(self):
        """The server may not change a digit of what was exported."""
        batch = [tiny_server.make_jpeg(seed) for seed in (1, 2, 3)]
        signatures = tf.saved_model.load(
            str(self.root / "tiny" / "0012")
        ).signatures
        for key in ("serving_default", "embedding"):
            expected = signatures[key](image_bytes=tf.constant(batch))
            response = self.stub.Predict(
                predict_request({"image_bytes": batch}, key)
            )
            self.assertCountEqual(response.outputs, expected)
            for alias, value in expected.items():
                received = tf.make_ndarray(response.outputs[alias])
                if value.dtype == tf.string:
                    self.assertAllEqual(received, value)
                else:
                    self.assertAllClose(received, value, 1e-6, 1e-6)

    def test_response_form(self):
        """Clients read the version and the typed fields of the answer."""
        response = self.stub.Predict(
            predict_request(
                {"image": np.zeros([2, _SIDE, _SIDE, 3], np.uint8)},
                "serving_pixels",
            )
        )
        self.assertEqual(response.model_spec.name, "tiny")
        self.assertEqual(response.model_spec.version.value, 12)
        self.assertEqual(response.model_spec.signature_name, "serving_pixels")
        score = response.outputs["score"]
        self.assertEqual(score.dtype, tf.float32.as_datatype_enum)
        self.assertEqual([d.size for d in score.tensor_shape.dim], [2, 5])
        self.assertLen(score.float_val, 10)
        self.assertEqual(score.tensor_content, b"")
        self.assertLen(response.outputs["sku_id"].string_val, 10)

    def test_default_signature_name_is_filled_in(self):
        """As TensorFlow Serving does."""
        request = predict_request({"image_bytes": [tiny_server.make_jpeg(1)]})
        request.model_spec.version.value = 12
        response = self.stub.Predict(request)
        self.assertEqual(response.model_spec.signature_name, "serving_default")

    def test_output_filter(self):
        """Only the wanted outputs travel; wrong ones are named."""
        request = predict_request({"image_bytes": [tiny_server.make_jpeg(1)]})
        request.output_filter.append("score")
        self.assertEqual(list(self.stub.Predict(request).outputs), ["score"])
        request.output_filter.append("score")
        self.assert_invalid(request, "duplicate output tensor alias: score")
        request.output_filter[1] = "scores"
        self.assert_invalid(
            request,
            "output tensor alias not found in signature: scores Outputs "
            "expected to be in the set {score,sku_id}.",
        )

    def test_model_spec_errors(self):
        """Clients tell a wrong name from a wrong version by these texts."""
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        not_found = grpc.StatusCode.NOT_FOUND
        predict = self.stub.Predict
        self.assert_fails(
            predict, predict_pb2.PredictRequest(), invalid, "Missing ModelSpec"
        )
        request = predict_request({})
        request.model_spec.name = ""
        self.assert_fails(
            predict, request, invalid, "ModelSpec has no name specified."
        )
        request.model_spec.name = "other"
        self.assert_fails(
            predict,
            request,
            not_found,
            "Servable not found for request: Latest(other)",
        )
        request.model_spec.name = "tiny"
        request.model_spec.version.value = 9
        self.assert_fails(
            predict,
            request,
            not_found,
            "Servable not found for request: Specific(tiny, 9)",
        )
        request.model_spec.version_label = "canary"
        self.assert_fails(
            predict,
            request,
            invalid,
            "Unrecognized servable version label: canary",
        )

    def test_unknown_signature(self):
        """FAILED_PRECONDITION, as TensorFlow Serving answers."""
        for name in ("serving", "__saved_model_init_op"):
            self.assert_fails(
                self.stub.Predict,
                predict_request({}, name),
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found.',
            )

    def test_input_names(self):
        """Missing, extra and misspelt inputs are told apart."""
        photo = [tiny_server.make_jpeg(1)]
        self.assert_invalid(
            predict_request({}),
            "input size does not match signature: 0!=1 len({}) != "
            "len({image_bytes}). Sent extra: {}. Missing but required: "
            "{image_bytes}.",
        )
        self.assert_invalid(
            predict_request({"image_bytes": photo, "b": 1, "a": 1}),
            "input size does not match signature: 3!=1 len({a,b,image_bytes}) "
            "!= len({image_bytes}). Sent extra: {a,b}. Missing but required: "
            "{}.",
        )
        self.assert_invalid(
            predict_request({"photo": photo}),
            "Signature input alias: image_bytes(feed name: "
            "serving_default_image_bytes:0) not found in request and no "
            "default value provided. Inputs expected to be in the request "
            "{photo}, or default input alias set: ",
        )

    def test_tensors_that_do_not_parse(self):
        """Content and shape disagree, negative sizes, no or odd types."""
        proto = tensor_pb2.TensorProto
        shape = tf.TensorShape([2]).as_proto()
        negative = tf.TensorShape([2]).as_proto()
        negative.dim[0].size = -2
        for bad in (
            proto(dtype=1, tensor_shape=shape, tensor_content=b"abc"),
            proto(dtype=1, tensor_shape=negative, float_val=[1.0]),
            proto(tensor_shape=shape),
            proto(dtype=tf.resource.as_datatype_enum, tensor_shape=shape),
            proto(dtype=9999, tensor_shape=shape),
        ):
            self.assert_invalid(
                predict_request({"image_bytes": bad}),
                "tensor parsing error: image_bytes",
            )

    def test_short_value_list_repeats_its_last_value(self):
        """TensorFlow's own rule, on which some clients rely."""
        proto = tf.make_tensor_proto([tiny_server.make_jpeg(1)])
        proto.tensor_shape.dim[0].size = 2
        response = self.stub.Predict(predict_request({"image_bytes": proto}))
        scores = tf.make_ndarray(response.outputs["score"])
        self.assertEqual(scores.shape, (2, 5))
        self.assertAllEqual(scores[0], scores[1])

    def test_wrong_type(self):
        """No silent cast: 0.5 would become 0."""
        self.assert_invalid(
            predict_request(
                {"image": np.zeros([1, _SIDE, _SIDE, 3], np.float64)},
                "serving_pixels",
            ),
            "Expects arg[0] to be uint8 but double is provided",
        )

    def test_wrong_rank_is_refused_and_the_server_lives(self):
        """Without ensure_shape it aborts the server for everybody."""
        for shape in ([_SIDE, _SIDE, 3], [1, 8, 8, 3], [], [3], [1] * 5):
            with self.assertRaises(grpc.RpcError) as raised:
                self.stub.Predict(
                    predict_request(
                        {"image": np.zeros(shape, np.uint8)}, "serving_pixels"
                    )
                )
            error = raised.exception
            self.assertEqual(error.code(), grpc.StatusCode.INVALID_ARGUMENT)
            sizes = ",".join(str(size) for size in shape)
            self.assertIn(
                f"[{sizes}] is not compatible with expected shape "
                f"[?,{_SIDE},{_SIDE},3]",
                error.details(),
            )
        photo = tiny_server.make_jpeg(1)
        for value in (photo, [[photo]]):
            with self.assertRaises(grpc.RpcError) as raised:
                self.stub.Predict(predict_request({"image_bytes": value}))
            self.assertIn(
                "is not compatible with expected shape [?]",
                raised.exception.details(),
            )

    def test_undecodable_picture(self):
        """One bad photo gets an error; the next request gets its answer."""
        good = tiny_server.make_jpeg(1)
        for bad, text in (
            (b"garbage", "Unknown image file format."),
            (b"", "Input is empty."),
            (good[:60], "Invalid JPEG data"),
            (b"\x89PNG\r\n\x1a\nrest", "Invalid PNG"),
        ):
            for key in ("serving_default", "embedding"):
                request = predict_request({"image_bytes": [good, bad]}, key)
                with self.assertRaises(grpc.RpcError) as raised:
                    self.stub.Predict(request)
                self.assertEqual(
                    raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT
                )
                self.assertIn(text, raised.exception.details())
        self.stub.Predict(predict_request({"image_bytes": [good]}))

    def test_long_messages_are_cut(self):
        """gRPC puts messages into headers, which have a limit."""
        name = "x" * 2000
        text = f'Serving signature key "{name}" not found.'
        self.assert_fails(
            self.stub.Predict,
            predict_request({}, name),
            grpc.StatusCode.FAILED_PRECONDITION,
            text[:1024] + "...TRUNCATED",
        )

    def test_large_messages_pass(self):
        """gRPC's own limit of 4 MB is three photos of a phone."""
        photo = tiny_server.make_jpeg(1) + b"\0" * 6_000_000
        self.stub.Predict(predict_request({"image_bytes": [photo]}))

    def test_metadata(self):
        """Tools ask for names, types and shapes of the signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        call = self.stub.GetModelMetadata
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        self.assert_fails(call, request, invalid, "Missing ModelSpec")
        request.model_spec.name = "tiny"
        self.assert_fails(
            call,
            request,
            invalid,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
        request.metadata_field.append("weights")
        self.assert_fails(
            call, request, invalid, "Metadata field weights is not supported"
        )
        request.metadata_field[0] = "signature_def"
        response = call(request)
        self.assertEqual(response.model_spec.version.value, 12)
        self.assertEqual(response.model_spec.signature_name, "")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self.assertTrue(response.metadata["signature_def"].Unpack(signatures))
        self.assertContainsSubset(
            ["serving_default", "serving_pixels", "embedding"],
            signatures.signature_def,
        )
        info = signatures.signature_def["serving_pixels"].inputs["image"]
        self.assertEqual(info.dtype, tf.uint8.as_datatype_enum)
        self.assertEqual(
            [dim.size for dim in info.tensor_shape.dim], [-1, _SIDE, _SIDE, 3]
        )
        request.model_spec.name = "other"
        self.assert_fails(
            call,
            request,
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(other)",
        )

    def test_status(self):
        """Deployment scripts wait for AVAILABLE."""
        request = get_model_status_pb2.GetModelStatusRequest()
        call = self.models.GetModelStatus
        self.assert_fails(
            call,
            request,
            grpc.StatusCode.INVALID_ARGUMENT,
            "Missing ModelSpec",
        )
        request.model_spec.name = "tiny"
        expected = get_model_status_pb2.GetModelStatusResponse()
        expected.model_version_status.add(
            version=12, state="AVAILABLE"
        ).status.error_message = ""
        self.assertEqual(call(request), expected)
        request.model_spec.version_label = "ignored"
        self.assertEqual(call(request), expected)
        request.model_spec.version.value = 12
        self.assertEqual(call(request), expected)
        request.model_spec.version.value = 9
        self.assert_fails(
            call,
            request,
            grpc.StatusCode.NOT_FOUND,
            "Could not find version 9 of model tiny",
        )
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "other"
        self.assert_fails(
            call,
            request,
            grpc.StatusCode.NOT_FOUND,
            "Could not find any versions of model other",
        )

    def test_other_methods_are_unimplemented(self):
        """The text says what to do instead."""
        reload = model_management_pb2.ReloadConfigRequest()
        for call, request, advice in (
            (
                self.stub.Classify,
                classification_pb2.ClassificationRequest(),
                "Classify is not implemented by this server; use Predict.",
            ),
            (
                self.stub.Regress,
                regression_pb2.RegressionRequest(),
                "Regress is not implemented by this server; use Predict.",
            ),
            (
                self.stub.MultiInference,
                inference_pb2.MultiInferenceRequest(),
                "MultiInference is not implemented by this server; use "
                "Predict.",
            ),
            (
                self.models.HandleReloadConfigRequest,
                reload,
                "HandleReloadConfigRequest is not implemented by this server; "
                "restart the server with other --model_base_path and "
                "--model_name.",
            ),
        ):
            self.assert_fails(
                call, request, grpc.StatusCode.UNIMPLEMENTED, advice
            )

    def test_health(self):
        """Kubernetes asks for "", TensorFlow Serving's users for services."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        for name in ("", "PredictionService", "ModelService"):
            response = stub.Check(health_pb2.HealthCheckRequest(service=name))
            self.assertEqual(
                response.status, health_pb2.HealthCheckResponse.SERVING
            )

    def test_threads_get_their_own_answers(self):
        """Sessions are shared by all requests that run at the same time."""
        photos = [tiny_server.make_jpeg(seed) for seed in range(8)]
        requests = [predict_request({"image_bytes": [p]}) for p in photos]
        alone = [self.stub.Predict(request).outputs for request in requests]
        calls = [self.stub.Predict.future(r) for r in requests * 8]
        for index, call in enumerate(calls):
            outputs = call.result().outputs
            self.assertAllEqual(
                tf.make_ndarray(outputs["sku_id"]),
                tf.make_ndarray(alone[index % 8]["sku_id"]),
            )
            self.assertAllClose(
                tf.make_ndarray(outputs["score"]),
                tf.make_ndarray(alone[index % 8]["score"]),
            )


class StartAndStopTest(tf.test.TestCase):
    """Servers that are started and stopped at the same time, to save time."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        slow = Slow()
        tf.saved_model.save(
            slow,
            str(cls.root / "made" / "1"),
            signatures={
                "write_in_turn": slow.write_in_turn,
                "count_for_ever": slow.count_for_ever,
            },
        )
        warmup_path = cls.root / "bad_warmup" / "1" / servable.WARMUP_FILE
        shutil.copytree(cls.root / "made", cls.root / "bad_warmup")
        warmup_path.parent.mkdir()
        warmup_path.write_bytes(b"no TFRecord file at all")
        cls.slow = cls.start("slow", "tiny", "slow.socket")
        cls.missing = cls.start("missing", "absent", "missing.socket")
        cls.bad_warmup = cls.start("bad_warmup", "bad_warmup", "bad.socket")

    @classmethod
    def start(cls, name, base_path, socket_path):
        server = tiny_server.ServerProcess(
            cls.root / f"{name}.log",
            *("--model_name", "tiny", "--port", "0"),
            *("--model_base_path", str(cls.root / base_path)),
            *("--grpc_socket_path", str(cls.root / socket_path)),
        )
        cls.addClassCleanup(server.kill)
        return server

    def test_waits_for_a_version_then_drains_on_sigterm(self):
        """Requests that run while a server is replaced are not lost."""
        base_path = self.root / "tiny"
        base_path.mkdir(exist_ok=True)
        self.slow.wait_for_text(
            f"No versions of servable tiny found under base path {base_path}. "
            "Did you forget to name your leaf directory as a number (eg. "
            "'/1/')?"
        )
        shutil.copytree(self.root / "made" / "1", self.root / "copy")
        (self.root / "copy").rename(base_path / "1")
        channel = self.slow.connect(f"unix:{self.root / 'slow.socket'}")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        # The deadline reaches TensorFlow: a request that never ends would
        # keep its thread, and the server could not stop.
        with self.assertRaises(grpc.RpcError) as raised:
            stub.Predict(
                predict_request({"start": np.int64(0)}, "count_for_ever"),
                timeout=0.2,
            )
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED
        )

        # The first pipe tells that the request runs, the second holds it.
        began = self.root / "began"
        ended = self.root / "ended"
        os.mkfifo(began)
        os.mkfifo(ended)
        reader = os.open(began, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        running = stub.Predict.future(
            predict_request(
                {"paths": [str(began), str(ended)]}, "write_in_turn"
            )
        )
        deadline = time.monotonic() + 30
        while self._read(reader) != b"began":
            self.assertLess(time.monotonic(), deadline)
            self.assertFalse(running.done())
            time.sleep(0.01)
        self.slow.terminate()
        self.slow.wait_for_text("Stopping")
        self.assertFalse(running.done())
        self.assertEqual(ended.read_bytes(), b"ended")
        self.assertAllEqual(
            tf.make_ndarray(running.result(timeout=30).outputs["done"]), [True]
        )
        self.assertEqual(self.slow.wait(), 0)
        channel.close()

    def test_sigterm_while_waiting_for_a_version(self):
        """A deployment that is rolled back at once must not hang."""
        path = self.root / "absent"
        self.missing.wait_for_text(
            f"Could not find base path {path} for servable tiny with error"
        )
        self.missing.terminate()
        self.assertEqual(self.missing.wait(), 0)

    def test_failing_warm_up_fails_the_start(self):
        """A model that can't answer its own requests must not serve."""
        self.assertEqual(self.bad_warmup.wait(), 255)
        self.assertIn(
            "Failed to start server. Error: ", self.bad_warmup.log_text
        )
        self.assertIn(
            "Please verify your warmup data is in TFRecord format.",
            self.bad_warmup.log_text,
        )

    def test_warm_up_refuses_what_it_can_not_answer(self):
        """A record that is skipped would hide a broken signature."""
        directory = self.root / "records" / "1"
        shutil.copytree(self.root / "made" / "1", directory)
        path = directory / servable.WARMUP_FILE
        path.parent.mkdir()
        log = prediction_log_pb2.PredictionLog
        wrong_signature = log()
        wrong_signature.predict_log.request.CopyFrom(predict_request({}, "x"))
        classify = log(classify_log=prediction_log_pb2.ClassifyLog())
        model = servable.Servable("tiny", 1, directory)
        for record, text in (
            (wrong_signature.SerializeToString(), 'key "x" not found'),
            (classify.SerializeToString(), "log_type for warmup: classify_log"),
            (b"\xff", "Failed to parse warmup record"),
        ):
            with tf.io.TFRecordWriter(str(path)) as writer:
                writer.write(record)
            with self.assertRaisesRegex(tf.errors.OpError, text):
                model.warm_up()

    def test_port_in_use_fails_the_start(self):
        """Else half of the requests would go to the other server."""
        model = servable.Servable("tiny", 1, self.root / "made" / "1")
        with socket.socket() as other:
            other.bind(("0.0.0.0", 0))
            other.listen()
            port = other.getsockname()[1]
            with self.assertRaisesRegex(RuntimeError, str(port)):
                serve.start(model, port=port, grpc_socket_path="")

    def test_wrong_flags_are_refused(self):
        """Exit code 2 before TensorFlow loads anything."""
        for flags in ([], ["--model_base_path", "a", "--port", "0"]):
            with self.assertRaises(SystemExit) as raised:
                serve.main(flags)
            self.assertEqual(raised.exception.code, 2)

    def test_deadline_text(self):
        """The text of TensorFlow Serving; gRPC clients may see their own."""
        model = servable.Servable("tiny", 1, self.root / "made" / "1")
        request = predict_request({"start": np.int64(0)}, "count_for_ever")
        with self.assertRaises(tf.errors.DeadlineExceededError) as raised:
            model.predict(request, timeout_seconds=0.05)
        self.assertEqual(
            raised.exception.message, "Timed out waiting for notification"
        )

    def test_imports_no_training_code(self):
        """A server needs neither model code nor the export's decoder."""
        code = (
            "import sys, sicot_tf.serve, sicot_tf.client\n"
            "print([m for m in sorted(sys.modules) if m.startswith('sicot_')])"
        )
        completed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tiny_server.PROJECT_DIR,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(
            completed.stdout.strip(),
            "['sicot_tf', 'sicot_tf.client', 'sicot_tf.serve', "
            "'sicot_tf.serving', 'sicot_tf.serving.servable', "
            "'sicot_tf.serving.services']",
        )

    def _read(self, reader):
        try:
            return os.read(reader, 100)
        except BlockingIOError:
            return b""


if __name__ == "__main__":
    tf.test.main()
