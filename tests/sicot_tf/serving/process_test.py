"""What TensorFlow Serving takes, asked of a server process of its own."""

import json
import pathlib
import shutil
import tempfile
import urllib.request

import grpc
import tensorflow as tf
import tensorflow_text
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import servable
from tests.helpers import tiny_server

_CLASSIFY = tf.saved_model.CLASSIFY_METHOD_NAME
_REGRESS = tf.saved_model.REGRESS_METHOD_NAME
_State = get_model_status_pb2.ModelVersionStatus


class Heads(tf.Module):
    """Three heads; TensorFlow 2 gives each an input tensor of its own."""

    _EXAMPLES = (tf.TensorSpec([None], tf.string, name="inputs"),)

    def __init__(self):
        super().__init__()
        self.slope = tf.Variable(2.0)

    def parse(self, examples):
        features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return tf.io.parse_example(examples, features)["x"]

    @tf.function(input_signature=_EXAMPLES)
    def double(self, inputs):
        return {"outputs": self.slope * self.parse(inputs)}

    @tf.function(input_signature=_EXAMPLES)
    def sign(self, inputs):
        x = self.parse(inputs)
        return {
            "classes": tf.tile([["negative", "positive"]], [len(x), 1]),
            "scores": tf.concat([-x, x], axis=1),
        }

    @tf.function(input_signature=_EXAMPLES)
    def next(self, inputs):
        return {"outputs": self.parse(inputs) + 1}


class Words(tf.Module):
    """Words and their pieces, with two ops of TensorFlow Text."""

    def __init__(self):
        super().__init__()
        self.pieces = tensorflow_text.FastWordpieceTokenizer(
            ["[UNK]", "tea", "##s", "green"],
            token_out_type=tf.int32,
            support_detokenization=False,
        )
        self.words = tensorflow_text.WhitespaceTokenizer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def serve(self, s):
        return {
            "pieces": self.pieces.tokenize(s).to_tensor(-1),
            "words": self.words.tokenize(s).to_tensor(),
        }


def multi_request(name, *tasks):
    """Heads of one model, asked for x = 3 and x = -1."""
    request = inference_pb2.MultiInferenceRequest()
    for signature, method_name in tasks:
        task = request.tasks.add(method_name=method_name)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    for x in (3.0, -1.0):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    return request


_ALL_HEADS = (("double", _REGRESS), ("sign", _CLASSIFY), ("next", _REGRESS))


class ServingProcessTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = root = pathlib.Path(folder)
        heads = Heads()
        tf.saved_model.save(
            heads,
            str(root / "heads" / "1"),
            signatures={name: getattr(heads, name) for name, _ in _ALL_HEADS},
        )
        log = prediction_log_pb2.PredictionLog()
        log.multi_inference_log.request.CopyFrom(
            multi_request("heads", *_ALL_HEADS)
        )
        warmup = root / "heads" / "1" / servable.WARMUP_FILE
        warmup.parent.mkdir()
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(log.SerializeToString())
        words = Words()
        tf.saved_model.save(
            words,
            str(root / "words" / "1"),
            signatures={"serving_default": words.serve},
        )
        config = serving_config.make_model_config("heads", root / "heads")
        config.MergeFrom(
            serving_config.make_model_config("words", root / "words")
        )
        (root / "models.config").write_text(str(config))
        port = tiny_server.free_port()
        cls.rest_port = tiny_server.free_port()
        cls.server = tiny_server.ServerProcess(
            root / "log",
            *("--port", str(port), "--rest_api_port", str(cls.rest_port)),
            *("--model_config_file", str(root / "models.config")),
            "--file_system_poll_wait_seconds=0.1",
            "--incomplete_version_seconds=0.5",
            "--enable_batching",
        )
        cls.addClassCleanup(cls.server.kill)
        cls.channel = cls.server.connect(f"localhost:{port}")
        cls.addClassCleanup(cls.channel.close)
        cls.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            cls.channel
        )

    def test_multi_inference(self):
        """Breaks if a head of TensorFlow 2, which has an input for each, does
        not get the Examples; the warm-up file was of this kind."""
        self.assertIn("Warm-up requests answered: 1", self.server.log_text)
        double, sign, following = self.stub.MultiInference(
            multi_request("heads", *_ALL_HEADS), timeout=30
        ).results
        for result, expected in ((double, [6, -2]), (following, [4, 0])):
            values = result.regression_result.regressions
            self.assertEqual([item.value for item in values], expected)
        self.assertEqual(
            [
                [(item.label, item.score) for item in row.classes]
                for row in sign.classification_result.classifications
            ],
            [
                [("negative", -3.0), ("positive", 3.0)],
                [("negative", 1.0), ("positive", -1.0)],
            ],
        )
        self.assertEqual(sign.model_spec.signature_name, "sign")
        self.assertEqual(sign.model_spec.version.value, 1)

    def test_multi_inference_errors(self):
        """Breaks if a wrong head is answered, or has another code."""
        for request, code, text in (
            (
                multi_request("heads", _ALL_HEADS[0], _ALL_HEADS[0]),
                grpc.StatusCode.INVALID_ARGUMENT,
                "Duplicate evaluation of signature: double",
            ),
            (
                multi_request(
                    "heads", ("double", "tensorflow/serving/predict")
                ),
                grpc.StatusCode.UNIMPLEMENTED,
                "Unsupported signature method_name: tensorflow/serving/predict",
            ),
            (
                multi_request("heads"),
                grpc.StatusCode.INVALID_ARGUMENT,
                "ModelSpec has no name specified.",
            ),
        ):
            with self.assertRaises(grpc.RpcError) as raised:
                self.stub.MultiInference(request, timeout=30)
            self.assertEqual(
                (raised.exception.code(), raised.exception.details()),
                (code, text),
            )

    def test_tensorflow_text(self):
        """A tokenizer in the graph needs no other server."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "words"
        request.inputs["s"].CopyFrom(tf.make_tensor_proto(["green teas", "x"]))
        outputs = self.stub.Predict(request, timeout=30).outputs
        self.assertAllEqual(
            tf.make_ndarray(outputs["pieces"]), [[3, 1, 2], [0, -1, -1]]
        )
        self.assertAllEqual(
            tf.make_ndarray(outputs["words"]),
            [[b"green", b"teas"], [b"x", b""]],
        )

    def test_version_that_never_becomes_whole(self):
        """REST tells why; the version before goes on."""
        shutil.copytree(
            self.root / "heads" / "1",
            self.root / "heads" / "2",
            ignore=shutil.ignore_patterns("variables.data*"),
        )
        self.server.wait_for_text("version: 2} is not waited for any more")
        url = f"http://localhost:{self.rest_port}/v1/models/heads"
        with urllib.request.urlopen(url, timeout=30) as response:
            [second, first] = json.load(response)["model_version_status"]
        self.assertEqual(
            second,
            {
                "version": "2",
                "state": "END",
                "status": {
                    "error_code": "FAILED_PRECONDITION",
                    "error_message": (
                        f"{self.root / 'heads' / '2'} is not whole: data files "
                        "of variables are missing; nothing in it has changed "
                        "for 0.5 seconds"
                    ),
                },
            },
        )
        self.assertEqual(first["state"], "AVAILABLE")
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "heads"
        request.model_spec.version.value = 2
        models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        [status] = models.GetModelStatus(
            request, timeout=30
        ).model_version_status
        self.assertEqual(status.state, _State.END)


if __name__ == "__main__":
    tf.test.main()
