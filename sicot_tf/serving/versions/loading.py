"""Loads versions as the flags say: sessions, batching, warm-up."""

import argparse
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from sicot_tf.serving import errors
from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import batching
from sicot_tf.serving.inference import servable
from sicot_tf.serving.metrics import Metrics
from sicot_tf.serving.versions import warmup

_log = logging.getLogger(__name__)
_PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"


def read_batching_parameters(arguments: argparse.Namespace) -> Any:
    """BatchingParameters, or None unless `--enable_batching`.

    Raises tf.errors.OpError if the file can't be read, or nothing uses it.
    """
    path = arguments.batching_parameters_file
    if not arguments.enable_batching:
        if path:
            raise errors.invalid(
                "server_options.batching_parameters_file is set without "
                "setting server_options.enable_batching to true."
            )
        return None
    if path:
        return serving_config.read(path, serving_config.BatchingParameters)
    parameters = serving_config.BatchingParameters()
    parameters.thread_pool_name.value = "model_server_batch_threads"
    return parameters


def make_load(
    arguments: argparse.Namespace,
    scheduler: batching.BatchScheduler | None,
    metrics: Metrics,
) -> Callable[[str, int, pathlib.Path], servable.Servable]:
    """The function by which the manager gets a version, loaded and warm.

    Raises tf.errors.OpError if flags contradict each other, or name a file
    that can't be read.
    """
    session_config = _session_config(arguments)
    tags = arguments.saved_model_tags.split(",")

    def load(
        name: str, version: int, directory: pathlib.Path
    ) -> servable.Servable:
        path = directory / _PER_MODEL_BATCHING_FILE
        parameters = None
        if arguments.enable_per_model_batching_parameters and path.exists():
            parameters = serving_config.read(
                path, serving_config.BatchingParameters
            )
        model = servable.Servable(
            name,
            version,
            directory,
            tags=tags,
            session_config=session_config,
            scheduler=scheduler,
            batching_parameters=parameters,
        )
        if arguments.enable_model_warmup:
            try:
                _warm_up(
                    model, arguments.num_request_iterations_for_warmup, metrics
                )
            except BaseException:
                model.close()
                raise
        return model

    return load


def _warm_up(
    model: servable.Servable, num_iterations: int, metrics: Metrics
) -> None:
    """Answers the stored requests, and counts them."""
    start = time.monotonic()
    status = "OK"
    num_records = 0
    try:
        num_records = warmup.warm_up(model, num_iterations)
    except tf.errors.OpError as error:
        status = errors.code_name(error.error_code)
        raise
    finally:
        metrics.record_warmup(
            str(model.directory), status, time.monotonic() - start, num_records
        )
    _log.info("Warm-up requests answered: %d", num_records)


def _session_config(
    arguments: argparse.Namespace,
) -> tf.compat.v1.ConfigProto:
    """Threads and devices of all sessions."""
    config = tf.compat.v1.ConfigProto()
    path = arguments.tensorflow_session_config_file
    if path:
        config = serving_config.read(path, tf.compat.v1.ConfigProto)
    if arguments.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = (
            arguments.per_process_gpu_memory_fraction
        )
    session = arguments.tensorflow_session_parallelism
    intra = arguments.tensorflow_intra_op_parallelism
    inter = arguments.tensorflow_inter_op_parallelism
    if session > 0 and intra > 0 and inter > 0:
        raise errors.invalid(
            "Either configure server_options.tensorflow_session_parallelism or "
            "those for intra_op and inter_op, received all three."
        )
    if intra > 0 or inter > 0:
        config.intra_op_parallelism_threads = intra
        config.inter_op_parallelism_threads = inter
    elif session > 0:
        config.intra_op_parallelism_threads = session
        config.inter_op_parallelism_threads = session
    return config
