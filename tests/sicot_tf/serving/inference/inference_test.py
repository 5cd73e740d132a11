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
                "two_words": tf.fill([2, 2], "a"),
                "two_numbers": tf.fill([2], 1.0),
                "one_number": tf.constant(1.0),
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
                ("flat_classes", one, {"classes": "vector"}),
                ("integer_scores", one, {"scores": "counts"}),
                ("number_classes", one, {"classes": "pairs"}),
                ("two_score_rows", one, {"scores": "two_rows"}),
                ("two_class_rows", one, {"classes": "two_words"}),
                ("widths", one, {"classes": "words", "scores": "triples"}),
            )
        } | {
            name: signature(_REGRESS, inputs, outputs)
            for name, inputs, outputs in (
                ("r_no_input_names", {"x": "examples"}, {"outputs": "vector"}),
                ("r_no_output_names", one, {"y": "vector"}),
                ("r_two_inputs", one | {"b": "other"}, {"outputs": "vector"}),
                ("r_two_outputs", one, {"outputs": "vector", "b": "vector"}),
                ("r_pairs", one, {"outputs": "pairs"}),
                ("r_number", one, {"outputs": "one_number"}),
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
        with self.assertRaises(error_class) as raised:
            function(*arguments, **options)
        self.assertEqual(raised.exception.message, text)


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
        self.assert_refused(
            _InvalidArgument,
            "output tensor alias not found in signature: y Outputs expected "
            "to be in the set {doubled,total}.",
            predict_request(inputs, output_filter=["total", "y"]),
        )
        self.assert_refused(
            _InvalidArgument,
            "duplicate output tensor alias: total",
            predict_request(inputs, output_filter=["total", "total"]),
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
                f'Serving signature key "{key}" not found.',
                predict_request({}, key),
            )

    def test_number_of_inputs(self):
        """Sets are sorted and told in full."""
        self.assert_refused(
            _InvalidArgument,
            "input size does not match signature: 1!=2 len({a}) != len({a,b})."
            " Sent extra: {}. Missing but required: {b}.",
            predict_request({"a": [1.0]}, "two_inputs"),
        )
        self.assert_refused(
            _InvalidArgument,
            "input size does not match signature: 3!=2 len({a,c,d}) != "
            "len({a,b}). Sent extra: {c,d}. Missing but required: {b}.",
            predict_request({"d": [1.0], "c": [1.0], "a": [1.0]}, "two_inputs"),
        )
        self.assert_refused(
            _InvalidArgument,
            "input size does not match signature: 0!=1 len({}) != len({x}). "
            "Sent extra: {}. Missing but required: {x}.",
            predict_request({}),
        )

    def test_wrong_input_name(self):
        """The same number of inputs, one of another name."""
        name = self.sums.signatures["serving_default"].inputs["x"].name
        self.assert_refused(
            _InvalidArgument,
            f"Signature input alias: x(feed name: {name}) not found in request"
            " and no default value provided. Inputs expected to be in the "
            "request {z}, or default input alias set: ",
            predict_request({"z": [1.0]}),
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
        self.assert_refused(
            _InvalidArgument,
            "Inputs contains invalid name. Used request inputs: x, request "
            "input: x,z",
            predict_request({"x": [2.0], "z": [1.0]}, "with_default"),
            self.linear,
        )
        self.assert_refused(
            _InvalidArgument,
            "Signature input alias: x(feed name: x:0) not found in request and "
            "no default value provided. Inputs expected to be in the request "
            "{offset}, or default input alias set: offset",
            predict_request({"offset": np.float32(1)}, "with_default"),
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
        """The text of the session, which clients know."""
        self.assert_refused(
            _InvalidArgument,
            "Expects arg[0] to be float but double is provided",
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
        with self.assertRaises(_InvalidArgument) as raised:
            inference.predict(
                self.odd, predict_request({"inputs": [b"GIF?"]}, "picture")
            )
        self.assertStartsWith(
            raised.exception.message, "Unknown image file format. One of JPEG,"
        )
        self.assertIn("{{node DecodeJpeg}}", raised.exception.message)

    def test_deadline(self):
        """The caller's time stops TensorFlow itself."""
        slow = servable.Servable("slow", 1, serving_models.saved_model("slow"))
        request = predict_request({"start": np.int64(0)}, "count_for_ever")
        for seconds in (0.05, -1.0):
            self.assert_fails(
                tf.errors.DeadlineExceededError,
                "Timed out waiting for notification",
                inference.predict,
                slow,
                request,
                seconds,
            )

    def test_method_name(self):
        """--enable_signature_method_name_check."""
        request = predict_request({"inputs": [b""]}, "unknown_method")
        inference.predict(self.odd, request)
        self.assert_fails(
            tf.errors.InternalError,
            "Expected prediction signature method_name to be one of "
            "{tensorflow/serving/predict, tensorflow/serving/classify, "
            "tensorflow/serving/regress}. Was: else",
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
        for request in (
            nothing,
            only_context,
            classify_request("classify_x_to_y", []),
        ):
            self.assert_fails(
                _InvalidArgument,
                "Input is empty.",
                inference.classify,
                self.linear,
                request,
            )
        self.assert_fails(
            _InvalidArgument,
            "Input is empty.",
            inference.regress,
            self.linear,
            regress_request("regress_x_to_y", []),
        )

    def test_unknown_signature(self):
        """Another text than Predict's."""
        for call, make in (
            (inference.classify, classify_request),
            (inference.regress, regress_request),
        ):
            for key in ("x", "__saved_model_init_op"):
                self.assert_fails(
                    _InvalidArgument,
                    f"No signature was found with the name: {key}",
                    call,
                    self.sums,
                    make(key),
                )

    def test_odd_classify_signatures(self):
        """What a model answers may not fit the call."""
        shape_text = "Expected Tensor shape: [batch_size num_classes] but got "
        for key, text in (
            ("two_inputs", "Expected one input Tensor."),
            ("three_outputs", "Expected one or two output Tensors, found 3"),
            ("flat_scores", shape_text + "[1]"),
            ("flat_classes", shape_text + "[1]"),
            (
                "integer_scores",
                "Expected scores Tensor of DT_FLOAT. Got: DT_INT32",
            ),
            (
                "number_classes",
                "Expected classes Tensor of DT_STRING. Got: DT_FLOAT",
            ),
            (
                "two_score_rows",
                "Expected scores output batch size of 1. Got: 2",
            ),
            (
                "two_class_rows",
                "Expected classes output batch size of 1. Got: 2",
            ),
            (
                "widths",
                "Tensors class and score should match in dim_size(1). Got 2 "
                "vs. 3",
            ),
        ):
            with self.subTest(key=key):
                self.assert_fails(
                    _InvalidArgument,
                    text,
                    inference.classify,
                    self.odd,
                    classify_request(key),
                )
        for key, text in (
            ("no_input_names", "No classification inputs found in SignatureD"),
            (
                "no_output_names",
                "Expected classification signature outputs to contain at least"
                ' one of "classes" or "scores". Signature was: ',
            ),
        ):
            with self.assertRaises(_FailedPrecondition) as raised:
                inference.classify(self.odd, classify_request(key))
            self.assertStartsWith(raised.exception.message, text)

    def test_odd_regress_signatures(self):
        """What a model answers may not fit the call."""
        shape_text = (
            "Expected output Tensor shape to be either [batch_size] or "
            "[batch_size, 1] but got "
        )
        for key, text in (
            ("r_two_inputs", "Expected one input Tensor."),
            ("r_two_outputs", "Expected one output Tensor."),
            ("r_pairs", shape_text + "[1,2]"),
            ("r_number", shape_text + "[]"),
            (
                "r_two_numbers",
                "Input batch size did not match output batch size: 1 vs. 2",
            ),
            (
                "r_integers",
                "Expected output Tensor of DT_FLOAT.  Got: DT_INT32",
            ),
        ):
            with self.subTest(key=key):
                self.assert_fails(
                    _InvalidArgument,
                    text,
                    inference.regress,
                    self.odd,
                    regress_request(key),
                )
        for key, kind in (
            ("r_no_input_names", "inputs"),
            ("r_no_output_names", "outputs"),
        ):
            with self.assertRaises(_FailedPrecondition) as raised:
                inference.regress(self.odd, regress_request(key))
            self.assertStartsWith(
                raised.exception.message,
                f"No regression {kind} found in SignatureDef: ",
            )

    def test_method_names(self):
        """--enable_signature_method_name_check."""
        for call, make, key, method_name, kind, other in (
            (
                inference.classify,
                classify_request,
                "r_good",
                _CLASSIFY,
                "classification",
                _REGRESS,
            ),
            (
                inference.regress,
                regress_request,
                "flat_scores",
                _REGRESS,
                "regression",
                _CLASSIFY,
            ),
        ):
            self.assert_fails(
                _InvalidArgument,
                f"Expected {kind} signature method_name to be {method_name}. "
                f"Was: {other}",
                call,
                self.odd,
                make(key),
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
            self.linear, request, 30.0, record_runtime=runs.append
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
        """Codes and texts of multi_inference.cc."""
        good = ("regress_x_to_y", _REGRESS)
        other_name = multi_request([good, ("regress_x_to_y2", _REGRESS)])
        other_name.tasks[1].model_spec.name = "n"
        no_name = multi_request([good, ("regress_x_to_y2", _REGRESS)])
        no_name.tasks[1].model_spec.name = ""
        for request, error_class, text in (
            (
                other_name,
                _InvalidArgument,
                "All ModelSpecs in a MultiInferenceRequest must access the "
                "same model name.",
            ),
            (
                no_name,
                _InvalidArgument,
                "Found ModelSpec with an empty model name.",
            ),
            (
                multi_request([good, good]),
                _InvalidArgument,
                "Duplicate evaluation of signature: regress_x_to_y",
            ),
            (
                multi_request([("x", _REGRESS)]),
                _InvalidArgument,
                "Requested signature not found in model graph: x",
            ),
            (
                multi_request([("serving_default", "else")]),
                tf.errors.UnimplementedError,
                "Unsupported signature method_name: else",
            ),
            (
                multi_request([good], values=[]),
                _InvalidArgument,
                "Input is empty.",
            ),
        ):
            with self.subTest(text=text):
                self.assert_fails(
                    error_class,
                    text,
                    inference.multi_inference,
                    self.linear,
                    request,
                )
        self.assert_fails(
            _InvalidArgument,
            "Must specify at least one target to fetch or execute.",
            inference.multi_inference,
            self.linear,
            multi_request([]),
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
        for record, error_class, text in (
            (
                self.predict_log("x"),
                _FailedPrecondition,
                'Serving signature key "x" not found.',
            ),
            (
                log(session_run_log=prediction_log_pb2.SessionRunLog()),
                tf.errors.UnimplementedError,
                "Unsupported log_type for warmup: 5",
            ),
            (
                log(
                    predict_streamed_log=prediction_log_pb2.PredictStreamedLog()
                ),
                tf.errors.UnimplementedError,
                "Unsupported log_type for warmup: 7",
            ),
        ):
            self.write(record)
            self.assert_fails(error_class, text, warmup.warm_up, self.model)

    def test_unreadable_record(self):
        """The file is one of TFRecords, its content is not."""
        with tf.io.TFRecordWriter(str(self.path)) as writer:
            writer.write(b"\xff")
        with self.assertRaises(_InvalidArgument) as raised:
            warmup.warm_up(self.model)
        self.assertStartsWith(
            raised.exception.message, "Failed to parse warmup record: "
        )
        self.assertEndsWith(raised.exception.message, f" from {self.path}")

    def test_no_tfrecord_file(self):
        """The text tells what to look at."""
        self.write(self.predict_log())
        for content, text in (
            (b"no TFRecord file at all", "corrupted record at 0"),
            (self.path.read_bytes()[:-5], "truncated record at 0"),
        ):
            self.path.write_bytes(content)
            with self.assertRaises(tf.errors.DataLossError) as raised:
                warmup.warm_up(self.model)
            self.assertStartsWith(raised.exception.message, text)
            self.assertEndsWith(
                raised.exception.message,
                ". Please verify your warmup data is in TFRecord format.",
            )

    def test_too_many_records(self):
        """A log that was copied whole would keep the version away."""
        empty = prediction_log_pb2.PredictionLog()
        self.write(*[empty] * 1000)
        self.assertEqual(warmup.warm_up(self.model), 1000)
        self.write(*[empty] * 1001)
        self.assert_fails(
            _InvalidArgument,
            "Number of warmup records exceeds the maximum (1000) at "
            f"{self.path}",
            warmup.warm_up,
            self.model,
        )


if __name__ == "__main__":
    tf.test.main()
