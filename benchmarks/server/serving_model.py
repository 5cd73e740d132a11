"""The model of serving.py, and runs of it without a server."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.server import serving_processes
from sicot_tf.model.backbones import backbones
from sicot_tf.serving import saved_model
from sicot_tf.serving.inference import servable

_SIGNATURE = "serving_pixels"
_IMAGE_SIZE, _NUM_CLASSES = 224, 1000


def export(directory: pathlib.Path) -> None:
    """One version of the model."""
    backbone = backbones.build_backbone(
        "EfficientNetLite0", image_size=_IMAGE_SIZE, weights="imagenet"
    )
    image_features = keras.Model({"image": backbone.input}, backbone.output)
    [_, dim] = backbone.output_shape
    classifier = keras.layers.Dense(
        _NUM_CLASSES, kernel_initializer=keras.initializers.GlorotUniform(0)
    )
    classifier.build([None, dim])
    pixels = np.zeros([_IMAGE_SIZE, _IMAGE_SIZE, 3], np.uint8)
    saved_model.write(
        directory,
        image_features=image_features,
        classifier=classifier,
        sku_ids=[f"sku-{number}" for number in range(_NUM_CLASSES)],
        image_size=_IMAGE_SIZE,
        export_info={},
        warmup_image=tf.io.encode_jpeg(pixels).numpy(),
    )


def make_request() -> bytes:
    """A black picture."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = serving_processes.MODEL
    request.model_spec.signature_name = _SIGNATURE
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(_pixels(1)))
    return request.SerializeToString()


def _pixels(batch_size: int) -> np.ndarray:
    return np.zeros([batch_size, _IMAGE_SIZE, _IMAGE_SIZE, 3], np.uint8)


def in_process(
    directory: pathlib.Path, batch_size: int
) -> Callable[[], object]:
    """A run of the model in this very process."""
    model = servable.Servable(serving_processes.MODEL, 1, directory)
    signature = model.signatures[_SIGNATURE]
    feeds = {signature.inputs["image"].name: _pixels(batch_size)}
    fetches = [info.name for info in signature.outputs.values()]
    return lambda: model.run(feeds, fetches, None)
