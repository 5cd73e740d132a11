"""Tests of the REST API: a real server, real HTTP."""

import base64
import contextlib
import gzip
import http.client
import json
import pathlib
import socket
import tempfile
import threading
import time

import numpy as np
import tensorflow as tf
import uvicorn
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import metrics
from sicot_tf.serving import server_core
from sicot_tf.serving.inference import servable
from sicot_tf.serving.rest_api import app
from sicot_tf.serving.versions import model_manager
from tests.helpers import serving_models

_MAX_BODY_BYTES = 1 << 20
_MONITORING_PATH = "/monitoring/prometheus/metrics"
_HALF = "/v1/models/half_plus_two"
_SUMS = "/v1/models/three_sums"


class AllErrors:
    """Stands for ServerCore where a real one can't be made to fail so."""

    manager = None

    def get_model_status(self, request):
        """Fails with the code that is the model's name."""
        if request.model_spec.name == "bug":
            raise RuntimeError("the bug")
        if request.model_spec.name == "memory":
            raise MemoryError
        code = int(request.model_spec.name)
        raise tf.errors.OpError(None, None, "é!", code)


class RestTest(tf.test.TestCase):
    """One server of five models, two of them versions of each other."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        base_path = pathlib.Path(folder)
        config = model_server_config_pb2.ModelServerConfig()
        for name in ("half_plus_two", "strings", "three_sums"):
            model = config.model_config_list.config.add()
            model.name = name
            model.model_platform = "tensorflow"
            source = serving_models.saved_model(name)
            for version in (7, 3) if name == "half_plus_two" else (1,):
                serving_models.add_version(source, base_path / name, version)
            model.base_path = str(base_path / name)
            model.model_version_policy.all.SetInParent()
        config.model_config_list.config[0].version_labels["stable"] = 3
        cls.manager = model_manager.ModelManager(
            servable.Servable,
            allow_version_labels_for_unavailable_models=True,
        )
        cls.addClassCleanup(cls.manager.close)
        cls.manager.set_config(config)
        cls.manager.wait_until_available()
        counts = metrics.Metrics()
        cls.core = server_core.ServerCore(cls.manager, metrics=counts)
        cls.ready = True
        cls.port = cls.enterClassContext(
            cls.serve(
                cls.core,
                counts,
                monitoring_path=_MONITORING_PATH,
                max_body_bytes=_MAX_BODY_BYTES,
                readiness=lambda: cls.ready,
            )
        )

    @staticmethod
    @contextlib.contextmanager
    def serve(core, counts=None, **options):
        """The port of a uvicorn server, inside a `with`."""
        api = app.Api(core, counts or metrics.Metrics(), **options)
        with socket.create_server(("localhost", 0)) as listener:
            server = uvicorn.Server(
                uvicorn.Config(
                    api, http="h11", lifespan="off", log_level="error"
                )
            )
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listener]}
            )
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join()

    def send(self, method, path, body=None, headers=None, port=None):
        """The response, with the whole content as `content`."""
        connection = http.client.HTTPConnection(
            "localhost", port or self.port, timeout=60
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            response.content = response.read()
            return response

    def post(self, path, document):
        if not isinstance(document, bytes):
            document = json.dumps(document).encode()
        return self.send("POST", path, document)

    def post_packed(self, body, **headers):
        headers = {"Content-Encoding": "gzip"} | headers
        return self.send("POST", f"{_HALF}:predict", body, headers)

    def assert_content(self, response, expected):
        self.assertEqual(response.status, 200, response.content)
        self.assertEqual(json.loads(response.content), expected)

    def assert_error(self, response, status, text):
        """The error is all there is."""
        [(key, error)] = json.loads(response.content).items()
        self.assertEqual((response.status, key), (status, "error"), error)
        self.assertIn(text, error)
        self.assertEqual(response.getheader("Content-Type"), "application/json")

    def test_predict_in_rows_and_columns(self):
        """Breaks if one of the two forms gives back another."""
        x = [[1, 2, 3], [4, 5, 6]]
        rows = [
            {"doubled": [2, 4, 6], "total": 321},
            {"doubled": [8, 10, 12], "total": 654},
        ]
        for instances in (x, [{"x": row} for row in x]):
            response = self.post(f"{_SUMS}:predict", {"instances": instances})
            self.assert_content(response, {"predictions": rows})
        self.assertEqual(response.getheader("Content-Type"), "application/json")
        self.assertIsNone(response.getheader("Access-Control-Allow-Origin"))
        columns = {"doubled": [[2, 4, 6], [8, 10, 12]], "total": [321, 654]}
        for inputs in (x, {"x": x}):
            response = self.post(f"{_SUMS}:predict", {"inputs": inputs})
            self.assert_content(response, {"outputs": columns})
        response = self.post(f"{_HALF}:predict", b'{"inputs": [NaN,-Infinity]}')
        self.assertIn(b"[NaN,-Infinity]", response.content)

    def test_base64(self):
        """Breaks if bytes come back as text: the output's name decides."""
        image = bytes(range(97, 123)) * 2000
        b64 = base64.b64encode(image).decode()
        response = self.post(
            "/v1/models/strings:predict", {"instances": [{"b64": b64}, "é"]}
        )
        first, second = json.loads(response.content)["predictions"]
        self.assertEqual(first["upper"], image.decode().upper())
        self.assertEqual(first["length"], len(image))
        self.assertEqual(
            base64.b64decode(first["reversed_bytes"]["b64"]),
            image + b"|" + image,
        )
        self.assertEqual(
            base64.b64decode(second["reversed_bytes"]["b64"]).decode(), "é|é"
        )

    def test_versions_and_labels(self):
        """Breaks if another version answers than the one in the path."""
        for choice in ("", "/versions/3", "/versions/0007", "/labels/stable"):
            for models in ("/v1/models", "/V1/Models"):
                response = self.post(
                    f"{models}/half_plus_two{choice}:predict",
                    {"instances": [1]},
                )
                self.assert_content(response, {"predictions": [2.5]})
        half = "half_plus_two"
        for path, status, text in (
            ("absent:predict", 404, "Servable not found for request: Latest("),
            ("a%20%C3%A9:predict", 404, "Latest(a é)"),
            (f"{half}/versions/9:predict", 404, f"Specific({half}, 9)"),
            (f"{half}/labels/beta:predict", 400, "version label: beta"),
            (f"{half}/versions/{2**63}:predict", 400, f"{2**63} to numeric."),
            (f"{half}/versions/{'9' * 5000}:predict", 400, "to numeric."),
        ):
            response = self.post(f"/v1/models/{path}", {"instances": [1]})
            self.assert_error(response, status, text)

    def test_status(self):
        """Breaks if tools that read versions and states find others."""
        response = self.send("GET", _HALF)
        versions = [
            {
                "version": version,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for version in ("7", "3")
        ]
        self.assert_content(response, {"model_version_status": versions})
        self.assertEqual(response.getheader("Content-Type"), "application/json")
        # Labels are not looked at.
        for path, expected in (
            (f"{_HALF}/versions/3", versions[1:]),
            (f"{_HALF}/labels/absent", versions),
        ):
            self.assert_content(
                self.send("GET", path), {"model_version_status": expected}
            )
        for path, status, text in (
            ("/v1/models/absent", 404, "any versions of model absent"),
            (f"{_HALF}/versions/9", 404, "Could not find version 9 of model"),
            ("/v1/models", 400, "Missing model name in request."),
            ("/v1/models/versions/3", 400, "Missing model name in request."),
            (f"{_HALF}/versions/{2**63}", 400, "to numeric."),
        ):
            self.assert_error(self.send("GET", path), status, text)

    def test_metadata(self):
        """Breaks if a client that reads shapes and types finds others."""
        response = self.send("GET", f"{_SUMS}/metadata")
        document = json.loads(response.content)
        self.assertCountEqual(document, ["model_spec", "metadata"])
        self.assertEqual(
            document["model_spec"],
            {"name": "three_sums", "version": "1", "signature_name": ""},
        )
        signatures = document["metadata"]["signature_def"]["signature_def"]
        self.assertIn("__saved_model_init_op", signatures)
        self.assertEqual(
            signatures["serving_default"]["inputs"]["x"],
            {
                "name": "serving_default_x:0",
                "dtype": "DT_FLOAT",
                "tensor_shape": {
                    "dim": [
                        {"size": "-1", "name": ""},
                        {"size": "3", "name": ""},
                    ],
                    "unknown_rank": False,
                },
            },
        )
        response = self.send("GET", f"{_HALF}/labels/stable/metadata")
        document = json.loads(response.content)
        self.assertEqual(document["model_spec"]["version"], "3")
        # Only these letters are compared as they are.
        response = self.send("GET", f"{_SUMS}/METADATA")
        self.assertIn(b"model_version_status", response.content)
        self.assert_error(
            self.send("GET", "/v1/models/absent/metadata"),
            404,
            "Servable not found for request: Latest(absent)",
        )

    def test_malformed_paths_and_methods(self):
        """Breaks if a wrong path is answered as another one."""
        for method, path in (
            ("POST", "/v1/foo"),
            ("POST", _HALF),
            ("POST", f"{_HALF}:PREDICT"),
            ("POST", f"{_HALF}:multiInference"),
            ("POST", f"{_HALF}/versions/x:predict"),
            ("POST", f"{_HALF}/versions/1/labels/a:predict"),
            ("GET", f"{_HALF}:predict"),
            ("GET", f"{_HALF}/"),
            ("PUT", f"{_HALF}:predict"),
            ("OPTIONS", f"{_HALF}:predict"),
        ):
            self.assert_error(
                self.send(method, path),
                400,
                f"Malformed request: {method} {path}",
            )
        # The query is no part of the path.
        self.assertEqual(self.send("GET", f"{_HALF}?a=b").status, 200)
        self.assert_error(
            self.send("GET", f"{_HALF}:x?a=b"),
            400,
            f"Malformed request: GET {_HALF}:x",
        )
        for path in ("/", "/v1", "/v2/models", "/v1x/models/half_plus_two"):
            self.assertEqual(self.send("GET", path).status, 404)

    def test_wrong_bodies(self):
        """Breaks if the caller's mistake is not 400, or not explained."""
        for path, body, text in (
            (_HALF, b"", "JSON Parse error: "),
            (
                _HALF,
                b'{"instances": ["x"]}',
                "Failed to process 'x': JSON Value: \"x\" is not of expected "
                "type: float32",
            ),
            (
                _HALF,
                b'{"signature_name": "x", "instances": [1]}',
                'Serving signature name: "x" not found in signature def',
            ),
            (
                # A default is used only through gRPC.
                _HALF,
                b'{"signature_name": "with_default", "inputs": {"x": [1]}}',
                "Missing named input: offset in 'inputs' object.",
            ),
            (
                _SUMS,
                b'{"signature_name": "to_scalar", "instances": [1]}',
                "Output mean is a scalar: it has no rows",
            ),
            (
                _SUMS,
                b'{"signature_name": "__saved_model_init_op", "inputs": 1}',
                "Failed to get input map for signature: __saved_model_init_op",
            ),
            # What the graph says.
            (_SUMS, b'{"instances": [[1, 2]]}', "{{node"),
        ):
            self.assert_error(self.post(f"{path}:predict", body), 400, text)
        for call in ("classify", "regress"):
            for document, text in (
                ({"examples": []}, "Expected key 'examples'"),
                (
                    {"signature_name": "x", "examples": [{}]},
                    "No signature was found with the name: x",
                ),
            ):
                response = self.post(f"{_HALF}:{call}", document)
                self.assert_error(response, 400, text)

    def test_large_bodies(self):
        """Breaks if a body fills memory, packed or not."""
        spaces = b" " * (_MAX_BODY_BYTES + 1)
        text = f"Request body is larger than {_MAX_BODY_BYTES} bytes"
        self.assert_error(self.post(f"{_HALF}:predict", spaces), 413, text)
        # Without a length at its beginning.
        response = self.send("POST", f"{_HALF}:predict", iter([spaces] * 2))
        self.assert_error(response, 413, text)
        bomb = gzip.compress(b" " * 10**8)
        self.assert_error(self.post_packed(bomb), 413, text)
        body = b'{"instances": [1]}'.ljust(_MAX_BODY_BYTES)
        response = self.post(f"{_HALF}:predict", body)
        self.assert_content(response, {"predictions": [2.5]})

    def test_gzip(self):
        """Breaks if packed bodies are not read, or damaged ones are."""
        body = gzip.compress(b'{"instances": [1]}')
        for encoding in ("gzip", "x-gzip", "GZIP"):
            response = self.post_packed(
                body,
                **{"Content-Encoding": encoding, "Accept-Encoding": "gzip"},
            )
            self.assert_content(response, {"predictions": [2.5]})
            self.assertIsNone(response.getheader("Content-Encoding"))
        # What `cat one.gz two.gz` makes, and a tool that fills blocks.
        parts = [gzip.compress(part) for part in (b'{"instances"', b": [1]}")]
        response = self.post_packed(b"".join(parts) + bytes(512))
        self.assert_content(response, {"predictions": [2.5]})
        for wrong in (body[:-9], b"no gzip"):
            response = self.post_packed(wrong)
            self.assert_error(response, 400, "can't be unpacked as gzip")

    def test_cors(self):
        """Breaks if web pages of another host can't ask, or always can."""
        with self.serve(self.core, cors=True) as port:
            origin = {"Origin": "https://shop.example"}
            preflight = self.send(
                "OPTIONS", f"{_HALF}:predict", headers=origin, port=port
            )
            self.assertEqual((preflight.status, preflight.content), (200, b""))
            good = self.send("GET", _HALF, headers=origin, port=port)
            self.assertEqual(good.status, 200)
            bad = self.send("POST", "/v1/foo", headers=origin, port=port)
            self.assertEqual(bad.status, 400)
            without = self.send("OPTIONS", f"{_HALF}:predict", port=port)
            self.assert_error(without, 400, "Origin header is missing")
            for response in (preflight, good, bad, without):
                for name, value in (
                    ("Access-Control-Allow-Origin", "*"),
                    ("Access-Control-Allow-Methods", "POST, GET"),
                    ("Access-Control-Allow-Headers", "Content-Type"),
                ):
                    self.assertEqual(response.getheader(name), value)

    def test_codes(self):
        """Breaks if a client can't tell by the status what to do."""
        statuses = {
            tf.errors.CANCELLED: 499,
            tf.errors.UNKNOWN: 500,
            tf.errors.INVALID_ARGUMENT: 400,
            tf.errors.DEADLINE_EXCEEDED: 504,
            tf.errors.NOT_FOUND: 404,
            tf.errors.ALREADY_EXISTS: 409,
            tf.errors.PERMISSION_DENIED: 403,
            tf.errors.RESOURCE_EXHAUSTED: 429,
            tf.errors.FAILED_PRECONDITION: 400,
            tf.errors.ABORTED: 409,
            tf.errors.OUT_OF_RANGE: 400,
            tf.errors.UNIMPLEMENTED: 501,
            tf.errors.INTERNAL: 500,
            tf.errors.UNAVAILABLE: 503,
            tf.errors.DATA_LOSS: 500,
            tf.errors.UNAUTHENTICATED: 401,
        }
        with self.serve(AllErrors()) as port:
            for code, status in statuses.items():
                response = self.send("GET", f"/v1/models/{code}", port=port)
                self.assert_error(response, status, "é!")
                self.assertEqual(
                    response.getheader("Retry-After"),
                    "1" if status in (429, 503) else None,
                )
            with self.assertLogs("sicot_tf.serving.rest_api.app", "ERROR"):
                response = self.send("GET", "/v1/models/bug", port=port)
            self.assert_error(response, 500, "RuntimeError: the bug")
            response = self.send("GET", "/v1/models/memory", port=port)
            self.assert_error(response, 429, "Out of memory")

    def test_timeout(self):
        """Breaks if the wait for a free thread does not count."""
        with self.serve(self.core, timeout_seconds=0) as port:
            response = self.send(
                "POST",
                f"{_HALF}:predict",
                b'{"instances": [1]}',
                port=port,
            )
        self.assertEqual(response.status, 504)
        self.assertIn(b"imed out", response.content)

    def test_health(self):
        """Breaks if Kubernetes kills a server that only drains."""
        for path in ("/healthz", _MONITORING_PATH):
            response = self.send("CONNECT", path)
            self.assertEqual(response.status, 405)
            self.assertEqual(response.getheader("Allow"), "GET, HEAD")
        self.assertEqual(self.send("GET", "/healthz").status, 200)
        self.assertEqual(self.send("GET", "/readyz").status, 200)
        type(self).ready = False
        self.addCleanup(setattr, type(self), "ready", True)
        self.assertEqual(self.send("GET", "/readyz").status, 503)
        self.assertEqual(self.send("GET", "/healthz").status, 200)

    def count(self, sample):
        """The value of a line of the page of metrics; 0 without one."""
        page = self.send("GET", _MONITORING_PATH).content.decode()
        for line in page.splitlines():
            if line.startswith(sample + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def test_every_request_is_counted(self):
        """Breaks if alerts miss what never reaches a model, or see it twice;
        if Prometheus finds no page, or one that nobody wanted."""
        self.post("/v1/models/strings:predict", {"instances": ["a"]})
        response = self.send("GET", _MONITORING_PATH)
        self.assertStartsWith(response.getheader("Content-Type"), "text/plain")
        latency = (
            ':tensorflow:serving:request_latency_count{API="predict",'
            'entrypoint="REST",model_name="strings"}'
        )
        self.assertGreater(self.count(latency), 0)
        with self.serve(self.core) as port:
            response = self.send("GET", _MONITORING_PATH, port=port)
            self.assertEqual(response.status, 404)
        prefix = ":tensorflow:serving:request_count{"
        good = json.dumps({"instances": [1]}).encode()
        large = b" " * (_MAX_BODY_BYTES + 1)
        packed = {"Content-Encoding": "gzip"}
        for method, path, body, headers, status, name, code in (
            ("POST", f"{_HALF}:predict", good, {}, 200, "half_plus_two", "OK"),
            ("GET", _HALF, None, {}, 200, "half_plus_two", "OK"),
            ("GET", f"{_SUMS}/metadata", None, {}, 200, "three_sums", "OK"),
            ("POST", f"{_SUMS}:predict", b"{", {}, 400, "three_sums", None),
            ("POST", f"{_SUMS}:classify", b"{}", {}, 400, "three_sums", None),
            ("POST", f"{_SUMS}:regress", b"[]", {}, 400, "three_sums", None),
            ("POST", f"{_SUMS}:predict", b"x", packed, 400, "three_sums", None),
            (
                *("POST", f"{_SUMS}/versions/{2**64}:predict", good, {}),
                *(400, "three_sums", None),
            ),
            (
                *("POST", f"{_SUMS}:predict", large, {}),
                *(413, "three_sums", "RESOURCE_EXHAUSTED"),
            ),
            (
                *("POST", "/v1/models/no:predict", good, {}),
                *(404, "no", "NOT_FOUND"),
            ),
            ("GET", "/v1/models/nope", None, {}, 404, "nope", "NOT_FOUND"),
            ("PUT", "/v1/foo", b"", {}, 400, "", None),
            ("GET", "/v1/models", None, {}, 400, "", None),
            ("GET", "/favicon.ico", None, {}, 404, None, None),
        ):
            sample = (
                f'{prefix}model_name="{name}",'
                f'status="{code or "INVALID_ARGUMENT"}"}}'
            )
            answers = f':sicot:serving:rest_response_count{{code="{status}"}}'
            before = self.count(sample), self.count(answers)
            response = self.send(method, path, body, headers)
            self.assertEqual(response.status, status)
            after = self.count(sample), self.count(answers)
            self.assertEqual(after[0] - before[0], name is not None, msg=sample)
            # Two pages of metrics were answered with 200 between the two.
            self.assertEqual(
                after[1] - before[1], 3 if status == 200 else 1, msg=answers
            )

    def test_head(self):
        """Breaks if load balancers that ask so take the server for ill."""
        expected = self.send("GET", _HALF)
        response = self.send("HEAD", _HALF)
        self.assertEqual((response.status, response.content), (200, b""))
        self.assertEqual(
            response.getheader("Content-Length"), str(len(expected.content))
        )
        self.assertEqual(self.send("HEAD", "/v1/models/no").status, 404)

    def test_clients_that_leave(self):
        """Breaks if half a body, then nothing, hurts another client."""
        for _ in range(3):
            with socket.create_connection(("localhost", self.port)) as client:
                client.sendall(
                    f"POST {_HALF}:predict HTTP/1.1\r\nHost: a\r\n"
                    "Content-Length: 100\r\n\r\n{".encode()
                )
        response = self.post(f"{_HALF}:predict", {"instances": [1]})
        self.assert_content(response, {"predictions": [2.5]})

    def test_many_at_once(self):
        """Breaks if an answer goes to another one than who asked."""
        failures = []

        def ask(seed):
            connection = http.client.HTTPConnection("localhost", self.port)
            with contextlib.closing(connection):
                for x in np.random.default_rng(seed).integers(0, 999, 20):
                    body = json.dumps({"instances": [int(x)]})
                    connection.request("POST", f"{_HALF}:predict", body)
                    answer = json.load(connection.getresponse())
                    if answer != {"predictions": [x / 2 + 2]}:
                        failures.append(answer)

        threads = [
            threading.Thread(target=ask, args=[seed]) for seed in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEmpty(failures)


if __name__ == "__main__":
    tf.test.main()
