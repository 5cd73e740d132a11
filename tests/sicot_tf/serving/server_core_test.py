import logging
import pathlib
import tempfile
import time
import types
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
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
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import metrics
from sicot_tf.serving import request_log
from sicot_tf.serving import server_core
from sicot_tf.serving.grpc_api import services
from sicot_tf.serving.inference import servable
from sicot_tf.serving.versions import model_manager
from tests.helpers import serving_models

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_REGRESS = "tensorflow/serving/regress"


def predict_request(inputs=None, signature="", name="linear"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, value in (inputs or {}).items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def add_example(request, x):
    proto = request.input.example_list.examples.add()
    proto.features.feature["x"].float_list.value.append(x)
    return request


class ServerCoreTest(tf.test.TestCase):
    """Models `linear` (versions 1 and 2), `sums`, `slow`; gRPC on top."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        for name, source, versions in (
            ("linear", "half_plus_two", (1, 2)),
            ("sums", "three_sums", (3,)),
            ("slow", "slow", (1,)),
        ):
            (cls.root / name).mkdir()
            for version in versions:
                serving_models.add_version(
                    serving_models.saved_model(source),
                    cls.root / name,
                    version,
                )
        cls.manager = model_manager.ModelManager(
            servable.Servable, file_system_poll_wait_seconds=0.1
        )
        cls.addClassCleanup(cls.manager.close)
        # A label needs a version that is there.
        cls.manager.set_config(
            cls.make_config("linear", "sums", "slow", labels={})
        )
        cls.manager.wait_until_available()
        cls.manager.set_config(cls.make_config("linear", "sums", "slow"))
        cls.core = server_core.ServerCore(
            cls.manager, metrics=metrics.Metrics()
        )
        # One thread, so that a second call has to wait for the first one.
        cls.server = grpc.server(futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            services.PredictionService(cls.core), cls.server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            services.ModelService(cls.core), cls.server
        )
        address = f"unix:{cls.root / 'socket'}"
        cls.server.add_insecure_port(address)
        cls.server.start()
        cls.addClassCleanup(lambda: cls.server.stop(0).wait())
        channel = grpc.insecure_channel(address)
        cls.addClassCleanup(channel.close)
        cls.stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        cls.models = model_service_pb2_grpc.ModelServiceStub(channel)

    @classmethod
    def make_config(cls, *names, labels=types.MappingProxyType({"stable": 1})):
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.SetInParent()
        for name in names:
            model = config.model_config_list.config.add(
                name=name,
                base_path=str(cls.root / name.split("-")[0]),
                model_platform="tensorflow",
            )
            model.model_version_policy.all.SetInParent()
            if name == "linear":
                model.version_labels.update(labels)
        return config

    def assert_fails(self, call, request, code, text, timeout=30):
        with self.assertRaises(grpc.RpcError) as raised:
            call(request, timeout=timeout)
        self.assertEqual(
            (raised.exception.code(), raised.exception.details()), (code, text)
        )

    def test_predict_by_version(self):
        """The highest one, a number or a label."""
        request = predict_request({"x": [2.0]})
        for fields, version in (
            ({}, 2),
            ({"version_label": "stable"}, 1),
            ({"version": {"value": 1}}, 1),
            ({"version": {"value": 2}}, 2),
        ):
            request.model_spec.ClearField("version")
            request.model_spec.ClearField("version_label")
            request.model_spec.MergeFrom(type(request.model_spec)(**fields))
            response = self.stub.Predict(request)
            self.assertEqual(response.model_spec.name, "linear")
            self.assertEqual(response.model_spec.version.value, version)
            self.assertEqual(
                response.model_spec.signature_name, "serving_default"
            )
            self.assertEqual(response.model_spec.version_label, "")
            self.assertEqual(list(response.outputs["y"].float_val), [3.0])

    def test_other_calls(self):
        """y1 = x / 2 + 2."""
        request = regression_pb2.RegressionRequest()
        request.model_spec.name = "linear"
        request.model_spec.signature_name = "regress_x_to_y"
        response = self.stub.Regress(add_example(request, 2.0))
        self.assertEqual(response.result.regressions[0].value, 3.0)
        self.assertEqual(response.model_spec.version.value, 2)

        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "linear"
        request.model_spec.signature_name = "classify_x_to_sign"
        response = self.stub.Classify(add_example(request, 2.0))
        self.assertEqual(
            response.result.classifications[0].classes[1].label, "positive"
        )

        request = inference_pb2.MultiInferenceRequest()
        task = request.tasks.add(method_name=_REGRESS)
        task.model_spec.name = "linear"
        task.model_spec.version_label = "stable"
        task.model_spec.signature_name = "regress_x_to_y"
        response = self.stub.MultiInference(add_example(request, 2.0))
        [result] = response.results
        self.assertEqual(result.regression_result.regressions[0].value, 3.0)
        self.assertEqual(result.model_spec.version.value, 1)

    def test_model_spec_errors(self):
        """Clients tell a wrong name from a wrong version by these texts."""
        metadata = get_model_metadata_pb2.GetModelMetadataRequest
        for call, request_class in (
            (self.stub.Predict, predict_pb2.PredictRequest),
            (self.stub.Classify, classification_pb2.ClassificationRequest),
            (self.stub.Regress, regression_pb2.RegressionRequest),
            (self.stub.GetModelMetadata, metadata),
        ):
            request = request_class()
            self.assert_fails(call, request, _INVALID, "Missing ModelSpec")
            if request_class is metadata:
                request.metadata_field.append("signature_def")
            request.model_spec.SetInParent()
            self.assert_model_spec_errors(call, request, request.model_spec)
        request = inference_pb2.MultiInferenceRequest()
        call = self.stub.MultiInference
        self.assert_fails(
            call, request, _INVALID, "ModelSpec has no name specified."
        )
        self.assert_model_spec_errors(
            call, request, request.tasks.add().model_spec
        )

    def assert_model_spec_errors(self, call, request, model_spec):
        self.assert_fails(
            call, request, _INVALID, "ModelSpec has no name specified."
        )
        model_spec.name = "foo"
        self.assert_fails(
            call,
            request,
            _NOT_FOUND,
            "Servable not found for request: Latest(foo)",
        )
        model_spec.version.value = 99
        self.assert_fails(
            call,
            request,
            _NOT_FOUND,
            "Servable not found for request: Specific(foo, 99)",
        )
        model_spec.name = "linear"
        self.assert_fails(
            call,
            request,
            _NOT_FOUND,
            "Servable not found for request: Specific(linear, 99)",
        )
        model_spec.version_label = "x"
        self.assert_fails(
            call,
            request,
            _INVALID,
            "Unrecognized servable version label: x",
        )

    def test_codes_of_the_session(self):
        """Each class of error is the code of the same number."""
        for request, code, text in (
            (
                predict_request({"x": np.float64([1])}),
                _INVALID,
                "Expects arg[0] to be float but double is provided",
            ),
            (
                predict_request({}, "x"),
                grpc.StatusCode.FAILED_PRECONDITION,
                'Serving signature key "x" not found.',
            ),
        ):
            self.assert_fails(self.stub.Predict, request, code, text)
        request = inference_pb2.MultiInferenceRequest()
        request.tasks.add(method_name="else").model_spec.name = "linear"
        self.assert_fails(
            self.stub.MultiInference,
            request,
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported signature method_name: else",
        )

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
        # 27 bytes, then 332 characters of 3 bytes; the next one is cut.
        name = "乐" * 2000
        self.assert_fails(
            self.stub.Predict,
            predict_request({}, name),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "' + name[:333] + "...TRUNCATED",
        )

    def test_metadata(self):
        """Tools ask for names, types and shapes of the signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        call = self.stub.GetModelMetadata
        request.model_spec.name = "linear"
        self.assert_fails(
            call,
            request,
            _INVALID,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
        request.metadata_field.extend(["signature_def", "weights"])
        self.assert_fails(
            call, request, _INVALID, "Metadata field weights is not supported"
        )
        request.metadata_field[1] = "signature_def"
        request.model_spec.version_label = "stable"
        response = call(request)
        self.assertEqual(response.model_spec.name, "linear")
        self.assertEqual(response.model_spec.version.value, 1)
        self.assertEqual(response.model_spec.signature_name, "")
        self.assertEqual(response.model_spec.version_label, "")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        self.assertTrue(response.metadata["signature_def"].Unpack(signatures))
        signature = signatures.signature_def["with_default"]
        self.assertCountEqual(signature.inputs, ["x", "offset"])
        self.assertEqual(
            signature.inputs["x"].dtype, tf.float32.as_datatype_enum
        )
        # TensorFlow Serving 2.20 does not tell default values.
        self.assertEmpty(signature.defaults)
        # The model itself keeps them.
        response = self.stub.Predict(
            predict_request({"x": [2.0]}, "with_default")
        )
        self.assertEqual(list(response.outputs["y"].float_val), [13.0])

    def test_status(self):
        """All versions, highest first; deployment scripts wait for them."""
        request = get_model_status_pb2.GetModelStatusRequest()
        call = self.models.GetModelStatus
        self.assert_fails(call, request, _INVALID, "Missing ModelSpec")
        request.model_spec.name = "linear"
        request.model_spec.version_label = "ignored"
        expected = text_format.Parse(
            """
            model_version_status { version: 2 state: AVAILABLE
                                   status { error_code: OK } }
            model_version_status { version: 1 state: AVAILABLE
                                   status { error_code: OK } }
            """,
            get_model_status_pb2.GetModelStatusResponse(),
        )
        self.assertEqual(call(request), expected)
        request.model_spec.version.value = 1
        del expected.model_version_status[0]
        self.assertEqual(call(request), expected)
        request.model_spec.version.value = 9
        self.assert_fails(
            call,
            request,
            _NOT_FOUND,
            "Could not find version 9 of model linear",
        )
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "foo"
        self.assert_fails(
            call,
            request,
            _NOT_FOUND,
            "Could not find any versions of model foo",
        )

    def test_reload_config(self):
        """Returns when the new model answers; tells how counters grew."""
        call = self.models.HandleReloadConfigRequest
        self.addCleanup(
            self.manager.set_config, self.make_config("linear", "sums", "slow")
        )
        request = model_management_pb2.ReloadConfigRequest(
            config=self.make_config("linear", "sums", "slow", "linear-again"),
            metric_names=[
                "/tensorflow/serving/request_count",
                "/tensorflow/serving/unknown",
            ],
        )
        response = call(request, timeout=30)
        self.assertEqual(response.status.error_code, 0)
        self.assertTrue(response.HasField("status"))
        self.assertEqual(
            {item.name: item.int64_value_increase for item in response.metric},
            dict.fromkeys(request.metric_names, 0),
        )
        predicted = self.stub.Predict(
            predict_request({"x": [2.0]}, name="linear-again")
        )
        self.assertEqual(list(predicted.outputs["y"].float_val), [3.0])
        self.assert_fails(
            call,
            model_management_pb2.ReloadConfigRequest(),
            _INVALID,
            "ServerModelConfig type not supported by "
            "HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported",
        )
        twice = model_management_pb2.ReloadConfigRequest(
            config=self.make_config("linear", "linear")
        )
        self.assert_fails(
            call,
            twice,
            _INVALID,
            "Illegal to list model linear multiple times in config list",
        )

    def test_reload_tells_by_how_much_a_counter_grew(self):
        """A deployment script reads it there, as from TensorFlow Serving."""
        counting = metrics.Metrics()

        class Manager:
            def set_config(self, config, timeout_seconds):
                counting.record("m", "Predict", "GRPC", "OK", 1.0, 0)
                counting.record("m", "Predict", "GRPC", "OK", 1.0, 0)

        counting.record("m", "Predict", "GRPC", "OK", 1.0, 0)
        core = server_core.ServerCore(Manager(), metrics=counting)
        request = model_management_pb2.ReloadConfigRequest(
            config=self.make_config(),
            metric_names=["/tensorflow/serving/request_count"],
        )
        response = core.reload_config(request)
        self.assertEqual(response.metric[0].int64_value_increase, 2)

    def test_serialize_as_tensor_content(self):
        """Only gRPC answers change: REST has no such form."""
        core = server_core.ServerCore(
            self.manager, serialize_as_tensor_content=True
        )
        request = predict_request({"x": [2.0]})
        for entrypoint, content in (
            ("GRPC", np.float32([3]).tobytes()),
            ("REST", b""),
        ):
            response = core.predict(request, entrypoint=entrypoint)
            self.assertEqual(response.outputs["y"].tensor_content, content)

    def test_check_method_names(self):
        """--enable_signature_method_name_check reaches every call."""
        core = server_core.ServerCore(self.manager, check_method_names=True)
        core.predict(predict_request({"x": [2.0]}))
        request = regression_pb2.RegressionRequest()
        request.model_spec.name = "linear"
        request.model_spec.signature_name = "classify_x_to_y"
        with self.assertRaisesRegex(tf.errors.OpError, "method_name to be"):
            core.regress(request)

    def test_fault_of_the_server(self):
        """The client learns that it was one; the log tells where."""

        class Manager:
            def use(self, model_spec):
                raise KeyError("forgotten")

        core = server_core.ServerCore(Manager())
        with (
            self.assertLogs(server_core.__name__, logging.ERROR) as logs,
            self.assertRaises(tf.errors.InternalError) as raised,
        ):
            core.predict(predict_request())
        self.assertEqual(raised.exception.message, "KeyError: 'forgotten'")
        self.assertIn("Traceback", logs.output[0])

    def test_metrics(self):
        """Names, labels and entrances as in TensorFlow Serving."""
        counting = metrics.Metrics()
        core = server_core.ServerCore(self.manager, metrics=counting)
        core.predict(predict_request({"x": [2.0]}))
        core.predict(predict_request({"x": [2.0]}), entrypoint="REST")
        with self.assertRaises(tf.errors.OpError):
            core.predict(predict_request(name="foo"))
        request = regression_pb2.RegressionRequest()
        request.model_spec.name = "linear"
        request.model_spec.signature_name = "regress_x_to_y"
        core.regress(add_example(add_example(request, 1.0), 2.0))
        lines = counting.text().splitlines()
        for line in (
            'request_count{model_name="linear",status="OK"} 3.0',
            'request_count{model_name="foo",status="NOT_FOUND"} 1.0',
            'request_latency_count{API="Predict",entrypoint="GRPC",'
            'model_name="linear"} 1.0',
            'request_latency_count{API="predict",entrypoint="REST",'
            'model_name="linear"} 1.0',
            'request_latency_count{API="Regress",entrypoint="GRPC",'
            'model_name="linear"} 1.0',
            'runtime_latency_count{API="Predict",model_name="linear",'
            'runtime="TF1"} 2.0',
            'request_example_count_total{model="linear"} 2.0',
        ):
            self.assertIn(f":tensorflow:serving:{line}", lines)

    def test_request_log(self):
        """What it holds can warm up the next version."""
        folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory()), "log"
        )
        log = request_log.RequestLog(folder, sampling_rate=1.0)
        core = server_core.ServerCore(self.manager, request_log=log)
        request = predict_request({"x": [2.0]})
        response = core.predict(request)
        with self.assertRaises(tf.errors.OpError):
            core.predict(predict_request(name="foo"))
        regress = regression_pb2.RegressionRequest()
        regress.model_spec.name = "linear"
        regress.model_spec.signature_name = "regress_x_to_y"
        core.regress(add_example(regress, 1.0))
        multi = inference_pb2.MultiInferenceRequest()
        task = multi.tasks.add(method_name=_REGRESS)
        task.model_spec.CopyFrom(regress.model_spec)
        core.multi_inference(add_example(multi, 1.0))
        log.close()
        [path] = folder.glob("*.tfrecord")
        logs = [
            prediction_log_pb2.PredictionLog.FromString(record)
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        ]
        self.assertEqual(
            [item.WhichOneof("log_type") for item in logs],
            ["predict_log", "regress_log", "multi_inference_log"],
        )
        self.assertEqual(logs[0].predict_log.request, request)
        self.assertEqual(logs[0].predict_log.response, response)
        self.assertEqual(logs[0].log_metadata.model_spec, response.model_spec)
        self.assertEqual(logs[2].multi_inference_log.request, multi)

    def watch_predict(self):
        """The list of models that requests asked for, as they begin to run."""
        asked = []
        predict = self.core.predict

        def watched_predict(request, **options):
            asked.append(request.model_spec.name)
            return predict(request, **options)

        self.core.predict = watched_predict
        self.addCleanup(delattr, self.core, "predict")
        return asked

    def hold_thread(self, asked):
        """Keeps the server's one thread busy until a deadline."""
        call = self.stub.Predict.future(
            predict_request(
                {"start": np.int64(0)}, "count_for_ever", name="slow"
            ),
            timeout=0.6,
        )
        while not asked:
            self.assertFalse(call.done())
            time.sleep(0.01)
        return call

    def test_deadline_passes_in_the_queue(self):
        """Work for callers who are gone would delay those who wait."""
        asked = self.watch_predict()
        first = self.hold_thread(asked)
        self.assert_fails(
            self.stub.Predict,
            predict_request({"x": [2.0]}),
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "Deadline Exceeded",
            timeout=0.05,
        )
        self.assertEqual(
            first.exception().code(), grpc.StatusCode.DEADLINE_EXCEEDED
        )
        self.stub.Predict(predict_request({"x": [2.0]}), timeout=30)
        # The second one was never run.
        self.assertEqual(asked, ["slow", "linear"])

    def test_cancelled_in_the_queue(self):
        """A user who closed the page needs no answer."""
        asked = self.watch_predict()
        first = self.hold_thread(asked)
        second = self.stub.Predict.future(predict_request({"x": [2.0]}))
        time.sleep(0.1)
        second.cancel()
        self.assertEqual(
            first.exception().code(), grpc.StatusCode.DEADLINE_EXCEEDED
        )
        self.stub.Predict(predict_request({"x": [2.0]}), timeout=30)
        self.assertEqual(asked, ["slow", "linear"])

    def test_text_of_the_deadline(self):
        """Seen by clients whose own clock is behind."""
        with self.assertRaises(tf.errors.DeadlineExceededError) as raised:
            self.core.predict(
                predict_request(
                    {"start": np.int64(0)}, "count_for_ever", name="slow"
                ),
                timeout_seconds=0.05,
            )
        self.assertEqual(
            raised.exception.message, "Timed out waiting for notification"
        )


if __name__ == "__main__":
    tf.test.main()
