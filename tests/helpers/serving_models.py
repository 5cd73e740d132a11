"""Small SavedModels of every kind that a TensorFlow model server may meet.

`saved_model("half_plus_two")` is the folder of one version, written once a
test process; `add_version` puts a copy of it where a server looks.
"""

import functools
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

# Element types that both of TensorFlow Serving's entrances take.
TYPES = (
    tf.bool,
    tf.float32,
    tf.float64,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.string,
    tf.uint8,
    tf.uint32,
    tf.uint64,
)
_FOLDER = tempfile.TemporaryDirectory(prefix="serving-models-")


class ThreeSums(tf.Module):
    """Several signatures, inputs and outputs; weights in a variable."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([1.0, 10.0, 100.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def serving_default(self, x):
        return {
            "total": tf.reduce_sum(x * self.weights, axis=1),
            "doubled": 2 * x,
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], name="a"),
            tf.TensorSpec([None], tf.int64, name="b"),
        ]
    )
    def two_inputs(self, a, b):
        return {"difference": a - tf.cast(b, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def to_scalar(self, x):
        return {"mean": tf.reduce_mean(x)}


class Strings(tf.Module):
    """Text and bytes; the name of the second output makes REST use base64."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="s")])
    def serving_default(self, s):
        return {
            "upper": tf.strings.upper(s),
            "reversed_bytes": tf.strings.join([s, s], separator="|"),
            "length": tf.strings.length(s),
        }


