"""Whether what TensorFlow 2.21 exports runs under TensorFlow 2.20.0.

TensorFlow Serving 2.20 stands on TensorFlow 2.20. Google's program can't be
run here, but the TensorFlow under it can: every export of this project, with
one model of each other kind (TensorFlow 1, Keras, tf.Module) and the folders
that are named, is loaded into a session by both versions. Both answer the
stored warm-up requests and others. Texts and whole numbers have to be the
same, floating-point numbers within --tolerance of the largest one in their
tensor; the table shows how many tensors are the same bit for bit.
Version 2.20 reads models.config with tensorflow-serving-api 2.20.0 as well.

The environment (--environment) is made by pip if it isn't there.

examples:
  python -m benchmarks.server.tensorflow_2_20
  python -m benchmarks.server.tensorflow_2_20 saved_models/sicot/1
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

_CONFIG = pathlib.Path(__file__).parents[2] / "saved_models" / "models.config"
_PACKAGES = ("tensorflow==2.20.0", "tensorflow-serving-api==2.20.0")
_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_IMAGE_SIZE, _NUM_CLASSES, _NUM_PHOTOS = 224, 1000, 6
_BACKBONES = ("SmallCNN", "EfficientNetLite0", "ResNet50", "MobileNetV2")
# First argument of the run inside each environment.
_ANSWER = "--answer"


def main() -> None:
    """Makes the models, runs both versions, compares."""
    if sys.argv[1:2] == [_ANSWER]:
        _answer_all(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
        return
    arguments = _parse_arguments()
    python = _make_environment(arguments.environment)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _write_models(folder / "models", arguments.saved_models)
        for version, interpreter in (
            ("2.21", sys.executable),
            ("2.20", python),
        ):
            subprocess.run(
                [interpreter, __file__, _ANSWER, folder, folder / version],
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
                check=True,
            )
        is_good = _compare(
            folder / "2.21", folder / "2.20", arguments.tolerance
        )
    print("All answers agree." if is_good else "Some answers differ.")
    sys.exit(not is_good)


def _make_environment(directory: pathlib.Path) -> pathlib.Path:
    """The Python of the environment."""
    python = directory / "bin" / "python"
    if not python.exists():
        print(f"Installing {' '.join(_PACKAGES)} into {directory} ...")
        venv.create(directory, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *_PACKAGES], check=True)
    return python


def _write_models(folder: pathlib.Path, others: list[pathlib.Path]) -> None:
    """`<model>/` and `<model>.requests`, TFRecords of PredictionLog."""
    from tests.helpers import serving_models

    for name in _BACKBONES:
        _export(name, folder / name / "1")
        _write_requests(folder / f"{name}.requests", _photo_requests())
    for directory in others:
        name = f"{directory.parent.name}-{directory.name}"
        shutil.copytree(directory, folder / name / "1")
        _write_requests(folder / f"{name}.requests", _photo_requests())
    for name in serving_models.NAMES:
        source = serving_models.saved_model(name)
        shutil.copytree(source, folder / name / "1")
        requests = []
        for signature in _signature_names(source):
            try:
                inputs = serving_models.example_inputs(name, signature)
            except KeyError:
                continue
            requests.append((signature, inputs))
        _write_requests(folder / f"{name}.requests", requests)
    # tf.Example goes to these as a text.
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(3)
    inputs = {"inputs": np.array([example.SerializeToString()] * 2, object)}
    _write_requests(
        folder / "half_plus_two.requests",
        [
            ("serving_default", {"x": np.float32([1, -2.5, 1e-7])}),
            *(
                (signature, inputs)
                for signature in (
                    "regress_x_to_y",
                    "classify_x_to_y",
                    "classify_x_to_sign",
                )
            ),
        ],
    )


def _export(backbone: str, directory: pathlib.Path) -> None:
    """A model of this project with the weights that training begins with."""
    from sicot_tf.model import sicot
    from sicot_tf.model.backbones import backbones
    from sicot_tf.serving import saved_model

    model = backbones.build_backbone(
        backbone, image_size=_IMAGE_SIZE, weights="none"
    )
    features = keras.Model({"image": model.inputs[0]}, model.outputs[0])
    classifier = sicot.build_classifier(_NUM_CLASSES, model.output_shape[-1])
    # Zero at the beginning: all products would be equal.
    random = np.random.default_rng(0)
    for variable in classifier.variables:
        shape = variable.shape
        variable.assign(random.normal(size=shape).astype(np.float32))
    saved_model.write(
        directory,
        image_features=features,
        classifier=classifier,
        sku_ids=[f"sku {label}" for label in range(_NUM_CLASSES)],
        image_size=_IMAGE_SIZE,
        export_info={},
        warmup_image=_make_photo(0),
    )


def _make_photo(seed: int) -> bytes:
    """Soft noise in another size for each seed, JPEG or PNG."""
    size = (300 + 37 * seed, 400 - 23 * seed)
    noise = np.random.default_rng(seed).uniform(0, 255, (9, 9, 3))
    pixels = tf.cast(tf.image.resize(noise, size, "bicubic"), tf.uint8)
    encode = tf.io.encode_png if seed % 2 else tf.io.encode_jpeg
    return encode(pixels).numpy()


def _photo_requests() -> list[tuple[str, dict[str, np.ndarray]]]:
    photos = np.array(
        [_make_photo(seed) for seed in range(_NUM_PHOTOS)], object
    )
    return [
        (signature, {"image_bytes": photos})
        for signature in ("serving_default", "embedding")
    ]


def _write_requests(
    path: pathlib.Path, requests: list[tuple[str, dict[str, np.ndarray]]]
) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature_name, inputs in requests:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature_name
            for name, values in inputs.items():
                tensor = tf.make_tensor_proto(values)
                request.inputs[name].CopyFrom(tensor)
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def _signature_names(directory: pathlib.Path) -> list[str]:
    meta_graph = tf.compat.v1.saved_model.loader
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        return sorted(
            meta_graph.load(session, ["serve"], str(directory)).signature_def
        )


def _answer_all(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Runs in either version: answers of each model as TFRecords."""
    text_format.Parse(
        _CONFIG.read_text("utf-8"), model_server_config_pb2.ModelServerConfig()
    )
    output.mkdir()
    (output / "version.json").write_text(json.dumps(tf.__version__))
    for directory in sorted((folder / "models").glob("*/1")):
        name = directory.parent.name
        paths = [folder / "models" / f"{name}.requests"]
        if (directory / _WARMUP_FILE).exists():
            paths.insert(0, directory / _WARMUP_FILE)
        logs = []
        for record in tf.data.TFRecordDataset([str(path) for path in paths]):
            logs.append(
                prediction_log_pb2.PredictionLog.FromString(record.numpy())
            )
        with (
            tf.compat.v1.Session(graph=tf.Graph()) as session,
            tf.io.TFRecordWriter(str(output / name)) as writer,
        ):
            signatures = tf.compat.v1.saved_model.loader.load(
                session, ["serve"], str(directory)
            ).signature_def
            for log in logs:
                response = _answer(session, signatures, log)
                writer.write(response.SerializeToString())


