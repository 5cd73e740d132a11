"""One value, many ways to ask for it: all entrances give the same tensors."""

import base64
import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from grpc_reflection.v1alpha import proto_reflection_descriptor_database
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis import regression_pb2

from tests.helpers import serving_models
from tests.helpers import tiny_server

_CASES = (
    ("half_plus_two", "serving_default"),
    ("keras", "serving_default"),
    ("three_sums", "serving_default"),
    ("three_sums", "two_inputs"),
    ("strings", "serving_default"),
    ("all_types", "serving_default"),
)

# Knows neither TensorFlow nor this project: only ovmsclient from PyPI.
_OVMS_CLIENT = """
import json, sys
import numpy, ovmsclient
for make, port in (
    (ovmsclient.make_grpc_client, sys.argv[1]),
    (ovmsclient.make_http_client, sys.argv[2]),
):
    client = make(f"localhost:{port}")
    x = numpy.array([[1, 2, 3], [4, 5, 6]], numpy.float32)
    outputs = client.predict({"x": x}, "three_sums", 1)
    status = client.get_model_status("three_sums", 1)
    metadata = client.get_model_metadata("three_sums", 1)
    try:
        client.predict({"x": x}, "absent", 1)
        error = None
    except ovmsclient.ModelNotFoundError as raised:
        error = str(raised)
    print(json.dumps([
        {name: value.tolist() for name, value in outputs.items()},
        status,
        metadata,
        error,
    ]))
"""


