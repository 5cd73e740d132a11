"""The exported SavedModel that embeds pictures: its signature, its vectors."""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from sicot_tf.catalogue import product_index
from sicot_tf.data import records
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# A signature, and the output of every signature that embeds.
EMBEDDING = "embedding"


def read_signature(
    saved_model: pathlib.Path, signature: str = EMBEDDING
) -> tuple[int, str]:
    """Size of the embeddings, and a SHA-256 of graph and weights.

    Raises:
        ValueError: if it is no SavedModel with this signature.
    """
    signatures = _signatures(saved_model)
    if signature not in signatures:
        raise ValueError(
            f"{saved_model} has no signature {signature!r}, only "
            f"{sorted(signatures)}. Export it with python -m sicot_tf.export."
        )
    shape = signatures[signature].outputs[EMBEDDING].tensor_shape
    sha256 = product_index.embedding_model_sha256(saved_model)
    return shape.dim[-1].size, sha256


def signature_names(saved_model: pathlib.Path) -> set[str]:
    """What a model can be asked for.

    Raises:
        ValueError: if it is no SavedModel.
    """
    return set(_signatures(saved_model))


def _signatures(saved_model: pathlib.Path) -> Any:
    graph = saved_model / "saved_model.pb"
    if not graph.is_file():
        raise ValueError(
            f"Expected a SavedModel in {saved_model}, for example "
            "saved_models/sicot/1; found no saved_model.pb."
        )
    message = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    return message.meta_graphs[0].signature_def


def load(location: locations.Location) -> Any:
    """The model in a folder of any store."""
    model = opening.open_folder(location)
    with tempfile.TemporaryDirectory() as copies:
        path = local_copies.at_hand(model, pathlib.Path(copies))
        return tf.saved_model.load(str(path))


def embed(
    model: Any, signature: str, images: Sequence[bytes]
) -> Sequence[np.ndarray | records.RecordError]:
    """A `[dim]` float32 array for each picture, or what is wrong with it."""
    if not images:
        return []
    try:
        outputs = model.signatures[signature](image_bytes=tf.constant(images))
        return outputs[EMBEDDING].numpy()
    except tf.errors.InvalidArgumentError as error:
        if len(images) == 1:
            return [records.RecordError("decode_error", error.message[:500])]
    # Find the damaged picture; the others get the embeddings they have alone.
    return [
        vector
        for image in images
        for vector in embed(model, signature, [image])
    ]
