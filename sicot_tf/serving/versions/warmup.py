"""Requests stored with a model, answered before anyone else's."""

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.inference import inference
from sicot_tf.serving.inference import servable

_MAX_RECORDS = 1000
_CALLS = {
    "predict_log": inference.predict,
    "classify_log": inference.classify,
    "regress_log": inference.regress,
    "multi_inference_log": inference.multi_inference,
}


def warm_up(model: servable.Servable, num_iterations: int = 1) -> int:
    """Answers the requests stored with the model; returns their number.

    Raises tf.errors.OpError if one fails, or the file is no TFRecord file.
    """
    path = model.directory / servable.WARMUP_FILE
    if not path.exists():
        return 0
    num_records = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            num_records += 1
            if num_records > _MAX_RECORDS:
                raise errors.invalid(
                    "Number of warmup records exceeds the maximum "
                    f"({_MAX_RECORDS}) at {path}"
                )
            for _ in range(num_iterations):
                _answer(model, record)
    except tf.errors.DataLossError as error:
        raise errors.data_loss(
            f"{error.message}. Please verify your warmup data is in TFRecord "
            "format."
        ) from error
    except message.DecodeError as error:
        raise errors.invalid(
            f"Failed to parse warmup record {num_records} of {path}"
        ) from error
    return num_records


def _answer(model: servable.Servable, record: bytes) -> None:
    """Answers one stored request; a record without any counts as answered."""
    log = prediction_log_pb2.PredictionLog.FromString(record)
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    if kind not in _CALLS:
        raise errors.unimplemented(f"Unsupported log_type for warmup: {kind}")
    _CALLS[kind](model, getattr(log, kind).request)