def run_in_session(name, signature_name, inputs):
    """What TensorFlow itself answers, without any server."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        signature = v1.saved_model.loader.load(
            session,
            [tf.saved_model.SERVING],
            str(serving_models.saved_model(name)),
        ).signature_def[signature_name]
        return session.run(
            {alias: info.name for alias, info in signature.outputs.items()},
            {
                signature.inputs[alias].name: value
                for alias, value in inputs.items()
            },
        )


def to_json(array):
    """Nested lists; strings that are not named `_bytes` are plain text."""
    if array.dtype == object:
        return [text for text in array.ravel()]
    return array.tolist()


def from_json(value, expected):
    """The array that JSON lists stand for, of the expected type."""
    if expected.dtype == object:
        decoded = [
            base64.b64decode(item["b64"])
            if isinstance(item, dict)
            else item.encode()
            for item in value
        ]
        return np.array(decoded, object)
    return np.array(value, expected.dtype)


class ServingConsistencyTest(tf.test.TestCase):
    """One server for all tests, with a model of every kind."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        root = pathlib.Path(folder.name)
        config = "model_config_list {\n"
        for name in serving_models.NAMES:
            directory = serving_models.saved_model(name)
            config += (
                f'  config {{ name: "{name}" base_path: "{directory.parent}" '
                'model_platform: "tensorflow" }\n'
            )
        (root / "models.config").write_text(config + "}\n")
        cls.port = tiny_server.free_port()
        cls.rest_port = tiny_server.free_port()
        server = tiny_server.ServerProcess(
            root / "log",
            *("--port", str(cls.port)),
            *("--rest_api_port", str(cls.rest_port)),
            *("--model_config_file", str(root / "models.config")),
        )
        cls.addClassCleanup(server.kill)
        server.wait_for_text("Running gRPC ModelServer")
        cls.channel = grpc.insecure_channel(f"localhost:{cls.port}")
        cls.addClassCleanup(cls.channel.close)
        cls.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            cls.channel
        )
        cls.url = f"http://localhost:{cls.rest_port}/v1/models"

    def predict(self, name, signature_name, inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = signature_name
        for alias, value in inputs.items():
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
        return self.stub.Predict(request, timeout=30)

    def post(self, path, body):
        """Status and parsed answer of a REST request."""
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def test_session_grpc_and_rest_give_identical_tensors(self):
        """No digit may depend on the way in; 9 digits carry a float32."""
        for name, signature_name in _CASES:
            with self.subTest(name=name, signature=signature_name):
                inputs = serving_models.example_inputs(name, signature_name)
                expected = run_in_session(name, signature_name, inputs)

                outputs = self.predict(name, signature_name, inputs).outputs
                self.assertCountEqual(outputs, expected)
                for alias, value in expected.items():
                    received = tf.make_ndarray(outputs[alias])
                    self.assertEqual(received.dtype, value.dtype)
                    np.testing.assert_array_equal(received, value)

                body = {
                    "signature_name": signature_name,
                    "inputs": {k: to_json(v) for k, v in inputs.items()},
                }
                status, answer = self.post(f"{name}:predict", body)
                self.assertEqual(status, 200, answer)
                columns = answer["outputs"]
                if len(expected) == 1:
                    columns = dict.fromkeys(expected, columns)
                self.assertCountEqual(columns, expected)
                for alias, value in expected.items():
                    np.testing.assert_array_equal(
                        from_json(columns[alias], value), value
                    )

                aliases = list(body["inputs"])
                body = {
                    "signature_name": signature_name,
                    "instances": [
                        dict(zip(aliases, row, strict=True))
                        for row in zip(*body["inputs"].values(), strict=True)
                    ],
                }
                status, answer = self.post(f"{name}:predict", body)
                self.assertEqual(status, 200, answer)
                rows = answer["predictions"]
                for alias, value in expected.items():
                    column = [
                        row[alias] if len(expected) > 1 else row for row in rows
                    ]
                    np.testing.assert_array_equal(
                        from_json(column, value), value
                    )

    def test_output_without_batch(self):
        """Columns may hold a scalar, rows can't."""
        body = {"signature_name": "to_scalar", "inputs": [1, 2, 6]}
        self.assertEqual(
            self.post("three_sums:predict", body), (200, {"outputs": 3.0})
        )
        body = {"signature_name": "to_scalar", "instances": [1, 2, 6]}
        self.assertEqual(self.post("three_sums:predict", body)[0], 400)

    def test_classify_and_regress(self):
        """tf.Examples through gRPC, plain objects through REST."""
        values = [2.0, -6.0]  # y = 3 and -1.
        regress = regression_pb2.RegressionRequest()
        classify = classification_pb2.ClassificationRequest()
        multi = inference_pb2.MultiInferenceRequest()
        for request, signature in (
            (regress, "regress_x_to_y"),
            (classify, "classify_x_to_sign"),
        ):
            request.model_spec.name = "half_plus_two"
            request.model_spec.signature_name = signature
            for value in values:
                example = request.input.example_list.examples.add()
                example.features.feature["x"].float_list.value.append(value)
        multi.input.CopyFrom(regress.input)
        for request, method in (
            (regress, "tensorflow/serving/regress"),
            (classify, "tensorflow/serving/classify"),
        ):
            task = multi.tasks.add(method_name=method)
            task.model_spec.CopyFrom(request.model_spec)

        result = self.stub.Regress(regress, timeout=30).result
        self.assertEqual([r.value for r in result.regressions], [3, -1])
        classes = self.stub.Classify(classify, timeout=30).result
        self.assertEqual(
            [
                [(c.label, c.score) for c in row.classes]
                for row in classes.classifications
            ],
            [
                [("negative", -3), ("positive", 3)],
                [("negative", 1), ("positive", -1)],
            ],
        )
        both = self.stub.MultiInference(multi, timeout=30).results
        self.assertEqual(both[0].regression_result, result)
        self.assertEqual(both[1].classification_result, classes)

        examples = [{"x": value} for value in values]
        self.assertEqual(
            self.post(
                "half_plus_two:regress",
                {"signature_name": "regress_x_to_y", "examples": examples},
            ),
            (200, {"results": [3.0, -1.0]}),
        )
        self.assertEqual(
            self.post(
                "half_plus_two:classify",
                {"signature_name": "classify_x_to_sign", "examples": examples},
            ),
            (
                200,
                {
                    "results": [
                        [["negative", -3.0], ["positive", 3.0]],
                        [["negative", 1.0], ["positive", -1.0]],
                    ]
                },
            ),
        )

    def test_metadata_equals_through_both_entrances(self):
        """Tools that generate clients read names, types and shapes."""
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "keras"
        request.metadata_field.append("signature_def")
        metadata = self.stub.GetModelMetadata(request, timeout=30).metadata
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self.assertTrue(metadata["signature_def"].Unpack(signatures))
        info = signatures.signature_def["serving_default"].inputs["image"]
        with urllib.request.urlopen(f"{self.url}/keras/metadata") as answer:
            rest = json.load(answer)
        self.assertEqual(rest["model_spec"]["version"], "1")
        rest = rest["metadata"]["signature_def"]["signature_def"]
        self.assertCountEqual(rest, signatures.signature_def)
        rest = rest["serving_default"]["inputs"]["image"]
        self.assertEqual(rest["name"], info.name)
        self.assertEqual(rest["dtype"], "DT_FLOAT")
        self.assertEqual(
            [int(dim["size"]) for dim in rest["tensor_shape"]["dim"]],
            [dim.size for dim in info.tensor_shape.dim],
        )

    def test_reflection_client(self):
        """A client like grpcurl: all it knows comes from the server."""
        database = proto_reflection_descriptor_database
        database = database.ProtoReflectionDescriptorDatabase(self.channel)
        self.assertContainsSubset(
            [
                "tensorflow.serving.PredictionService",
                "tensorflow.serving.ModelService",
            ],
            database.get_services(),
        )
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName(
            "tensorflow.serving.PredictionService"
        ).methods_by_name["Predict"]
        request = message_factory.GetMessageClass(method.input_type)()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add().size = 2
        request.inputs["x"].float_val.extend([1, 4])
        call = self.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(
                method.output_type
            ).FromString,
        )
        response = call(request, timeout=30)
        self.assertEqual(list(response.outputs["y"].float_val), [2.5, 4])

    def test_ovmsclient(self):
        """Intel's client of TensorFlow Serving, with messages of its own."""
        completed = subprocess.run(
            [sys.executable, "-c", _OVMS_CLIENT]
            + [str(self.port), str(self.rest_port)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        over_grpc, over_rest = map(json.loads, completed.stdout.splitlines())
        for outputs, status, _, error in (over_grpc, over_rest):
            self.assertEqual(
                outputs,
                {
                    "total": [321.0, 654.0],
                    "doubled": [[2, 4, 6], [8, 10, 12]],
                },
            )
            self.assertEqual(status["1"]["state"], "AVAILABLE")
            self.assertIn("absent", error)
        self.assertEqual(
            over_grpc[2]["inputs"],
            {"x": {"shape": [-1, 3], "dtype": "DT_FLOAT"}},
        )

    def test_curl(self):
        """The first command of every guide; and packed with gzip."""
        if not shutil.which("curl"):
            self.skipTest("There is no curl on the PATH.")
        body = b'{"instances": [1.0, 2.0, 5.0]}'
        for flags, data in (
            ([], body),
            (["-H", "Content-Encoding: gzip"], gzip.compress(body)),
        ):
            completed = subprocess.run(
                ["curl", "--silent", "--fail", "--data-binary", "@-", *flags]
                + [f"{self.url}/half_plus_two/versions/1:predict"],
                input=data,
                check=True,
                stdout=subprocess.PIPE,
                timeout=60,
            )
            self.assertEqual(
                json.loads(completed.stdout), {"predictions": [2.5, 3.0, 4.5]}
            )
        completed = subprocess.run(
            ["curl", "--silent", "--include", f"{self.url}/absent"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        self.assertRegex(completed.stdout, r"^HTTP/1\.1 404")
        self.assertIn("absent", completed.stdout)


if __name__ == "__main__":
    tf.test.main()
