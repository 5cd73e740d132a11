"""Writes the trained visual stream as a SavedModel for TensorFlow Serving.

The graph takes encoded pictures and answers with SKU ids: decoding, model,
softmax and label table are inside. It holds no text and no op outside core
TensorFlow, so that any TensorFlow Serving can run it.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from sicot_tf import files
from sicot_tf.data import images
from sicot_tf.serving import heat_maps
from sicot_tf.serving.inference import servable
from sicot_tf.serving.versions import version_folders

# Pictures of one request that are decoded at the same time, as far as there
# are cores.
_PARALLEL_DECODES = 16
# Answers of `recognition`: enough to weigh the SKUs of a category against
# those of another.
_NUM_RECOGNITION_SKUS = 100
_NUM_WORDS = 10


def next_version(model_dir: pathlib.Path) -> int:
    """One more than the highest version in `model_dir`; 1 for the first."""
    if not model_dir.exists():
        return 1
    return 1 + max(version_folders.list_versions(model_dir), default=0)


def write(
    directory: pathlib.Path,
    *,
    image_features: keras.Model,
    classifier: Callable[[tf.Tensor], tf.Tensor],
    sku_ids: Sequence[str],
    image_size: int,
    top_k: int = 5,
    threshold: float = 0.0,
    localization_size: int | None = None,
    word_classifier: Callable[[tf.Tensor], tf.Tensor] | None = None,
    words: Sequence[str] = (),
    search_network: keras.Model | None = None,
    export_info: dict[str, Any],
    warmup_image: bytes,
) -> None:
    """Writes signatures, label table and warm-up requests; appears at once.

    Signature `serving_default`: `image_bytes` `[batch]` string to `sku_id`
    `[batch, k]` string and `score` `[batch, k]` float32, softmax, best first,
    `k = min(top_k, number of classes)`, and `recognised` `[batch]` bool,
    whether the best score reaches the threshold. `serving_pixels`: the same for
    `image` `[batch, image_size, image_size, 3]` uint8. `embedding`:
    `image_bytes` to `embedding` `[batch, dim]` float32. `recognition`: what
    `serving_default` and `embedding` give in one pass, with `k = min(100,
    number of classes)`, and with words `word` `[batch, n]` string and
    `word_probability` `[batch, n]` float32, best first, `n = min(10, number of
    words)`. `localization`: `image_bytes` to the best `sku_id` `[batch]`, its
    `score` `[batch]`, and `heat_map` `[batch, rows, columns]` float32, 0 or
    more, which covers the whole photo as one sees it. With a search network
    `search`: `embedding` `[batch, dim]` float32 of length 1 and `box` `[batch,
    4]` float32, x_min, y_min, x_max, y_max in shares of that whole photo.

    Args:
        directory: `<model>/<version>`; must not exist.
        image_features: functional model from `{"image": [batch, image_size,
            image_size, 3]}` float32, 0 to 255, to `[batch, dim]`.
        classifier: layer from `[batch, dim]` to logits `[batch, classes]`.
        sku_ids: name of each class, in the order of the logits.
        image_size: side of the square the model sees, in pixels.
        top_k: answers for each picture.
        threshold: 0 to 1; kept as the variable `threshold`.
        localization_size: side of the square of the heat map in pixels; None
            for `heat_maps.default_size`.
        word_classifier: layer from `[batch, dim]` to logits `[batch, words]`;
            None for no words.
        words: what these logits stand for.
        search_network: from `image` and `extents`, as `images.decode_whole`
            makes them, to `embedding` and `box`; None for no such signature.
        export_info: kept as `assets.extra/export.json`.
        warmup_image: a server tries it before it answers anyone.

    Raises FileExistsError if `directory` exists, ValueError if the parts don't
    fit together.
    """
    _check_directory(directory)
    _check_sku_ids(sku_ids)
    if top_k < 1:
        raise ValueError(f"Expected top_k of 1 or more, received {top_k}.")
    pixels = _decode_warmup_image(warmup_image, image_size)
    features = image_features({"image": pixels}, training=False)
    _check_logits(classifier(features), sku_ids, "sku_ids")
    if word_classifier is not None:
        _check_logits(word_classifier(features), words, "words")
    with _appearing(directory) as temporary:
        _write_graph(
            temporary,
            image_features=image_features,
            classifier=classifier,
            sku_ids=sku_ids,
            image_size=image_size,
            top_k=min(top_k, len(sku_ids)),
            threshold=threshold,
            localization_size=localization_size
            or heat_maps.default_size(image_size),
            word_classifier=word_classifier,
            words=words,
            search_network=search_network,
        )
        _check_core_ops(temporary)
        _write_warmup_requests(
            temporary / servable.WARMUP_FILE,
            model_name=directory.parent.name,
            image_bytes=warmup_image,
            pixels=pixels,
            with_search=search_network is not None,
        )
        files.write_json(
            temporary / "assets.extra" / "export.json", export_info
        )


@contextlib.contextmanager
def _appearing(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that is `directory` at the end, or gone after an error."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Neither server takes this name for a version.
    temporary = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        # Fails if someone else wrote the version meanwhile.
        files.rename_folder(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_directory(directory: pathlib.Path) -> None:
    """Raises unless `directory` can become a new version."""
    if not (directory.name.isascii() and directory.name.isdigit()):
        raise ValueError(
            "Expected a directory named by its version, for example "
            f"saved_models/sicot/1, received {directory}. Servers see only "
            "names that are numbers."
        )
    if directory.exists():
        raise FileExistsError(
            f"{directory} exists; versions are never overwritten. Export to "
            f"{directory.with_name(str(next_version(directory.parent)))}, or "
            "remove the old version first."
        )


def _check_sku_ids(sku_ids: Sequence[str]) -> None:
    """Raises unless each id can be a line of the label table."""
    if len(set(sku_ids)) != len(sku_ids) or not sku_ids:
        raise ValueError(
            "Expected one or more different sku_ids, received "
            f"{len(sku_ids)}, of which {len(set(sku_ids))} are different."
        )
    for sku_id in sku_ids:
        # TensorFlow's reader drops \r wherever it stands.
        if not sku_id or "\n" in sku_id or "\r" in sku_id:
            raise ValueError(
                "Expected sku_ids that are not empty and have no line break, "
                f"received {sku_id!r}."
            )


def _decode_warmup_image(image_bytes: bytes, image_size: int) -> tf.Tensor:
    """`[1, image_size, image_size, 3]` float32."""
    try:
        pixels = images.decode_for_inference(
            tf.constant(image_bytes), image_size
        )
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"The warm-up image can't be decoded: {error.message} Give a "
            "JPEG or PNG picture."
        ) from error
    return pixels[tf.newaxis]


def _check_logits(logits: tf.Tensor, names: Sequence[str], kind: str) -> None:
    """Raises unless a picture has one logit for each of the names."""
    if logits.shape != (1, len(names)):
        raise ValueError(
            f"Expected logits of shape (1, {len(names)}), one for each of "
            f"the {kind}, received {tuple(logits.shape)}. Take {kind} and "
            "model from the same training run."
        )


def _write_graph(
    directory: pathlib.Path,
    *,
    image_features: keras.Model,
    classifier: Callable[[tf.Tensor], tf.Tensor],
    sku_ids: Sequence[str],
    image_size: int,
    top_k: int,
    threshold: float,
    localization_size: int,
    word_classifier: Callable[[tf.Tensor], tf.Tensor] | None,
    words: Sequence[str],
    search_network: keras.Model | None,
) -> None:
    """The SavedModel proper: its signatures, each over the same weights."""
    square = (image_size, image_size, 3)
    least_score = tf.Variable(
        threshold, trainable=False, dtype=tf.float32, name="threshold"
    )

    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda encoded: images.decode_for_inference(encoded, image_size),
            image_bytes,
            parallel_iterations=_PARALLEL_DECODES,
            fn_output_signature=tf.TensorSpec(square, tf.float32),
        )

    def embed(image: tf.Tensor) -> tf.Tensor:
        return image_features({"image": image}, training=False)

    def rank(features: tf.Tensor, num_skus: int) -> dict[str, tf.Tensor]:
        logits = tf.cast(classifier(features), tf.float32)
        scores, labels = tf.math.top_k(tf.nn.softmax(logits), num_skus)
        return {
            "sku_id": label_table.lookup(tf.cast(labels, tf.int64)),
            "score": scores,
            "recognised": scores[:, 0] >= least_score,
        }

    # A tensor of the wrong rank aborts the whole server inside oneDNN's
    # convolution; with ensure_shape first it is INVALID_ARGUMENT.
    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image = decode(tf.ensure_shape(image_bytes, [None]))
        return rank(embed(image), top_k)

    def serving_pixels(image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(image, [None, *square])
        return rank(embed(tf.cast(image, tf.float32)), top_k)

    def embedding(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image = decode(tf.ensure_shape(image_bytes, [None]))
        return {"embedding": tf.cast(embed(image), tf.float32)}

    def recognition(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        features = embed(decode(tf.ensure_shape(image_bytes, [None])))
        answer = rank(features, min(_NUM_RECOGNITION_SKUS, len(sku_ids)))
        answer["embedding"] = tf.cast(features, tf.float32)
        if word_classifier is not None:
            # A sigmoid keeps the order of the logits.
            logits, places = tf.math.top_k(
                tf.cast(word_classifier(features), tf.float32),
                min(_NUM_WORDS, len(words)),
            )
            answer["word"] = tf.gather(tf.constant(words), places)
            answer["word_probability"] = tf.sigmoid(logits)
        return answer

    feature_maps = heat_maps.before_pooling(image_features)

    def localization(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        whole_square = (localization_size, localization_size, 3)
        image, whole, extents = tf.map_fn(
            lambda encoded: images.decode_for_localization(
                encoded, image_size, localization_size
            ),
            tf.ensure_shape(image_bytes, [None]),
            parallel_iterations=_PARALLEL_DECODES,
            fn_output_signature=(
                tf.TensorSpec(square, tf.float32),
                tf.TensorSpec(whole_square, tf.float32),
                tf.TensorSpec([2], tf.float32),
            ),
        )
        best = rank(embed(image), 1)
        features = feature_maps({"image": whole}, training=False)
        heat = heat_maps.heat(tf.cast(features, tf.float32), extents)
        return {
            "sku_id": best["sku_id"][:, 0],
            "score": best["score"][:, 0],
            "heat_map": heat_maps.cut_padding(heat, extents, localization_size),
        }

    def search(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        whole_square = search_network.input["image"].shape[1:]
        image, extents = tf.map_fn(
            lambda encoded: images.decode_whole(encoded, whole_square[0]),
            tf.ensure_shape(image_bytes, [None]),
            parallel_iterations=_PARALLEL_DECODES,
            fn_output_signature=(
                tf.TensorSpec(whole_square, tf.float32),
                tf.TensorSpec([2], tf.float32),
            ),
        )
        return search_network(
            {"image": image, "extents": extents}, training=False
        )

    endpoints = [embedding, recognition, localization]
    if search_network is not None:
        endpoints.append(search)
    image_bytes_spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    image_spec = tf.TensorSpec([None, *square], tf.uint8, name="image")
    with tempfile.TemporaryDirectory() as asset_dir:
        label_table = _make_label_table(pathlib.Path(asset_dir), sku_ids)
        archive = keras.export.ExportArchive()
        # The archive finds the variables in the endpoints. Tracking the model
        # as well would write every weight a second time (Keras 3.15).
        archive.track(label_table)
        archive.add_endpoint(
            "serving_default", serving_default, [image_bytes_spec]
        )
        archive.add_endpoint("serving_pixels", serving_pixels, [image_spec])
        for endpoint in endpoints:
            archive.add_endpoint(
                endpoint.__name__, endpoint, [image_bytes_spec]
            )
        archive.write_out(str(directory), verbose=False)


def _make_label_table(
    asset_dir: pathlib.Path, sku_ids: Sequence[str]
) -> tf.lookup.StaticHashTable:
    """From label to SKU id; its file is copied into the SavedModel."""
    path = asset_dir / "sku_ids.txt"
    path.write_text("\n".join(sku_ids) + "\n", encoding="utf-8")
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(path),
            key_dtype=tf.int64,
            key_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            value_dtype=tf.string,
            value_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        ),
        default_value="",
    )


def _check_core_ops(directory: pathlib.Path) -> None:
    """Raises if the graph needs an op that TensorFlow Serving hasn't."""
    saved_model = saved_model_pb2.SavedModel.FromString(
        (directory / "saved_model.pb").read_bytes()
    )
    graph = saved_model.meta_graphs[0].graph_def
    functions = {item.signature.name for item in graph.library.function}
    ops = {node.op for node in graph.node}
    for function in graph.library.function:
        ops |= {node.op for node in function.node_def}
    # raw_ops lists what TensorFlow itself brings; libraries add nothing to it.
    foreign = [
        op for op in sorted(ops - functions) if not hasattr(tf.raw_ops, op)
    ]
    if foreign:
        raise ValueError(
            "Expected a graph of core TensorFlow ops, received these others: "
            f"{foreign}. Is the title encoder part of image_features?"
        )


def _write_warmup_requests(
    path: pathlib.Path,
    *,
    model_name: str,
    image_bytes: bytes,
    pixels: tf.Tensor,
    with_search: bool,
) -> None:
    """One request for each signature, as TensorFlow Serving reads them."""
    encoded = tf.make_tensor_proto([image_bytes])
    rounded = tf.make_tensor_proto(tf.cast(tf.round(pixels), tf.uint8).numpy())
    requests = [
        ("serving_default", "image_bytes", encoded),
        ("serving_pixels", "image", rounded),
        ("embedding", "image_bytes", encoded),
        ("recognition", "image_bytes", encoded),
        ("localization", "image_bytes", encoded),
    ]
    if with_search:
        requests.append(("search", "image_bytes", encoded))
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature_name, alias, tensor in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature_name
            request.inputs[alias].CopyFrom(tensor)
            writer.write(log.SerializeToString(deterministic=True))
