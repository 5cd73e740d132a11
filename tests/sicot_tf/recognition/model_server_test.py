import concurrent.futures
import time
import unittest

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.recognition import model_server

# What the signatures of a model answer for two pictures.
_RANKING = {
    "sku_id": np.array([[b"a", "可乐".encode()], [b"b", b"a"]], object),
    "score": np.array([[0.75, 0.25], [0.5, 0.25]], np.float32),
    "recognised": np.array([True, False]),
}
_EMBEDDING = np.arange(6, dtype=np.float32).reshape(2, 3)
_WORDS = {
    "word": np.array([[b"red"], [b"can"]], object),
    "word_probability": np.array([[0.5], [0.25]], np.float32),
}
_HEAT = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


class Scripted(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Answers as told, with TensorFlow Serving's own messages."""

    def __init__(self):
        self.signatures = {
            "recognition": _RANKING | _WORDS | {"embedding": _EMBEDDING},
            "localization": {"heat_map": _HEAT},
        }
        self.code, self.seconds, self.as_content = None, 0, False
        self.asked = []

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec
        images = tf.make_ndarray(request.inputs["image_bytes"]).tolist()
        self.asked.append(
            (spec.name, spec.version.value, spec.signature_name, images)
        )
        time.sleep(self.seconds)
        if self.code:
            context.abort(self.code, "{{node x}} It is so.\nnode y")
        response = predict_pb2.PredictResponse()
        for name, value in self.signatures[spec.signature_name].items():
            tensor = tf.make_tensor_proto(value)
            if not self.as_content and value.dtype != object:
                # make_tensor_proto writes tensor_content itself.
                tensor = tf.compat.v1.make_tensor_proto(0.0)
                tensor.Clear()
                tensor.dtype = tf.as_dtype(value.dtype).as_datatype_enum
                for size in value.shape:
                    tensor.tensor_shape.dim.add(size=size)
                values = value.ravel().tolist()
                is_flag = value.dtype == bool
                (tensor.bool_val if is_flag else tensor.float_val).extend(
                    values
                )
            response.outputs[name].CopyFrom(tensor)
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        names = get_model_metadata_pb2.SignatureDefMap()
        for name in self.signatures:
            names.signature_def[name].CopyFrom(meta_graph_pb2.SignatureDef())
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(names)
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        if request.model_spec.name != "sicot":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        state = get_model_status_pb2.ModelVersionStatus
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[
                state(version=2, state=state.AVAILABLE),
                state(version=3, state=state.LOADING),
            ]
        )


class ModelServerTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.scripted = Scripted()
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        add = prediction_service_pb2_grpc
        add.add_PredictionServiceServicer_to_server(self.scripted, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            self.scripted, server
        )
        port = server.add_insecure_port("localhost:0")
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        self.server = model_server.ModelServer(
            f"localhost:{port}", timeout=60.0
        )
        self.addAsyncCleanup(self.server.close)

    async def recognise(self):
        return await self.server.recognise("sicot", 2, [b"one", b"two"])

    async def test_recognition(self):
        """Breaks if answers go to the wrong picture, or another version than
        the release's is asked; servers may send numbers in two ways."""
        for self.scripted.as_content in (False, True):
            first, second = await self.recognise()
            self.assertEqual(first.sku_ids, ["a", "可乐"])
            self.assertEqual(first.scores, [0.75, 0.25])
            self.assertEqual(second.sku_ids, ["b", "a"])
            self.assertEqual(
                (first.recognised, second.recognised), (True, False)
            )
            np.testing.assert_array_equal(second.embedding, [3, 4, 5])
            self.assertEqual(first.words, [("red", 0.5)])
        self.assertEqual(
            self.scripted.asked,
            2 * [("sicot", 2, "recognition", [b"one", b"two"])],
        )

    async def test_old_exports(self):
        """Breaks if a model of an earlier version can't be served."""
        self.scripted.signatures = {
            "serving_default": _RANKING,
            "embedding": {"embedding": _EMBEDDING},
        }
        with self.assertLogs(model_server.__name__, "WARNING") as logs:
            first, second = await self.recognise()
            self.assertIsNone(await self.server.localise("sicot", 2, b"one"))
        # Said once of each.
        self.assertEqual(len(logs.output), 2)
        self.assertEqual(second.sku_ids, ["b", "a"])
        np.testing.assert_array_equal(first.embedding, [0, 1, 2])
        self.assertEqual(first.words, [])

    async def test_heat_map(self):
        """Breaks if the map lies on its side."""
        np.testing.assert_array_equal(
            await self.server.localise("sicot", 2, b"one"), _HEAT[0]
        )

    async def test_versions(self):
        """Breaks if a release goes live with a version that still loads."""
        self.assertEqual(await self.server.versions("sicot"), {2})
        self.assertEqual(await self.server.versions("other"), set())

    async def test_refusals(self):
        """Breaks if the photo is blamed for a server that is down, or the
        other way round; or if nodes of the graph are shown to people."""
        codes = grpc.StatusCode
        for self.scripted.code, status, shown in (
            (codes.INVALID_ARGUMENT, 422, "It is so"),
            (codes.UNAVAILABLE, 503, "UNAVAILABLE"),
            (codes.RESOURCE_EXHAUSTED, 503, "RESOURCE_EXHAUSTED"),
            (codes.NOT_FOUND, 503, "NOT_FOUND"),
            (codes.INTERNAL, 502, "INTERNAL"),
            (codes.DEADLINE_EXCEEDED, 504, "in time"),
        ):
            with self.assertRaises(model_server.ModelServerError) as caught:
                await self.recognise()
            self.assertEqual(caught.exception.status, status)
            self.assertIn(shown, str(caught.exception))
            self.assertNotIn("node", str(caught.exception))

    async def test_silent_server(self):
        """Breaks if a request waits for ever."""
        address = self.server.address
        impatient = model_server.ModelServer(address, timeout=0.2)
        self.addAsyncCleanup(impatient.close)
        await impatient.signatures("sicot", 2)
        self.scripted.seconds = 2
        with self.assertRaises(model_server.ModelServerError) as caught:
            await impatient.recognise("sicot", 2, [b"one", b"two"])
        self.assertEqual(caught.exception.status, 504)

    async def test_another_model(self):
        """Breaks if a model that is none of ours ends in a traceback."""
        self.scripted.signatures = {
            "recognition": {"logits": np.zeros((2, 2), np.float32)}
        }
        with self.assertRaises(model_server.ModelServerError) as caught:
            await self.recognise()
        self.assertEqual(caught.exception.status, 502)
        self.assertIn("logits", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