def _answer(session, signatures, log) -> predict_pb2.PredictResponse:
    """As TensorFlow Serving answers Predict."""
    request = log.predict_log.request
    signature = signatures[request.model_spec.signature_name]
    outputs = session.run(
        {name: info.name for name, info in signature.outputs.items()},
        {
            signature.inputs[name].name: tf.make_ndarray(tensor)
            for name, tensor in request.inputs.items()
        },
    )
    response = predict_pb2.PredictResponse()
    response.model_spec.CopyFrom(request.model_spec)
    for name, values in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    return response


def _compare(
    expected: pathlib.Path, received: pathlib.Path, tolerance: float
) -> bool:
    """Prints a line for each model."""
    versions = [
        json.loads((each / "version.json").read_text())
        for each in (expected, received)
    ]
    print(
        f"TensorFlow {versions[0]} and {versions[1]}\n"
        f"{'model':<24}{'requests':>9}{'tensors':>9}{'same bits':>11}"
        f"{'largest difference':>20}"
    )
    is_good = True
    for path in sorted(expected.iterdir()):
        if path.suffix == ".json":
            continue
        pairs = zip(
            _responses(path), _responses(received / path.name), strict=True
        )
        num_requests = num_tensors = num_same = 0
        largest = 0.0
        for first, second in pairs:
            num_requests += 1
            is_good &= set(first.outputs) == set(second.outputs)
            for name, tensor in first.outputs.items():
                a = tf.make_ndarray(tensor)
                b = tf.make_ndarray(second.outputs[name])
                num_tensors += 1
                if a.dtype == b.dtype and np.array_equal(a, b):
                    num_same += 1
                elif a.dtype.kind == "f" and a.shape == b.shape:
                    difference = np.max(np.abs(a - b)) / np.max(np.abs(a))
                    largest = max(largest, float(difference))
                else:
                    largest = np.inf
        is_good &= largest <= tolerance
        print(
            f"{path.name:<24}{num_requests:>9}{num_tensors:>9}{num_same:>11}"
            f"{largest:>20.1e}"
        )
    return is_good


def _responses(path: pathlib.Path):
    for record in tf.data.TFRecordDataset(str(path)):
        yield predict_pb2.PredictResponse.FromString(record.numpy())


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "saved_models",
        type=pathlib.Path,
        nargs="*",
        metavar="VERSION",
        help="folder of an exported version, to compare as well",
    )
    parser.add_argument(
        "--environment",
        type=pathlib.Path,
        default=pathlib.Path(".venv", "tensorflow-2.20"),
        help="virtual environment (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-5,
        help="of the largest value of a tensor (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
