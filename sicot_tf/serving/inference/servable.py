"""One version of a SavedModel in memory, run as TensorFlow Serving runs it.

The graph runs in a session of TensorFlow 1, which gives the codes and texts of
TensorFlow Serving and keeps a request's deadline. `tf.saved_model.load` and
its signatures do neither, and cost ten times as much for each call.
"""

import functools
import importlib
import pathlib
import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import ops

from sicot_tf.serving.inference import batching

WARMUP_FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
INIT_SIGNATURE = "__saved_model_init_op"
_LONGEST_TIMEOUT_SECONDS = 3600.0

# Feeds by tensor name, names of fetches, seconds left (None: for ever).
Run = Callable[
    [Mapping[str, np.ndarray], Sequence[str], float | None], list[np.ndarray]
]


class Servable:
    """A loaded version of a model; any number of threads may use it.

    Args:
        name: the model's name, repeated in answers.
        version: its version number.
        directory: the SavedModel.
        tags: which of the SavedModel's graphs to load.
        session_config: threads and devices of the session.
        scheduler: makes batches of what `run` is asked for; without one every
            request runs by itself.
        batching_parameters: for this version only, instead of those of the
            scheduler.

    Attributes:
        signatures: dictionary of `SignatureDef` by key.
        run: function from feeds `{tensor name: array}`, names of tensors to
            fetch and seconds left (None: no limit) to a list of arrays.
        run_unbatched: the same, never together with other requests.

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
        self.run_unbatched: Run = (
            _raw_run(self._session, self._tensor_names())
            if raw_session_works()
            else _public_run(self._session)
        )
        self.run = self.run_unbatched
        if scheduler is not None:
            self.run = scheduler.make_runner(
                self.run_unbatched, name, batching_parameters
            )

    def close(self) -> None:
        """Gives the memory back; no request may run any more."""
        graph = self._session.graph
        self._session.close()
        # The memory of the variables goes with the last reference.
        self._session = None
        self.run = self.run_unbatched = _run_closed
        # Python's graph is one cycle: to find it, the collector stops all
        # requests for 0.1 s (MobileNetV3Small), this takes a quarter of it.
        ops.dismantle_graph(graph)

    def _tensor_names(self) -> set[str]:
        """Names of all tensors that a request can feed or fetch."""
        return {
            info.name
            for key, signature in self.signatures.items()
            if key != INIT_SIGNATURE
            for infos in (signature.inputs, signature.outputs)
            for info in infos.values()
        }


def _open(
    tags: Sequence[str],
    directory: pathlib.Path,
    config: tf.compat.v1.ConfigProto | None,
    has_text_ops: bool = False,
) -> tuple[tf.compat.v1.Session, meta_graph_pb2.MetaGraphDef]:
    """A session with the graph; TensorFlow Text comes with whom needs it.

    TensorFlow Serving has its ops linked. Here they cost 0.2 seconds and 117
    MB, so they wait for the first graph that has an unknown op.
    """
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    try:
        return session, _load(session, tags, directory)
    except tf.errors.OpError as error:
        session.close()
        if has_text_ops or "Op type not registered" not in error.message:
            raise
        try:
            importlib.import_module("tensorflow_text")
        except ImportError:
            raise error from None
    return _open(tags, directory, config, has_text_ops=True)


def _load(
    session: tf.compat.v1.Session, tags: Sequence[str], directory: pathlib.Path
) -> meta_graph_pb2.MetaGraphDef:
    """Fills the session; errors have TensorFlow Serving's codes and texts."""
    if not any(
        (directory / name).exists()
        for name in ("saved_model.pb", "saved_model.pbtxt")
    ):
        raise tf.errors.NotFoundError(
            None,
            None,
            "Could not find SavedModel .pb or .pbtxt at supplied export "
            f"directory path: {directory}. Check that the directory exists "
            "and that you have the right permissions for accessing it.",
        )
    try:
        with session.graph.as_default():
            return tf.compat.v1.saved_model.loader.load(
                session, list(tags), str(directory)
            )
    except RuntimeError as error:
        raise tf.errors.NotFoundError(
            None,
            None,
            "Could not find meta graph def matching supplied tags: "
            f"{{ {' '.join(tags)} }}. To inspect available tag-sets in the "
            "SavedModel, please use the SavedModel CLI: `saved_model_cli`",
        ) from error
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise tf.errors.InvalidArgumentError(None, None, str(error)) from error


@functools.cache
def raw_session_works() -> bool:
    """Whether this TensorFlow has the private functions that `_raw_run` needs.

    Tried once with a graph of two ops: result, code and text of an error.
    """
    try:
        graph = tf.Graph()
        with graph.as_default():
            x = tf.compat.v1.placeholder(tf.float32, [None], "x")
            tf.add(x, x, "y")
        with tf.compat.v1.Session(graph=graph) as session:
            run = _raw_run(session, {"x:0", "y:0"})
            [y] = run({"x:0": np.float32([1, 2])}, ["y:0"], 60.0)
            try:
                run({"x:0": np.float64([1])}, ["y:0"], None)
            except tf.errors.InvalidArgumentError as error:
                return (
                    y.tolist() == [2, 4]
                    and error.message
                    == "Expects arg[0] to be float but double is provided"
                )
    # Whatever a private function that changed may raise.
    except Exception:  # noqa: BLE001
        return False
    return False


