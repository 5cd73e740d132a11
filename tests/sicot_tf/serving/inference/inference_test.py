import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.inference import inference
from sicot_tf.serving.inference import servable
from sicot_tf.serving.versions import warmup
from tests.helpers import serving_models

_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"
_InvalidArgument = tf.errors.InvalidArgumentError
_FailedPrecondition = tf.errors.FailedPreconditionError


def predict_request(inputs, signature="", output_filter=()):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def example(**features):
    proto = tf.train.Example()
    for name, value in features.items():
        proto.features.feature[name].float_list.value.append(value)
    return proto


def fill_examples(request, values):
    request.input.example_list.SetInParent()
    for value in values:
        request.input.example_list.examples.append(example(x=value))
    return request


def classify_request(signature="", values=(1.0,)):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    return fill_examples(request, values)


def regress_request(signature="", values=(1.0,)):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    return fill_examples(request, values)


def multi_request(tasks, values=(1.0,), name="m"):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method_name in tasks:
        task = request.tasks.add(method_name=method_name)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return fill_examples(request, values)


def write_odd_signatures(directory):
    """Signatures that no exporter of TensorFlow would write."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="examples")
        other = v1.placeholder(tf.string, [None], name="other")
        size = tf.shape(examples)[0]
        infos = {
            name: v1.saved_model.utils.build_tensor_info(tensor)
            for name, tensor in {
                "examples": examples,
                "other": other,
                "words": tf.fill([size, 2], "a"),
                "pairs": tf.fill([size, 2], 1.0),
                "triples": tf.fill([size, 3], 1.0),
                "vector": tf.fill([size], 1.0),
                "counts": tf.fill([size, 2], 1),
                "counts_vector": tf.fill([size], 1),
                "two_rows": tf.fill([2, 2], 1.0),
                "two_numbers": tf.fill([2], 1.0),
                "pixels": tf.io.decode_jpeg(examples[0]),
                "other_vector": tf.fill([tf.shape(other)[0]], 1.0),
            }.items()
        }

        def signature(method_name, inputs, outputs):
            return meta_graph_pb2.SignatureDef(
                method_name=method_name,
                inputs={key: infos[name] for key, name in inputs.items()},
                outputs={key: infos[name] for key, name in outputs.items()},
            )

        one = {"inputs": "examples"}
        signatures = {
            name: signature(_CLASSIFY, inputs, outputs)
            for name, inputs, outputs in (
                ("no_input_names", {"x": "examples"}, {"scores": "pairs"}),
                (
                    "three_outputs",
                    one,
                    dict(scores="pairs", a="pairs", b="pairs"),
                ),
                ("no_output_names", one, {"a": "pairs"}),
                ("two_inputs", one | {"b": "other"}, {"scores": "pairs"}),
                ("flat_scores", one, {"scores": "vector"}),
                ("integer_scores", one, {"scores": "counts"}),
                ("two_score_rows", one, {"scores": "two_rows"}),
                ("widths", one, {"classes": "words", "scores": "triples"}),
            )
        } | {
            name: signature(_REGRESS, inputs, outputs)
            for name, inputs, outputs in (
                ("r_no_output_names", one, {"y": "vector"}),
                ("r_two_outputs", one, {"outputs": "vector", "b": "vector"}),
                ("r_pairs", one, {"outputs": "pairs"}),
                ("r_two_numbers", one, {"outputs": "two_numbers"}),
                ("r_integers", one, {"outputs": "counts_vector"}),
                ("r_good", one, {"outputs": "vector"}),
                (
                    "r_other_input",
                    {"inputs": "other"},
                    {"outputs": "other_vector"},
                ),
                ("serving_default", one, {"outputs": "vector"}),
            )
        }
        signatures["unknown_method"] = signature("else", one, {"y": "vector"})
        signatures["picture"] = signature(
            "tensorflow/serving/predict", one, {"pixels": "pixels"}
        )
        signatures["same_output_twice"] = signature(
            "tensorflow/serving/predict", one, {"a": "vector", "b": "vector"}
        )
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


class InferenceTestCase(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        write_odd_signatures(cls.root / "odd")
        cls.odd = servable.Servable("odd", 1, cls.root / "odd")
        cls.linear = servable.Servable(
            "half_plus_two", 5, serving_models.saved_model("half_plus_two")
        )
        cls.sums = servable.Servable(
            "three_sums", 3, serving_models.saved_model("three_sums")
        )

    def assert_fails(self, error_class, text, function, *arguments, **options):
        """The class is the code; `text` is what the message has to name."""
        with self.assertRaisesRegex(error_class, text):
            function(*arguments, **options)


class PredictTest(InferenceTestCase):
    def assert_refused(self, error_class, text, request, model=None):
        self.assert_fails(
            error_class, text, inference.predict, model or self.sums, request
        )

    def test_answer(self):
        """y = x / 2 + 2; the version and the signature are filled in."""
        request = predict_request({"x": np.float32([1, 4])})
        request.model_spec.version_label = "stable"
        response = inference.predict(self.linear, request)
        self.assertEqual(response.model_spec.name, "m")
        self.assertEqual(response.model_spec.signature_name, "serving_default")
        self.assertEqual(response.model_spec.version.value, 5)
        self.assertEqual(response.model_spec.version_label, "")
        self.assertEqual(list(response.outputs), ["y"])
        self.assertEqual(list(response.outputs["y"].float_val), [2.5, 4.0])
        self.assertEqual(response.outputs["y"].tensor_content, b"")

    def test_all_models_equal_the_session(self):
        """Every type, form and kind of export goes through unchanged."""
        v1 = tf.compat.v1
        for name, signature in (
            ("keras", "serving_default"),
            ("three_sums", "two_inputs"),
            ("three_sums", "to_scalar"),
            ("strings", "serving_default"),
            ("all_types", "serving_default"),
        ):
            directory = serving_models.saved_model(name)
            inputs = serving_models.example_inputs(name, signature)
            model = servable.Servable(name, 1, directory)
            response = inference.predict(
                model, predict_request(inputs, signature)
            )
            with tf.Graph().as_default(), v1.Session() as session:
                graph = v1.saved_model.loader.load(
                    session, ["serve"], str(directory)
                )
                definition = graph.signature_def[signature]
                expected = session.run(
                    {a: info.name for a, info in definition.outputs.items()},
                    {
                        definition.inputs[alias].name: value
                        for alias, value in inputs.items()
                    },
                )
            self.assertCountEqual(response.outputs, expected)
            for alias, value in expected.items():
                with self.subTest(name=name, alias=alias):
                    received = tf.make_ndarray(response.outputs[alias])
                    value = np.asarray(value)
                    self.assertEqual(received.dtype, value.dtype)
                    self.assertEqual(received.tolist(), value.tolist())

    def test_output_filter(self):
        """Only the wanted outputs travel; wrong ones are named."""
        inputs = {"x": np.ones((1, 3), np.float32)}
        response = inference.predict(
            self.sums, predict_request(inputs, output_filter=["total"])
        )
        self.assertEqual(list(response.outputs), ["total"])
        for wrong in (["total", "y"], ["total", "total"]):
            self.assert_refused(
                _InvalidArgument,
                f"{wrong[0]}.*{wrong[1]}",
                predict_request(inputs, output_filter=wrong),
            )

    def test_two_names_of_one_output(self):
        """An exporter may give a tensor two names."""
        response = inference.predict(
            self.odd, predict_request({"inputs": [b""]}, "same_output_twice")
        )
        self.assertEqual(list(response.outputs["a"].float_val), [1.0])
        self.assertEqual(list(response.outputs["b"].float_val), [1.0])

    def test_as_tensor_content(self):
        """--enable_serialization_as_tensor_content."""
        response = inference.predict(
            self.linear, predict_request({"x": [1.0, 4.0]}), as_content=True
        )
        self.assertEqual(
            response.outputs["y"].tensor_content,
            np.float32([2.5, 4.0]).tobytes(),
        )
        self.assertEmpty(response.outputs["y"].float_val)

    def test_unknown_signature(self):
        """The init op of a SavedModel is no signature to call."""
        for key in ("x", "__saved_model_init_op"):
            self.assert_refused(
                _FailedPrecondition,
                f'"{key}" not found',
                predict_request({}, key),
            )

    def test_wrong_inputs(self):
        """Those that are missing and those too many are told."""
        for inputs, text in (
            ({"a": [1.0]}, "Missing but required: {b}"),
            ({"d": [1.0], "c": [1.0], "a": [1.0]}, "Sent extra: {c,d}"),
            ({}, "Missing but required: {a,b}"),
            ({"a": [1.0], "z": [1.0]}, "required: {b}. Sent extra: {z}"),
        ):
            self.assert_refused(
                _InvalidArgument, text, predict_request(inputs, "two_inputs")
            )

    def test_defaults_of_the_signature(self):
        """y = x / 2 + 2 + offset, which is 10 if it is left out."""
        for inputs, expected in (
            ({"x": [2.0]}, 13.0),
            ({"x": [2.0], "offset": np.float32(1)}, 4.0),
        ):
            response = inference.predict(
                self.linear, predict_request(inputs, "with_default")
            )
            self.assertEqual(list(response.outputs["y"].float_val), [expected])
        for inputs in ({"x": [2.0], "z": [1.0]}, {"offset": np.float32(1)}):
            self.assert_refused(
                _InvalidArgument,
                "Expected the inputs {offset,x}",
                predict_request(inputs, "with_default"),
                self.linear,
            )

    def test_unreadable_tensor(self):
        """Eight bytes are not three floats."""
        request = predict_request({"x": [1.0, 2.0]})
        request.inputs["x"].tensor_shape.dim[0].size = 3
        request.inputs["x"].tensor_content = bytes(8)
        self.assert_refused(
            _InvalidArgument, "tensor parsing error: x", request
        )

    def test_wrong_type(self):
        """Nothing is converted in silence."""
        self.assert_refused(
            _InvalidArgument,
            "to be float but double",
            predict_request({"x": np.float64([[1, 2, 3]])}),
        )

    def test_wrong_shape(self):
        """Not compared with the signature: what fails is the first op."""
        with self.assertRaisesRegex(_InvalidArgument, r"\[3\] vs. \[1,2\]"):
            inference.predict(
                self.sums, predict_request({"x": np.ones((1, 2), np.float32)})
            )
        # One axis instead of two: the ops take it, so the server does.
        response = inference.predict(
            self.sums,
            predict_request({"x": np.ones((1, 1), np.float32)}),
        )
        self.assertEqual(list(response.outputs["total"].float_val), [111.0])

    def test_bad_picture(self):
        """A photo that the graph can't decode is the client's fault."""
        self.assert_refused(
            _InvalidArgument,
            "^Unknown image file format(.|\n)*{{node DecodeJpeg}}",
            predict_request({"inputs": [b"GIF?"]}, "picture"),
            self.odd,
        )

    def test_method_name(self):
        """--enable_signature_method_name_check."""
        request = predict_request({"inputs": [b""]}, "unknown_method")
        inference.predict(self.odd, request)
        self.assert_fails(
            tf.errors.InternalError,
            "method_name",
            inference.predict,
            self.odd,
            request,
            check_method_name=True,
        )

    def test_runtime_is_told(self):
        """Monitoring tells TensorFlow's time from the server's."""
        seconds = []
        inference.predict(
            self.linear,
            predict_request({"x": [1.0]}),
            record_runtime=seconds.append,
        )
        self.assertLen(seconds, 1)
        self.assertGreater(seconds[0], 0)


class ExamplesTest(InferenceTestCase):
    """Classify, Regress and MultiInference."""

    def classes(self, result):
        return [
            [(item.label, item.score) for item in row.classes]
            for row in result.classifications
        ]

    def values(self, result):
        return [item.value for item in result.regressions]

    def test_classify(self):
        """y1 = x / 2 + 2 is the score of `positive`, -y1 of `negative`."""
        response = inference.classify(
            self.linear, classify_request("classify_x_to_sign", [2.0, -6.0])
        )
        self.assertEqual(
            self.classes(response.result),
            [
                [("negative", -3.0), ("positive", 3.0)],
                [("negative", 1.0), ("positive", -1.0)],
            ],
        )
        self.assertEqual(
            response.model_spec.signature_name, "classify_x_to_sign"
        )
        self.assertEqual(response.model_spec.version.value, 5)
        for signature, expected in (
            ("classify_x_to_y", [[("", 3.0)]]),
            ("classes_only", [[("negative", 0.0), ("positive", 0.0)]]),
        ):
            response = inference.classify(
                self.linear, classify_request(signature, [2.0])
            )
            self.assertEqual(self.classes(response.result), expected)

    def test_regress(self):
        """y1 = x / 2 + 2, of shape `[batch, 1]`."""
        response = inference.regress(
            self.linear, regress_request("regress_x_to_y", [2.0, -6.0])
        )
        self.assertEqual(self.values(response.result), [3.0, -1.0])
        self.assertEqual(response.model_spec.signature_name, "regress_x_to_y")
        response = inference.regress(self.odd, regress_request())
        self.assertEqual(response.model_spec.signature_name, "serving_default")

    def test_context(self):
        """What all examples share is sent once; an example overrides it."""
        request = regress_request("regress_x_to_y")
        with_context = request.input.example_list_with_context
        with_context.context.CopyFrom(example(x=2.0))
        with_context.examples.extend([example(), example(x=4.0)])
        response = inference.regress(self.linear, request)
        self.assertEqual(self.values(response.result), [3.0, 4.0])

    def test_no_examples(self):
        """Whichever way nothing was sent."""
        nothing = classify_request("classify_x_to_y", [])
        nothing.ClearField("input")
        only_context = classify_request("classify_x_to_y")
        only_context.input.example_list_with_context.context.SetInParent()
        empty = classify_request("classify_x_to_y", [])
        for request in (nothing, only_context, empty):
            self.assert_fails(
                _InvalidArgument,
                "Input is empty",
                inference.classify,
                self.linear,
                request,
            )

    def test_signatures_that_do_not_fit(self):
        """Unknown, for another call, or with answers of another shape."""
        for key, error_class in (
            ("x", _InvalidArgument),
            ("__saved_model_init_op", _InvalidArgument),
            ("two_inputs", _InvalidArgument),
            ("three_outputs", _InvalidArgument),
            ("no_input_names", _FailedPrecondition),
            ("no_output_names", _FailedPrecondition),
            ("flat_scores", _InvalidArgument),
            ("integer_scores", _InvalidArgument),
            ("two_score_rows", _InvalidArgument),
            ("widths", _InvalidArgument),
            ("r_two_outputs", _InvalidArgument),
            ("r_no_output_names", _FailedPrecondition),
            ("r_pairs", _InvalidArgument),
            ("r_two_numbers", _InvalidArgument),
            ("r_integers", _InvalidArgument),
        ):
            is_regress = key.startswith("r_")
            with self.subTest(key=key):
                self.assert_fails(
                    error_class,
                    "Expected|No signature",
                    inference.regress if is_regress else inference.classify,
                    self.odd,
                    (regress_request if is_regress else classify_request)(key),
                )

    def test_method_names(self):
        """--enable_signature_method_name_check."""
        for call, request, method_name in (
            (inference.classify, classify_request("r_good"), _CLASSIFY),
            (inference.regress, regress_request("flat_scores"), _REGRESS),
        ):
            self.assert_fails(
                _InvalidArgument,
                f"with method_name {method_name}",
                call,
                self.odd,
                request,
                check_method_name=True,
            )

    def test_multi_inference(self):
        """One run of the graph for all: y1 and y1 + 1 and the classes."""
        request = multi_request(
            [
                ("regress_x_to_y2", _REGRESS),
                ("classify_x_to_sign", _CLASSIFY),
                ("regress_x_to_y", _REGRESS),
            ],
            [2.0, -6.0],
        )
        runs = []
        response = inference.multi_inference(
            self.linear, request, record_runtime=runs.append
        )
        self.assertLen(runs, 1)
        second, classes, first = response.results
        self.assertEqual(self.values(second.regression_result), [4.0, 0.0])
        self.assertEqual(self.values(first.regression_result), [3.0, -1.0])
        self.assertEqual(
            self.classes(classes.classification_result)[0],
            [("negative", -3.0), ("positive", 3.0)],
        )
        self.assertEqual(second.model_spec.signature_name, "regress_x_to_y2")
        self.assertEqual(second.model_spec.version.value, 5)

    def test_multi_inference_errors(self):
        """Tasks that don't go together."""
        good = ("regress_x_to_y", _REGRESS)
        other_name = multi_request([good, ("regress_x_to_y2", _REGRESS)])
        other_name.tasks[1].model_spec.name = "n"
        no_name = multi_request([good, ("regress_x_to_y2", _REGRESS)])
        no_name.tasks[1].model_spec.name = ""
        other_method = multi_request([("serving_default", "else")])
        for request, error_class, text in (
            (other_name, _InvalidArgument, "'m', 'n'"),
            (no_name, _InvalidArgument, "'', 'm'"),
            (multi_request([]), _InvalidArgument, "received 0"),
            (multi_request([good, good]), _InvalidArgument, "Duplicate"),
            (multi_request([("x", _REGRESS)]), _InvalidArgument, "name: x"),
            (other_method, tf.errors.UnimplementedError, "else"),
            (multi_request([good], values=[]), _InvalidArgument, "is empty"),
        ):
            with self.subTest(text=text):
                self.assert_fails(
                    error_class,
                    text,
                    inference.multi_inference,
                    self.linear,
                    request,
                )

    def test_multi_inference_on_several_input_tensors(self):
        """TensorFlow 2 saves each signature with an input of its own."""
        response = inference.multi_inference(
            self.odd,
            multi_request(
                [("r_good", _REGRESS), ("r_other_input", _REGRESS)], [1.0, 2.0]
            ),
        )
        for result in response.results:
            self.assertEqual(self.values(result.regression_result), [1.0, 1.0])