class AllTypes(tf.Module):
    """Gives back one input of each element type: `x_float32` as `float32`."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], dtype, name=f"x_{dtype.name}")
            for dtype in TYPES
        ]
    )
    def serving_default(self, *values):
        return {
            dtype.name: tf.identity(value)
            for dtype, value in zip(TYPES, values, strict=True)
        }


class Slow(tf.Module):
    """Requests that end when the test wants, and one that never ends."""

    @tf.function(input_signature=[tf.TensorSpec([2], tf.string, name="paths")])
    def write_in_turn(self, paths):
        """With named pipes: tells that it runs, then waits to be released."""
        first = tf.io.write_file(paths[0], "began")
        with tf.control_dependencies([first]):
            second = tf.io.write_file(paths[1], "ended")
        with tf.control_dependencies([second]):
            return {"done": tf.constant([True])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="start")])
    def count_for_ever(self, start):
        [count] = tf.while_loop(
            lambda n: n >= 0, lambda n: (n + 1) % 1000, [start]
        )
        return {"count": count}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="n")])
    def count_to(self, n):
        """Some 10 to 20 microseconds for each of the largest `n`."""
        last = tf.reduce_max(n)
        [count] = tf.while_loop(
            lambda i: i < last, lambda i: i + 1, [tf.constant(0, tf.int64)]
        )
        return {"count": tf.fill(tf.shape(n), count)}


def write_half_plus_two(
    directory: pathlib.Path,
    *,
    a: float = 0.5,
    b: float = 2.0,
    num_unused_weights: int = 0,
) -> None:
    """`y = a x + b` as TensorFlow 1 saved it, with a session and collections.

    Signatures: `serving_default` (predict, `x` `[batch]` to `y`),
    `with_default` (predict, `offset` may be left out: 10),
    `regress_x_to_y`, `regress_x_to_y2` (tf.Example `x`; `y`, `y + 1`),
    `classify_x_to_y` (scores only), `classify_x_to_sign` (classes `negative`,
    `positive` and their scores `-y`, `y`), `classes_only`.

    Args:
        directory: written; must not exist.
        a: slope.
        b: offset; tests put the version here.
        num_unused_weights: float32 weights that only take memory.
    """
    v1 = tf.compat.v1
    signatures = v1.saved_model.signature_def_utils
    with tf.Graph().as_default(), v1.Session() as session:
        slope = v1.get_variable("a", initializer=a, use_resource=False)
        offset = v1.get_variable("b", initializer=b, use_resource=False)
        if num_unused_weights:
            v1.get_variable("unused", initializer=tf.ones([num_unused_weights]))
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.add(slope * x, offset, name="y")
        extra = v1.placeholder(tf.float32, [], name="offset")
        y_with_extra = tf.add(y, extra, name="y_with_extra")

        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(
            examples, {"x": tf.io.FixedLenFeature([1], tf.float32)}
        )["x"]
        y1 = tf.add(slope * parsed, offset, name="y1")
        y2 = tf.add(y1, 1.0, name="y2")
        scores = tf.concat([-y1, y1], axis=1, name="scores")
        classes = tf.tile(
            tf.constant([["negative", "positive"]]),
            [tf.shape(examples)[0], 1],
            name="classes",
        )

        with_default = signatures.predict_signature_def(
            {"x": x, "offset": extra}, {"y": y_with_extra}
        )
        with_default.defaults["offset"].CopyFrom(tf.make_tensor_proto(10.0))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            {
                "serving_default": signatures.predict_signature_def(
                    {"x": x}, {"y": y}
                ),
                "with_default": with_default,
                "regress_x_to_y": signatures.regression_signature_def(
                    examples, y1
                ),
                "regress_x_to_y2": signatures.regression_signature_def(
                    examples, y2
                ),
                "classify_x_to_y": signatures.classification_signature_def(
                    examples, None, y1
                ),
                "classify_x_to_sign": signatures.classification_signature_def(
                    examples, classes, scores
                ),
                "classes_only": signatures.classification_signature_def(
                    examples, classes, None
                ),
            },
        )
        builder.save()


def write_keras(directory: pathlib.Path) -> None:
    """A functional Keras 3 model: `image`, `size` to `logits`, `embedding`.

    `image` `[batch, 4, 4, 1]`, `size` `[batch, 1]`, `logits` `[batch, 3]`,
    `embedding` `[batch, 5]`, all float32, with seeded weights.
    """
    keras.utils.set_random_seed(3)
    image = keras.Input((4, 4, 1), name="image")
    size = keras.Input((1,), name="size")
    x = keras.layers.Flatten()(image)
    x = keras.layers.Concatenate()([x, size])
    embedding = keras.layers.Dense(5, "relu")(x)
    logits = keras.layers.Dense(3)(embedding)
    model = keras.Model(
        {"image": image, "size": size},
        {"logits": logits, "embedding": embedding},
    )
    model.export(str(directory), verbose=False)


def _write_module(module_class: type, directory: pathlib.Path) -> None:
    module = module_class()
    names = [
        name
        for name, member in vars(module_class).items()
        if hasattr(member, "get_concrete_function")
    ]
    tf.saved_model.save(
        module,
        str(directory),
        signatures={name: getattr(module, name) for name in names},
    )


_WRITERS = {
    "half_plus_two": write_half_plus_two,
    "keras": write_keras,
    "three_sums": functools.partial(_write_module, ThreeSums),
    "strings": functools.partial(_write_module, Strings),
    "all_types": functools.partial(_write_module, AllTypes),
    "slow": functools.partial(_write_module, Slow),
}
NAMES = tuple(_WRITERS)


@functools.cache
def saved_model(name: str) -> pathlib.Path:
    """The folder of the SavedModel `name`, one of `NAMES`; do not change it.

    Written at the first call, removed when the process ends.
    """
    directory = pathlib.Path(_FOLDER.name, name, "1")
    _WRITERS[name](directory)
    return directory


def add_version(
    source: pathlib.Path, base_path: pathlib.Path, version: int | str
) -> pathlib.Path:
    """Copies a SavedModel to `base_path/version`, where it appears at once."""
    temporary = base_path / f".{version}.tmp"
    shutil.copytree(source, temporary)
    return temporary.rename(base_path / str(version))


def example_inputs(name: str, signature: str) -> dict[str, np.ndarray]:
    """Good inputs of a predict signature of the SavedModel `name`."""
    rng = np.random.default_rng(5)
    text = np.array(["beer", "", "可乐 330 ml"], object)
    return {
        ("half_plus_two", "serving_default"): lambda: {
            "x": np.float32([1, -2.5, 1e-7])
        },
        ("keras", "serving_default"): lambda: {
            "image": rng.normal(size=(3, 4, 4, 1)).astype(np.float32),
            "size": rng.normal(size=(3, 1)).astype(np.float32),
        },
        ("three_sums", "serving_default"): lambda: {
            "x": rng.normal(size=(2, 3)).astype(np.float32)
        },
        ("three_sums", "two_inputs"): lambda: {
            "a": np.float32([0.1, 2]),
            "b": np.int64([-3, 2**40]),
        },
        ("three_sums", "to_scalar"): lambda: {"x": np.float32([1, 2, 6])},
        ("strings", "serving_default"): lambda: {"s": text},
        ("all_types", "serving_default"): lambda: {
            f"x_{dtype.name}": text
            if dtype == tf.string
            else np.array([dtype.min, dtype.max, 1], dtype.as_numpy_dtype)
            if dtype != tf.bool
            else np.array([True, False, True])
            for dtype in TYPES
        },
    }[name, signature]()