def _raw_run(session: tf.compat.v1.Session, names: set[str]) -> Run:
    """Runs by the C API: 6 times less overhead than `Session.run`.

    `Session.run` moreover turns a double into the declared float without a
    word, checks shapes by rules of its own and rewrites the texts of errors.
    """
    from tensorflow.python.client import pywrap_tf_session

    # Tells the C++ session of all nodes; after it nothing is added.
    session._extend_graph()
    # Looked up once.
    addresses = {
        name: session.graph.get_tensor_by_name(name)._as_tf_output()
        for name in names
        if _has_tensor(session.graph, name)
    }

    @functools.cache
    def make_options(milliseconds: int) -> object:
        """Kept for ever: at most 5,000 of them, 10 bytes each."""
        return pywrap_tf_session.TF_NewBufferFromString(
            tf.compat.v1.RunOptions(
                timeout_in_ms=milliseconds
            ).SerializeToString()
        )

    def run(
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None,
    ) -> list[np.ndarray]:
        """One run of the session; releases the interpreter lock."""
        milliseconds = _round_timeout(timeout_seconds)
        try:
            feeds = {addresses[name]: value for name, value in feeds.items()}
            outputs = [addresses[name] for name in fetches]
        except KeyError as error:
            raise _unknown_tensor_error(error.args[0]) from error
        try:
            return pywrap_tf_session.TF_SessionRun_wrapper(
                session._session,
                make_options(milliseconds) if milliseconds else None,
                feeds,
                outputs,
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise _without_functions(error) from None

    return run


def _public_run(session: tf.compat.v1.Session) -> Run:
    """Runs by `Session.run`, with the codes and texts of the C API."""
    graph = session.graph

    def run(
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout_seconds: float | None,
    ) -> list[np.ndarray]:
        """One run of the session; releases the interpreter lock."""
        milliseconds = _round_timeout(timeout_seconds)
        for name in [*feeds, *fetches]:
            if not _has_tensor(graph, name):
                raise _unknown_tensor_error(name)
        for index, (name, value) in enumerate(feeds.items()):
            expected = graph.get_tensor_by_name(name).dtype
            received = tf.as_dtype(value.dtype)
            if received != expected:
                raise tf.errors.InvalidArgumentError(
                    None,
                    None,
                    f"Expects arg[{index}] to be {_type_name(expected)} but "
                    f"{_type_name(received)} is provided",
                )
        try:
            return session.run(
                list(fetches),
                dict(feeds),
                tf.compat.v1.RunOptions(timeout_in_ms=milliseconds),
            )
        except tf.errors.OpError as error:
            # Session.run adds a stack trace of the exporter to the text.
            raw_error = error.__context__
            if not isinstance(raw_error, tf.errors.OpError):
                raise
            raise _without_functions(raw_error) from None
        except (TypeError, ValueError) as error:
            raise tf.errors.InvalidArgumentError(
                None, None, str(error)
            ) from error

    return run


def _without_functions(error: tf.errors.OpError) -> tf.errors.OpError:
    """The error without names of the graph's functions before its sentence.

    Each is longer than the sentence, and texts are cut after 1,024 bytes.
    """
    text = re.sub(r"\{\{function_node .*?\}\} ", "", error.message)
    return type(error)(None, None, text)


def _type_name(dtype: tf.DType) -> str:
    """As C++ prints it: `double` for float64."""
    name = types_pb2.DataType.Name(dtype.as_datatype_enum)
    return name.removeprefix("DT_").lower()


def _run_closed(*_: object) -> list[np.ndarray]:
    raise tf.errors.CancelledError(None, None, "Session has been closed.")


def _has_tensor(graph: tf.Graph, name: str) -> bool:
    try:
        graph.get_tensor_by_name(name)
    except (KeyError, ValueError):
        return False
    return True


def _unknown_tensor_error(name: str) -> tf.errors.NotFoundError:
    """A signature that names a tensor its graph hasn't."""
    return tf.errors.NotFoundError(
        None, None, f"FeedInputs: unable to find feed output {name}"
    )


def _round_timeout(seconds: float | None) -> int:
    """Milliseconds for RunOptions, few different ones; 0: no limit.

    Raises:
        tf.errors.DeadlineExceededError: if no time is left.
    """
    if seconds is None or seconds > _LONGEST_TIMEOUT_SECONDS:
        return 0
    if seconds <= 0:
        raise tf.errors.DeadlineExceededError(
            None, None, "Timed out waiting for notification"
        )
    step = 10 if seconds < 10 else 1000
    return int(-(-seconds * 1000 // step)) * step
