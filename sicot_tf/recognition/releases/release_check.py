"""Whether an exported model and a product index fit together."""

import dataclasses
import pathlib
import re
import sqlite3
from typing import Any

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

_GRAPH = "saved_model.pb"
_SKU_IDS = pathlib.Path("assets", "sku_ids.txt")
_EXPORT = pathlib.Path("assets.extra", "export.json")
_NUM_SAMPLES = 5


@dataclasses.dataclass(frozen=True)
class Check:
    """How the classes of a model and the SKUs of an index overlap.

    Attributes:
        classes_without_product: classes that the index has no product of.
        skus_without_class: SKUs of the index that the model can't answer.
        sample_classes: some of the former.
        sample_skus: some of the latter.
        embeddings: whether the pictures of the index were embedded by this
            model: "none", "of this model" or "of another model".
    """

    num_classes: int
    num_skus: int
    classes_without_product: int
    skus_without_class: int
    sample_classes: list[str]
    sample_skus: list[str]
    embeddings: str

    @property
    def percent_without_product(self) -> float:
        """Share of the classes, 0 to 100."""
        return 100 * self.classes_without_product / max(self.num_classes, 1)

    @property
    def percent_without_class(self) -> float:
        """Share of the index's SKUs, 0 to 100; 100 of an empty index."""
        if not self.num_skus:
            return 100.0
        return 100 * self.skus_without_class / self.num_skus

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def faults(self, max_missing_percent: float) -> list[str]:
        """What speaks against the pair, a sentence each."""
        faults = []
        if self.percent_without_product > max_missing_percent:
            faults.append(
                f"{self.percent_without_product:.1f} % of the classes have no "
                f"product, at most {max_missing_percent:g} % may."
            )
        if self.percent_without_class > max_missing_percent:
            faults.append(
                f"{self.percent_without_class:.1f} % of the index's SKUs have "
                f"no class, at most {max_missing_percent:g} % may."
            )
        if self.embeddings == "of another model":
            faults.append(
                "The pictures of the index were embedded by another model, so "
                "their distances mean nothing: build the index with "
                "--saved_model of this version."
            )
        return faults


def check(
    model_version_folder: pathlib.Path, index_generation: pathlib.Path
) -> Check:
    """Compares class names with the SKUs of the index.

    Args:
        model_version_folder: SavedModel, `<base>/<version>`.

    Raises:
        ValueError: if one of them is not whole.
    """
    classes = class_names(model_version_folder)
    skus = _skus(index_generation)
    known = set(classes)
    without_product = [each for each in classes if each not in skus]
    without_class = sorted(each for each in skus if each not in known)
    return Check(
        num_classes=len(classes),
        num_skus=len(skus),
        classes_without_product=len(without_product),
        skus_without_class=len(without_class),
        sample_classes=without_product[:_NUM_SAMPLES],
        sample_skus=without_class[:_NUM_SAMPLES],
        embeddings=_compare_embeddings(model_version_folder, index_generation),
    )


def newest_version(model: pathlib.Path) -> pathlib.Path:
    """The version folder meant by a model's base path, or the folder itself.

    Raises:
        ValueError: if there is none.
    """
    if (model / _GRAPH).is_file():
        # An absolute path: "." has no name.
        versions = [model.resolve()]
    else:
        versions = [path.parent for path in model.glob(f"*/{_GRAPH}")]
    # Names that `sicot_tf.export` gives; hidden ones are still written.
    versions = [
        path for path in versions if re.fullmatch(r"[1-9][0-9]*", path.name)
    ]
    if not versions:
        raise ValueError(
            f"Expected an exported model, for example saved_models/sicot or "
            f"saved_models/sicot/1; found no version in {model}. Export one "
            "with python -m sicot_tf.export."
        )
    return max(versions, key=lambda path: int(path.name))


def class_names(model_version_folder: pathlib.Path) -> list[str]:
    """SKU ids in the order of the classes.

    Raises:
        ValueError: if the model has no class names.
    """
    text = _read(model_version_folder / _SKU_IDS).decode("utf-8")
    # Not splitlines: ids may hold other line separators of Unicode.
    return text.removesuffix("\n").split("\n")


def weights_sha256(model_version_folder: pathlib.Path) -> str:
    """The digest in `export.json`; "" in that of older versions."""
    path = model_version_folder / _EXPORT
    _read(path)
    return files.read_json(path).get("weights_sha256", "")


def model_identity(model_version_folder: pathlib.Path) -> str:
    """Digest of class names, graph, `export.json` and all sizes.

    The weights themselves may be gigabytes; `export.json` has their digest.

    Raises:
        ValueError: if the model is not there.
    """
    names = (pathlib.Path(_GRAPH), _SKU_IDS, _EXPORT)
    return files.json_sha256(
        {
            "sha256": {
                str(name): _sha256(model_version_folder / name)
                for name in names
            },
            "bytes": {
                path.name: path.stat().st_size
                for path in model_version_folder.glob("variables/*")
            },
        }
    )


def index_identity(index_generation: pathlib.Path) -> str:
    """SHA-256 of the manifest, which has those of the other files.

    Raises:
        ValueError: if the generation is not there, or a file is cut.
    """
    path = index_generation / generations.MANIFEST
    digest = _sha256(path)
    for name, described in files.read_json(path).get("files", {}).items():
        generations.check_size(index_generation / name, described["bytes"])
    _find(index_generation / product_index.STORE)
    return digest


def _skus(index_generation: pathlib.Path) -> set[str]:
    _find(index_generation / product_index.STORE)
    connection = product_index.connect(index_generation)
    try:
        rows = connection.execute("SELECT DISTINCT sku_id FROM products")
        return {sku_id for (sku_id,) in rows}
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{index_generation / product_index.STORE} can't be read: {error}. "
            "Build the index again."
        ) from error
    finally:
        connection.close()


def _compare_embeddings(
    model_version_folder: pathlib.Path, index_generation: pathlib.Path
) -> str:
    manifest = files.read_json(index_generation / generations.MANIFEST)
    embeddings = manifest.get("embeddings")
    if not embeddings:
        return "none"
    digest = product_index.embedding_model_sha256(model_version_folder)
    if embeddings["saved_model_sha256"] == digest:
        return "of this model"
    return "of another model"


def _find(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise ValueError(
            f"Expected the file {path}; it is not there. Was the folder moved "
            "or removed? Export or build it again, then publish the pair."
        )
    return path


def _read(path: pathlib.Path) -> bytes:
    return _find(path).read_bytes()


def _sha256(path: pathlib.Path) -> str:
    return files.sha256(_find(path))
