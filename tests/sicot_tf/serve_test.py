import argparse
import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf import serve
from sicot_tf.serving import server
from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import servable
from tests.helpers import serving_models
from tests.helpers import tiny_server

_PATIENCE_SECONDS = 180


def predict_request(
    name: str, inputs: dict[str, object]
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def wait_until(is_true) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError("It never happened.")
        time.sleep(0.02)


def parse(*words: str) -> argparse.Namespace:
    return serve._make_parser().parse_args(words)


class InTurn(tf.Module):
    """With named pipes: tells that it runs, then waits to be released.

    As many rows come out as go in, so that it fits into a batch.
    """

    @tf.function(input_signature=[tf.TensorSpec([2], tf.string, name="paths")])
    def serve(self, paths):
        first = tf.io.write_file(paths[0], "began")
        with tf.control_dependencies([first]):
            second = tf.io.write_file(paths[1], "ended")
        with tf.control_dependencies([second]):
            return {"done": tf.constant([True, True])}


class StopAtOnce:
    """As if SIGTERM had come before anything was loaded."""

    def is_set(self):
        return True

    def wait(self, seconds=None):
        pass


class ServeTest(tf.test.TestCase):
    """One server for all tests, with every way in."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = root = pathlib.Path(folder)
        for name in ("half", "late", "ours"):
            (root / name).mkdir()
        half_plus_two = serving_models.saved_model("half_plus_two")
        serving_models.add_version(half_plus_two, root / "half", 1)
        serving_models.add_version(half_plus_two, root / "late", 7)
        tiny_server.write_saved_model(root / "ours" / "0012")
        cls.config = root / "models.config"
        cls.write_config(["half", "ours"])
        (root / "monitoring.config").write_text(
            "prometheus_config { enable: true }"
        )
        (root / "batching.config").write_text(
            'max_batch_size { value: 8 } thread_pool_name { value: "pool" }'
        )
        cls.port = tiny_server.free_port()
        cls.rest_port = tiny_server.free_port()
        cls.server = tiny_server.ServerProcess(
            root / "log",
            *("--port", str(cls.port)),
            *("--rest_api_port", str(cls.rest_port)),
            *("--grpc_socket_path", str(root / "socket")),
            *("--model_config_file", str(cls.config)),
            "--model_config_file_poll_wait_seconds=0.2",
            "--file_system_poll_wait_seconds=0.2",
            *("--monitoring_config_file", str(root / "monitoring.config")),
            "--enable_batching",
            f"--batching_parameters_file={root / 'batching.config'}",
            *("--request_log_dir", str(root / "requests")),
            "--request_log_sampling_rate=1",
            *("--enable_profiler=false", "--flush_filesystem_caches"),
            "--supervise=false",
            "--of_the_future=1",
            "--drain_seconds=2",
        )
        cls.addClassCleanup(cls.server.kill)
        cls.channel = cls.server.connect(f"localhost:{cls.port}")
        cls.addClassCleanup(cls.channel.close)
        cls.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            cls.channel
        )
        cls.models = model_service_pb2_grpc.ModelServiceStub(cls.channel)

    @classmethod
    def make_config(cls, names):
        config = serving_config.make_model_config(names[0], cls.root / names[0])
        for name in names[1:]:
            config.MergeFrom(
                serving_config.make_model_config(name, cls.root / name)
            )
        return config

    @classmethod
    def write_config(cls, names):
        temporary = cls.config.with_suffix(".tmp")
        temporary.write_text(str(cls.make_config(names)))
        temporary.rename(cls.config)

    def get(self, path):
        """Status and text of a GET request."""
        url = f"http://localhost:{self.rest_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def states(self, name):
        """State of each version by number."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            response = self.models.GetModelStatus(request, timeout=30)
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
            return {}
        return {
            status.version: get_model_status_pb2.ModelVersionStatus.State.Name(
                status.state
            )
            for status in response.model_version_status
        }

    def test_start(self):
        """Breaks if the port opens before the model is warm, or the lines
        that scripts wait for are others."""
        log = self.server.log_text
        ready = log.index("Running gRPC ModelServer at ")
        self.assertLess(log.index("Warm-up requests answered: 5"), ready)
        for line in (
            f" INFO Running gRPC ModelServer at unix:{self.root / 'socket'} "
            f"and 0.0.0.0:{self.port}: half version 1; ours version 12\n",
            f" INFO Exporting HTTP/REST API at:localhost:{self.rest_port}: ",
            " INFO Try it: python -m sicot_tf.client PHOTO --server "
            f"localhost:{self.port} --model_name half\n",
            " WARNING Flags without effect: --enable_profiler "
            "--flush_filesystem_caches --supervise --of_the_future=1\n",
        ):
            self.assertIn(line, log)

    def test_every_way_in(self):
        """Breaks if port, UNIX socket and REST reach other models."""
        photo = tiny_server.make_jpeg(1)
        request = predict_request("ours", {"image_bytes": [photo]})
        expected = self.stub.Predict(request, timeout=30)
        self.assertLen(expected.outputs["sku_id"].string_val, 5)
        with grpc.insecure_channel(f"unix:{self.root / 'socket'}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            self.assertEqual(stub.Predict(request, timeout=30), expected)
        status, text = self.get("/v1/models/ours")
        self.assertEqual(status, 200)
        self.assertIn('"version": "12"', text)
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.get(path)[0], 200)

    def test_an_export_answers_as_it_was_written(self):
        """Breaks if the server changes a digit, or a bad picture ends it."""
        photos = [tiny_server.make_jpeg(seed) for seed in (1, 2, 3)]
        signature = tf.saved_model.load(
            str(self.root / "ours" / "0012")
        ).signatures["serving_default"]
        expected = signature(image_bytes=tf.constant(photos))
        response = self.stub.Predict(
            predict_request("ours", {"image_bytes": photos}), timeout=30
        )
        for alias, value in expected.items():
            received = tf.make_ndarray(response.outputs[alias])
            if value.dtype == tf.string:
                self.assertAllEqual(received, value)
            else:
                self.assertAllClose(received, value, 1e-6, 1e-6)

        side = tiny_server.IMAGE_SIZE
        pixels = {"image": np.zeros([2, side, 3], np.uint8)}
        wrong_rank = predict_request("ours", pixels)
        wrong_rank.model_spec.signature_name = "serving_pixels"
        for request, text in (
            # Without ensure_shape it would abort the server for everybody.
            (wrong_rank, "is not compatible with expected shape"),
            (
                predict_request("ours", {"image_bytes": [b"garbage"]}),
                "Expected a JPEG, PNG, GIF, BMP or WebP picture",
            ),
            (
                predict_request("ours", {"image_bytes": [photos[0][:60]]}),
                "Invalid JPEG data",
            ),
        ):
            with self.assertRaises(grpc.RpcError) as raised:
                self.stub.Predict(request, timeout=30)
            self.assertEqual(
                raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT
            )
            self.assertIn(text, raised.exception.details())

    def test_metrics_and_request_log(self):
        """Breaks if a request is not counted, timed, and kept for warm-up."""
        for number in range(3):
            self.stub.Predict(
                predict_request("half", {"x": [float(number)]}), timeout=30
            )
        status, text = self.get("/monitoring/prometheus/metrics")
        self.assertEqual(status, 200)
        for start in (
            ':tensorflow:serving:request_count{model_name="half",status="OK"}',
            ':tensorflow:serving:request_latency_count{API="Predict",'
            'entrypoint="GRPC",model_name="half"}',
            ':tensorflow:serving:runtime_latency_count{API="Predict",'
            'model_name="half",runtime="TF1"}',
            ":tensorflow:serving:batching_session:queuing_latency_count{"
            'thread_pool_name="pool"}',
        ):
            self.assertRegex(text, f"(?m)^{start} [1-9]".replace("{", r"\{"))
        path = self.root / "requests" / ".requests-000001.tfrecord"
        wait_until(lambda: path.exists() and path.stat().st_size > 0)
        record = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
        log = prediction_log_pb2.PredictionLog.FromString(record)
        self.assertTrue(log.predict_log.HasField("response"))
        self.assertIn(log.log_metadata.model_spec.name, ("half", "ours"))

    def test_models_come_and_go_by_file_and_by_call(self):
        """Breaks if another model, or one less, needs a restart."""
        self.write_config(["half", "ours", "late"])
        wait_until(lambda: self.states("late") == {7: "AVAILABLE"})
        request = predict_request("late", {"x": [4.0]})
        response = self.stub.Predict(request, timeout=30)
        self.assertAllClose(response.outputs["y"].float_val, [4.0])
        # The file must not undo what the call does.
        self.write_config(["half", "ours"])
        wait_until(lambda: self.states("late") == {7: "END"})
        with self.assertRaises(grpc.RpcError) as raised:
            self.stub.Predict(request, timeout=30)
        self.assertEqual(
            raised.exception.details(),
            "Servable not found for request: Latest(late)",
        )
        reload = model_management_pb2.ReloadConfigRequest()
        reload.config.CopyFrom(self.make_config(["half", "half"]))
        with self.assertRaises(grpc.RpcError) as raised:
            self.models.HandleReloadConfigRequest(reload, timeout=30)
        self.assertEqual(
            (raised.exception.code(), raised.exception.details()),
            (
                grpc.StatusCode.INVALID_ARGUMENT,
                "Illegal to list model half multiple times in config list",
            ),
        )

    def test_versions_swap_without_a_failed_request(self):
        """Breaks if a request fails while a new export goes live."""
        request = predict_request("half", {"x": [0.0]})
        versions = []
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                response = self.stub.Predict(request, timeout=30)
                versions.append(response.model_spec.version.value)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            serving_models.add_version(
                serving_models.saved_model("half_plus_two"),
                self.root / "half",
                2,
            )
            wait_until(
                lambda: self.states("half") == {2: "AVAILABLE", 1: "END"}
            )
        finally:
            stop.set()
            thread.join()
        self.assertEqual(versions, sorted(versions))
        response = self.stub.Predict(request, timeout=30)
        self.assertEqual(response.model_spec.version.value, 2)

    def test_zz_drain(self):
        """Breaks if SIGTERM ends a request, or the exit code is not 0.

        The last test, for the server ends in it.
        """
        in_turn = InTurn()
        tf.saved_model.save(
            in_turn,
            str(self.root / "in_turn" / ".1"),
            signatures={"serving_default": in_turn.serve},
        )
        (self.root / "in_turn" / ".1").rename(self.root / "in_turn" / "1")
        self.write_config(["half", "in_turn"])
        wait_until(lambda: self.states("in_turn") == {1: "AVAILABLE"})
        # The first pipe tells that the request runs, the second holds it.
        pipes = [self.root / "began", self.root / "ended"]
        for pipe in pipes:
            os.mkfifo(pipe)
        reader = os.open(pipes[0], os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        channel = grpc.insecure_channel(f"localhost:{self.port}")
        self.addCleanup(channel.close)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        running = stub.Predict.future(
            predict_request(
                "in_turn", {"paths": [str(pipe) for pipe in pipes]}
            ),
            wait_for_ready=True,
        )

        def has_begun():
            try:
                return os.read(reader, 100) == b"began"
            except BlockingIOError:
                return False

        wait_until(has_begun)
        stop = threading.Event()
        answers = []
        request = predict_request("half", {"x": [0.0]})

        def ask():
            while not stop.is_set():
                answers.append(stub.Predict(request, timeout=30))

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: answers)
        self.server.terminate()
        # As long as load balancers send requests, they are answered.
        wait_until(lambda: self.get("/readyz")[0] == 503)
        with urllib.request.urlopen(
            f"http://localhost:{self.rest_port}/v1/models/half", timeout=30
        ) as response:
            # So that its client asks for a connection, perhaps to another.
            self.assertEqual(response.getheader("Connection"), "close")
        stop.set()
        thread.join()
        self.assertAllClose(
            [answer.outputs["y"].float_val[0] for answer in answers],
            [2.0] * len(answers),
        )
        self.assertFalse(running.done())
        self.assertEqual(pipes[1].read_bytes(), b"ended")
        self.assertAllEqual(
            tf.make_ndarray(running.result(timeout=30).outputs["done"]),
            [True, True],
        )
        self.assertEqual(self.server.wait(), 0)
        self.assertIn("Stopped.", self.server.log_text)
        # The file that was written to is complete now.
        names = os.listdir(self.root / "requests")
        self.assertFalse([name for name in names if name.startswith(".")])


class StartTest(tf.test.TestCase):
    """What stops a server from starting, in this process."""

    def run_server(self, *words):
        """Exit code and what was printed to stderr."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = server.run(parse(*words), StopAtOnce())
        return code, errors.getvalue()

    def test_failing_starts(self):
        """Breaks if a mistake shows after minutes, or with another code."""
        root = pathlib.Path(self.get_temp_dir())
        (root / "bad.config").write_text("model_config_list { x")
        (root / "twice.config").write_text(
            "model_config_list {" + 2 * ' config { name: "a" base_path: "/a" '
            'model_platform: "tensorflow" }' + "}"
        )
        monitoring = []
        for path in ("metrics", "/a/{b:path}", "/healthz", "/v1/m", "/ x", "/"):
            monitoring.append(f"monitoring{len(monitoring)}.config")
            (root / monitoring[-1]).write_text(
                f'prometheus_config {{ enable: true path: "{path}" }}'
            )
        bad = root / "bad.config"
        for words, text in (
            ([], "Both server_options.model_base_path and server_options.mod"),
            (
                ["--batching_parameters_file=x"],
                "server_options.batching_parameters_file is set without "
                "setting server_options.enable_batching to true.",
            ),
            (
                [
                    "--tensorflow_session_parallelism=1",
                    "--tensorflow_intra_op_parallelism=1",
                    "--tensorflow_inter_op_parallelism=1",
                ],
                "server_options.tensorflow_session_parallelism",
            ),
            (
                [f"--model_config_file={bad}"],
                f"Invalid protobuf file: '{bad}': expected the text form of "
                "tensorflow.serving.ModelServerConfig",
            ),
            (
                [f"--model_config_file={root / 'twice.config'}"],
                "Illegal to list model a multiple times in config",
            ),
            (["--grpc_channel_arguments=x"], "Expected --grpc_channel_argume"),
            (
                ["--model_base_path=gs://bucket/m"],
                "Expected model default to have a base_path in a mounted file "
                "system; got base_path()=gs://bucket/m. Mount",
            ),
            *(
                (
                    [f"--monitoring_config_file={root / name}"],
                    f"Wrong path in {root / name}: expected one such as "
                    "/monitoring/prometheus/metrics, with / in front,",
                )
                for name in monitoring
            ),
        ):
            model = ["--model_base_path=/absent"] if words else []
            code, errors = self.run_server(*model, *words)
            self.assertEqual(code, 255, msg=words)
            self.assertStartsWith(
                errors, "error: Failed to start server. Error: INVALID_ARGUMENT"
            )
            self.assertIn(text, errors)
        code, errors = self.run_server(
            "--model_base_path=/absent", "--ssl_config_file=/absent"
        )
        self.assertEqual(code, 255)
        self.assertIn("Error: NOT_FOUND: ", errors)

    def test_wrong_flags(self):
        """Breaks if a mistyped flag shows only once TensorFlow is loaded."""
        for words, text in (
            (["--port=x"], "argument --port: invalid int value: 'x'"),
            (["--port=0"], "expected --port, --grpc_socket_path or --rest_api"),
            (["--port=99999"], "expected --port from 0 to 65535, received 99"),
            (["--port=-3"], "expected --port from 0 to 65535, received -3"),
            (["--rest_api_port=65536"], "expected --rest_api_port from 0 to"),
            (["--rest_api_port=8500"], "expected another --rest_api_port than"),
            (["--drain_seconds=-1"], "expected --drain_seconds from 0 to"),
            (["--request_log_sampling_rate=2"], "from 0 to 1, received 2.0"),
            (
                ["--rest_api_max_connections=0"],
                "expected --rest_api_max_connections from 1 to",
            ),
            (["--use_alts_credentials"], "use --ssl_config_file"),
            (
                ["--model_config_file_poll_wait_seconds=1"],
                "expected --model_config_file with",
            ),
        ):
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                with self.assertRaises(SystemExit) as raised:
                    serve.main(words)
            self.assertEqual(raised.exception.code, 2, msg=words)
            self.assertStartsWith(errors.getvalue(), "error: ")
            self.assertIn(text, errors.getvalue())

    def test_stopped_before_a_version_is_there(self):
        """Breaks if a deployment that is rolled back at once hangs."""
        code, errors = self.run_server(
            "--model_base_path", str(pathlib.Path(self.get_temp_dir(), "none"))
        )
        self.assertEqual(code, 0)
        self.assertNotIn("Failed to start server", errors)

    def test_a_failing_warm_up_fails_the_start(self):
        """Breaks if a model that can't answer its own requests serves."""
        base_path = pathlib.Path(self.get_temp_dir(), "bad_warmup")
        base_path.mkdir()
        directory = serving_models.add_version(
            serving_models.saved_model("half_plus_two"), base_path, 1
        )
        path = directory / servable.WARMUP_FILE
        path.parent.mkdir()
        path.write_bytes(b"no TFRecord file at all")
        errors = io.StringIO()
        arguments = parse(
            *("--model_base_path", str(base_path)),
            "--max_num_load_retries=0",
        )
        stop = StopAtOnce()
        stop.is_set = lambda: False
        with contextlib.redirect_stderr(errors):
            self.assertEqual(server.run(arguments, stop), 255)
        self.assertIn(
            "Failed to start server. Error: UNKNOWN: 1 servable(s) did not "
            "become available: ",
            errors.getvalue(),
        )
        self.assertIn(
            "Please verify your warmup data is in TFRecord format.",
            errors.getvalue(),
        )

    def test_version(self):
        """Breaks if a deployment can't check what it runs."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            serve.main(["--version"])
        self.assertRegex(
            output.getvalue(),
            r"TensorFlow ModelServer: .*\nTensorFlow Library: "
            + tf.__version__,
        )

    def test_flags(self):
        """Breaks if a form that TensorFlow Serving takes is refused."""
        arguments = parse(
            "--enable_batching=false",
            "--enable_model_warmup=0",
            "--rest_api_enable_cors_support",
            *("--load_retry_interval_micros", "5"),
        )
        self.assertFalse(arguments.enable_batching)
        self.assertFalse(arguments.enable_model_warmup)
        self.assertTrue(arguments.rest_api_enable_cors_support)
        self.assertEqual(arguments.load_retry_interval_micros, 5)
        with self.assertNoLogs():
            serve._warn(parse(), [])

    def test_a_second_signal_ends_at_once(self):
        """Breaks if who presses Ctrl-C again has to wait for requests."""
        code = (
            "import time\n"
            "from sicot_tf import serve\n"
            "stop = serve._StopSignal()\n"
            "print('started', flush=True)\n"
            "stop.wait()\n"
            "print('drains', flush=True)\n"
            "time.sleep(600)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tiny_server.PROJECT_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "started\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.stdout.readline(), "drains\n")
        process.terminate()
        self.assertEqual(process.wait(_PATIENCE_SECONDS), 128 + signal.SIGTERM)

    def test_exit_code_and_imports_of_the_server(self):
        """Breaks if the shell does not see 255, or training code is loaded."""
        code = (
            "import os, sys\n"
            "from sicot_tf import serve\n"
            "end = os._exit\n"
            "def show(code):\n"
            "    print(*sys.modules, flush=True)\n"
            "    end(code)\n"
            "os._exit = show\n"
            "serve.main([])\n"
        )
        completed = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tiny_server.PROJECT_DIR,
            check=False,
            capture_output=True,
            text=True,
        )
        self.assertEqual(completed.returncode, 255)
        # Nothing of TensorFlow's start-up.
        self.assertRegex(
            completed.stderr, r"\Aerror: .*model_base_path and .*\n\Z"
        )
        training = ("sicot_tf.model", "sicot_tf.data", "sicot_tf.train")
        loaded = completed.stdout.split()
        self.assertEqual([n for n in loaded if n.startswith(training)], [])


if __name__ == "__main__":
    tf.test.main()
