"""Requests stored with a model, answered before anyone else's."""

import re

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from sicot_tf.serving.inference import inference
from sicot_tf.serving.inference import servable as servable_lib

_MAX_RECORDS = 1000


def warm_up(servable: servable_lib.Servable, num_iterations: int = 1) -> int:
    """Answers the requests stored with the model; returns their number.

    Args:
        servable: the loaded version.
        num_iterations: how often each request is answered.

    Raises:
        tf.errors.OpError: if one fails, or the file is no TFRecord file.
    """
    path = servable.directory / servable_lib.WARMUP_FILE
    if not path.exists():
        return 0
    num_records = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            num_records += 1
            if num_records > _MAX_RECORDS:
                raise tf.errors.InvalidArgumentError(
                    None,
                    None,
                    "Number of warmup records exceeds the maximum "
                    f"({_MAX_RECORDS}) at {path}",
                )
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
            except message.DecodeError as error:
                raise tf.errors.InvalidArgumentError(
                    None,
                    None,
                    f"Failed to parse warmup record: {record} from {path}",
                ) from error
            for _ in range(num_iterations):
                _answer_logged(servable, log)
    except tf.errors.DataLossError as error:
        # Without what the Python iterator puts around it.
        text = re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", error.message)
        raise tf.errors.DataLossError(
            None,
            None,
            f"{text}. Please verify your warmup data is in TFRecord format.",
        ) from error
    return num_records


def _answer_logged(
    servable: servable_lib.Servable, log: prediction_log_pb2.PredictionLog
) -> None:
    """Answers one stored request; a record without any counts as answered."""
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        inference.predict(servable, log.predict_log.request)
    elif kind == "classify_log":
        inference.classify(servable, log.classify_log.request)
    elif kind == "regress_log":
        inference.regress(servable, log.regress_log.request)
    elif kind == "multi_inference_log":
        inference.multi_inference(servable, log.multi_inference_log.request)
    elif kind is not None:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise tf.errors.UnimplementedError(
            None, None, f"Unsupported log_type for warmup: {number}"
        )
