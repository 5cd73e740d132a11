"""One version of a SavedModel in memory, run as TensorFlow Serving runs it.

The graph runs in a session of TensorFlow 1, which gives the codes and texts of
TensorFlow Serving and keeps a request's deadline. `tf.saved_model.load` and
its signatures do neither, and cost ten times as much for each call.
"""

import contextlib
import functools
import importlib
import pathlib
import re
import sys
import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework import ops

from sicot_tf.serving import errors
from sicot_tf.serving.inference import batch_queue
from sicot_tf.serving.inference import batching

WARMUP_FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
_INIT_SIGNATURE = "__saved_model_init_op"
_LONGEST_TIMEOUT_SECONDS = 3600.0


class Servable:
    """A loaded version of a model; any number of threads may use it.

    Args:
        name: the model's name, repeated in answers, as is its version.
        directory: the SavedModel.
        tags: which of its graphs to load.
        session_config: threads and devices of the session.
        scheduler: makes batches of what `run` is asked for.
        batching_parameters: in place of the scheduler's.

    Attributes:
        signatures: dictionary of `SignatureDef` by key.
        run: function from feeds `{tensor name: array}`, names of tensors to
            fetch and a deadline (`time.monotonic`; None: no limit) to a list
            of arrays.

    Raises:
        tf.errors.OpError: if the SavedModel can't be loaded.
    """

    def __init__(
        self,
        name: str,
        version: int,
        directory: pathlib.Path,
        *,
        tags: Sequence[str] = (tf.saved_model.SERVING,),
        session_config: tf.compat.v1.ConfigProto | None = None,
        scheduler: batching.BatchScheduler | None = None,
        batching_parameters: message.Message | None = None,
    ):
        self.name = name
        self.version = version
        self.directory = directory
        self._session, meta_graph = _open(tags, directory, session_config)
        self._session.graph.finalize()
        self.signatures = dict(meta_graph.signature_def)
        self.run = _make_run(self._session, self.signatures.values())
        if scheduler is not None:
            self.run = scheduler.make_runner(
                self.run, name, batching_parameters
            )

    def signature(
        self, name: str
    ) -> tuple[str, meta_graph_pb2.SignatureDef | None]:
        """Key of the signature that a request names, by default or not.

        The signature is None if there is none, or nobody may call it.
        """
        key = name or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if key == _INIT_SIGNATURE:
            return key, None
        return key, self.signatures.get(key)

    def close(self) -> None:
        """Gives the memory back; no request may run any more."""
        graph = self._session.graph
        self._session.close()
        # The memory of the variables goes with the last reference.
        self._session = None
        self.run = _run_closed
        # Python's graph is one cycle: to find it, the collector stops all
        # requests for 0.1 s (MobileNetV3Small), this takes a quarter of it.
        ops.dismantle_graph(graph)


def _open(
    tags: Sequence[str],
    directory: pathlib.Path,
    config: tf.compat.v1.ConfigProto | None,
) -> tuple[tf.compat.v1.Session, meta_graph_pb2.MetaGraphDef]:
    """A session with the graph.

    The ops of TensorFlow Text cost 0.2 seconds and 117 MB: they wait for the
    first graph that has an unknown op.
    """
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    try:
        return session, _load(session, tags, directory)
    except tf.errors.OpError as error:
        session.close()
        has_text_ops = "tensorflow_text" in sys.modules
        if has_text_ops or "Op type not registered" not in error.message:
            raise
    importlib.import_module("tensorflow_text")
    return _open(tags, directory, config)


def _load(
    session: tf.compat.v1.Session, tags: Sequence[str], directory: pathlib.Path
) -> meta_graph_pb2.MetaGraphDef:
    """Fills the session; every error is one of TensorFlow's."""
    try:
        with session.graph.as_default():
            return tf.compat.v1.saved_model.loader.load(
                session, list(tags), str(directory)
            )
    except RuntimeError as error:
        # No graph has these tags; the text names those that are there.
        raise errors.not_found(str(error)) from error
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise errors.invalid(str(error)) from error


def _make_run(
    session: tf.compat.v1.Session,
    signatures: Iterable[meta_graph_pb2.SignatureDef],
) -> batch_queue.Run:
    """Runs by the C API: 6 times less overhead than `Session.run`.

    `Session.run` moreover turns a double into the declared float without a
    word, checks shapes by rules of its own and rewrites the texts of errors.
    These functions are private; setup.py names the one TensorFlow they are of.
    """
    # Tells the C++ session of all nodes; after it nothing is added.
    session._extend_graph()
    addresses = {}
    for signature in signatures:
        for info in [*signature.inputs.values(), *signature.outputs.values()]:
            # A signature can name what its graph hasn't.
            with contextlib.suppress(KeyError, ValueError):
                tensor = session.graph.get_tensor_by_name(info.name)
                addresses[info.name] = tensor._as_tf_output()

    def run(
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        deadline: float | None,
    ) -> list[np.ndarray]:
        """One run of the session; releases the interpreter lock."""
        milliseconds = _round_timeout(deadline)
        try:
            feeds = {addresses[name]: value for name, value in feeds.items()}
            outputs = [addresses[name] for name in fetches]
        except KeyError as error:
            raise errors.not_found(f"The graph has no tensor {error}") from None
        try:
            return pywrap_tf_session.TF_SessionRun_wrapper(
                session._session,
                _make_options(milliseconds) if milliseconds else None,
                feeds,
                outputs,
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise _without_functions(error) from None

    return run


@functools.cache
def _make_options(milliseconds: int) -> object:
    """RunOptions, kept for ever: at most 5,000 of them, 10 bytes each."""
    options = tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _without_functions(error: tf.errors.OpError) -> tf.errors.OpError:
    """The error without names of the graph's functions before its sentence.

    Each is longer than the sentence, and texts are cut after 1,024 bytes.
    """
    text = re.sub(r"\{\{function_node .*?\}\} ", "", error.message)
    return type(error)(None, None, text)


def _run_closed(*_: object) -> list[np.ndarray]:
    raise errors.cancelled("Session has been closed.")


def _round_timeout(deadline: float | None) -> int:
    """Milliseconds for RunOptions, few different ones; 0: no limit.

    Raises tf.errors.DeadlineExceededError if no time is left.
    """
    if deadline is None:
        return 0
    seconds = deadline - time.monotonic()
    if seconds > _LONGEST_TIMEOUT_SECONDS:
        return 0
    if seconds <= 0:
        raise errors.timed_out()
    step = 10 if seconds < 10 else 1000
    return int(-(-seconds * 1000 // step)) * step
