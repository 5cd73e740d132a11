"""Loads versions as the flags say: sessions, batching, warm-up."""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2

from sicot_tf.serving import metrics as metrics_lib
from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import batching
from sicot_tf.serving.inference import servable as servable_lib
from sicot_tf.serving.versions import warmup

_PER_MODEL_BATCHING_FILE = "batching_params.pbtxt"


def read_batching_parameters(arguments: argparse.Namespace) -> Any:
    """BatchingParameters, or None unless `--enable_batching`.

    Raises:
        tf.errors.OpError: if the file can't be read, or nothing uses it.
    """
    path = arguments.batching_parameters_file
    if not arguments.enable_batching:
        if path:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "server_options.batching_parameters_file is set without "
                "setting server_options.enable_batching to true.",
            )
        return None
    if path:
        return serving_config.read_batching_parameters(path)
    parameters = serving_config.BatchingParameters()
    parameters.thread_pool_name.value = "model_server_batch_threads"
    return parameters


def make_load(
    arguments: argparse.Namespace,
    scheduler: batching.BatchScheduler | None,
    metrics: metrics_lib.Metrics,
) -> Callable[[str, int, pathlib.Path], servable_lib.Servable]:
    """The function by which the manager gets a version, loaded and warm.

    Raises:
        tf.errors.OpError: if a flag names a file that can't be read, or flags
            contradict each other.
    """
    session_config = _session_config(arguments)
    tags = arguments.saved_model_tags.split(",")

    def load(
        name: str, version: int, directory: pathlib.Path
    ) -> servable_lib.Servable:
        batching_path = directory / _PER_MODEL_BATCHING_FILE
        batching_parameters = None
        if (
            arguments.enable_per_model_batching_parameters
            and scheduler is not None
            and batching_path.exists()
        ):
            batching_parameters = serving_config.read_batching_parameters(
                batching_path
            )
        servable = servable_lib.Servable(
            name,
            version,
            directory,
            tags=tags,
            session_config=session_config,
            scheduler=scheduler,
            batching_parameters=batching_parameters,
        )
        if arguments.enable_model_warmup:
            try:
                warm_up(servable)
            except BaseException:
                servable.close()
                raise
        return servable

    def warm_up(servable: servable_lib.Servable) -> None:
        start = time.monotonic()
        status = "OK"
        num_records = 0
        try:
            num_records = warmup.warm_up(
                servable, arguments.num_request_iterations_for_warmup
            )
        except tf.errors.OpError as error:
            status = code_name(error)
            raise
        finally:
            metrics.record_warmup(
                str(servable.directory),
                status,
                time.monotonic() - start,
                num_records,
            )
        print(
            f"Warm-up requests answered: {num_records}",
            file=sys.stderr,
            flush=True,
        )

    return load


def _session_config(
    arguments: argparse.Namespace,
) -> tf.compat.v1.ConfigProto:
    """Threads and devices of all sessions."""
    path = arguments.tensorflow_session_config_file
    config = (
        serving_config.read_session_config(path)
        if path
        else tf.compat.v1.ConfigProto()
    )
    if arguments.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = (
            arguments.per_process_gpu_memory_fraction
        )
    session = arguments.tensorflow_session_parallelism
    intra = arguments.tensorflow_intra_op_parallelism
    inter = arguments.tensorflow_inter_op_parallelism
    if session > 0 and intra > 0 and inter > 0:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Either configure server_options.tensorflow_session_parallelism "
            "or (server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. You "
            "cannot configure all.",
        )
    if intra > 0 or inter > 0:
        config.intra_op_parallelism_threads = intra
        config.inter_op_parallelism_threads = inter
    elif session > 0:
        config.intra_op_parallelism_threads = session
        config.inter_op_parallelism_threads = session
    return config


def code_name(error: tf.errors.OpError) -> str:
    """For example `INVALID_ARGUMENT`."""
    return error_codes_pb2.Code.Name(error.error_code)