class WarmUpTest(InferenceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = cls.root / "warm"
        shutil.copytree(
            serving_models.saved_model("half_plus_two"), cls.directory
        )
        cls.path = cls.directory / servable.WARMUP_FILE
        cls.path.parent.mkdir()
        cls.model = servable.Servable("m", 1, cls.directory)

    def write(self, *logs):
        with tf.io.TFRecordWriter(str(self.path)) as writer:
            for log in logs:
                writer.write(log.SerializeToString())

    def predict_log(self, signature=""):
        return prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(
                request=predict_request({"x": [1.0]}, signature)
            )
        )

    def test_no_file(self):
        """Warm-up requests are optional."""
        self.assertEqual(warmup.warm_up(self.linear), 0)

    def test_every_kind_of_record(self):
        """Each runs as often as wanted; a record of nothing is nothing."""
        log = prediction_log_pb2.PredictionLog
        self.write(
            self.predict_log(),
            log(
                classify_log=prediction_log_pb2.ClassifyLog(
                    request=classify_request("classify_x_to_y")
                )
            ),
            log(
                regress_log=prediction_log_pb2.RegressLog(
                    request=regress_request("regress_x_to_y")
                )
            ),
            log(
                multi_inference_log=prediction_log_pb2.MultiInferenceLog(
                    request=multi_request([("regress_x_to_y", _REGRESS)])
                )
            ),
            log(),
        )
        runs = []
        run = self.model.run
        self.addCleanup(setattr, self.model, "run", run)
        self.model.run = lambda *arguments: (
            runs.append(arguments),
            run(*arguments),
        )[1]
        self.assertEqual(warmup.warm_up(self.model), 5)
        self.assertLen(runs, 4)
        self.assertEqual(warmup.warm_up(self.model, num_iterations=3), 5)
        self.assertLen(runs, 16)

    def test_errors_fail_the_load(self):
        """A record that is skipped would hide a broken signature."""
        log = prediction_log_pb2.PredictionLog
        unsupported = log(session_run_log=prediction_log_pb2.SessionRunLog())
        for record, error_class, text in (
            (self.predict_log("x"), _FailedPrecondition, '"x" not found'),
            (unsupported, tf.errors.UnimplementedError, "session_run_log"),
        ):
            self.write(record)
            self.assert_fails(error_class, text, warmup.warm_up, self.model)

    def test_damaged_files(self):
        """The text tells what to look at."""
        self.write(self.predict_log())
        whole = self.path.read_bytes()
        for content in (b"no TFRecord file at all", whole[:-5]):
            self.path.write_bytes(content)
            self.assert_fails(
                tf.errors.DataLossError,
                "record at 0.*verify your warmup data is in TFRecord format",
                warmup.warm_up,
                self.model,
            )
        with tf.io.TFRecordWriter(str(self.path)) as writer:
            writer.write(b"\xff")
        self.assert_fails(
            _InvalidArgument,
            f"record 1 of {self.path}",
            warmup.warm_up,
            self.model,
        )

    def test_too_many_records(self):
        """A log that was copied whole would keep the version away."""
        self.write(*[prediction_log_pb2.PredictionLog()] * 1001)
        self.assert_fails(_InvalidArgument, "1000", warmup.warm_up, self.model)


if __name__ == "__main__":
    tf.test.main()
