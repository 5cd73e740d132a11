"""Whether a vector index and a ranker belong to a model and its products."""

import pathlib

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check


def find_mismatch(
    vectors: pathlib.Path,
    model_version_folder: pathlib.Path,
    index_generation: pathlib.Path,
) -> str:
    """Why search would go wrong with a vector index; empty if it would not.

    Args:
        vectors: a generation of the vector index.
        model_version_folder: SavedModel, `<base>/<version>`.
        index_generation: the product index that it goes live with.

    Raises:
        ValueError: if one of them is not whole.
    """
    identity(vectors)
    manifest = files.read_json(vectors / generations.MANIFEST)
    wanted = product_index.embedding_model_sha256(model_version_folder)
    if manifest["saved_model_sha256"] != wanted:
        return (
            f"The vectors of {vectors} were made by another model than "
            f"{model_version_folder}, so their distances mean nothing. Build "
            "them by it: python -m beam_jobs.build_vector_index "
            f"--product_index {index_generation} --saved_model "
            f"{model_version_folder} --output {vectors.parent}"
        )
    built_from = manifest["product_index"]
    if built_from["identity"] != release_check.index_identity(index_generation):
        return (
            f"The vectors of {vectors} are those of the product index "
            f"{built_from['generation']}, this one is {index_generation.name}: "
            "results would be products that are gone. Bring them up to date: "
            f"python -m beam_jobs.build_vector_index --product_index "
            f"{index_generation} --saved_model {model_version_folder} "
            f"--output {vectors.parent} --delta"
        )
    return ""


def identity(generation: pathlib.Path) -> str:
    """SHA-256 of a manifest, for a vector index or a ranker.

    Raises:
        ValueError: if the generation is not there, or a file is cut.
    """
    path = generation / generations.MANIFEST
    if not path.is_file():
        raise ValueError(
            f"Expected the file {path}; it is not there. Was the folder moved "
            "or removed? Build it again, then publish all together."
        )
    for name, described in files.read_json(path).get("files", {}).items():
        generations.check_size(generation / name, described["bytes"])
    return files.sha256(path)
