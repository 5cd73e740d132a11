"""What is open of a release, and what a model server has to load for it."""

import contextlib
import functools
import logging
import pathlib
import typing
from collections.abc import Iterable
from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import pictures
from sicot_tf.recognition.stages import sku_categories

if typing.TYPE_CHECKING:
    from sicot_tf.catalogue.vector_index import VectorIndex
    from sicot_tf.ranking.ranker import Ranker

_log = logging.getLogger(__name__)
# Base path and versions of each model, by its name.
Models = Mapping[str, tuple[pathlib.Path, Iterable[int]]]


class OpenRelease:
    """A release with its index open, for any number of threads at once.

    Attributes:
        name: of the release.
        model_name: as the model server knows it.
        model_version: of the model server.
        model_base_path: the folder of the model's versions.
        index_generation: name of the generation.
        index: products by SKU.
        nearest_pictures: the catalogue's pictures by their embeddings; None
            where `vector_index` finds them.
        sku_categories: categories by SKU.
        vector_index: pictures by what `search` says of them, with the changes
            since; None: the release has no visual search.
        ranker: the order of what is found; None: the most similar first.
        settings: numbers of the stages.

    Raises:
        ValueError: if one of the indexes can't be opened.
    """

    def __init__(self, release: releases.Release):
        self.name = release.name
        self.model_name = release.model_name
        self.model_version = release.model_version
        self.model_base_path = release.model_base_path
        self.index_generation = release.index_generation.name
        self._generation = release.index_generation
        self.settings = release.settings
        with contextlib.ExitStack() as opened:
            self.index = opened.enter_context(
                product_index.ProductIndex(release.index_generation)
            )
            self.sku_categories = sku_categories.SkuCategories(
                release.index_generation
            )
            self.vector_index = _open_vectors(release, opened)
            self.nearest_pictures = None
            if self.vector_index is None:
                self.nearest_pictures = opened.enter_context(
                    nearest_pictures.NearestPictures(release.index_generation)
                )
            self.ranker = _open_ranker(release)
            self._opened = opened.pop_all()

    @functools.cached_property
    def catalogue_root(self) -> pathlib.Path | None:
        """Where relative picture paths of the index start, if that is found.

        The first call reads the catalogue, see `pictures.find_root`.
        """
        found = pictures.find_root(self._generation)
        if found:
            _log.info("Pictures of %s lie in %s.", self._generation, found)
        return found

    def close(self) -> None:
        """Closes the indexes; lookups under way still finish."""
        self._opened.close()


def _open_vectors(
    release: releases.Release, opened: contextlib.ExitStack
) -> "VectorIndex | None":
    if release.vector_index_generation is None:
        return None
    # FAISS is not for those who don't search.
    from sicot_tf.catalogue import vector_index

    index = vector_index.VectorIndex(release.vector_index_generation)
    opened.callback(index.close)
    index.apply_updates()
    return index


def _open_ranker(release: releases.Release) -> "Ranker | None":
    if release.ranker is None:
        return None
    # Nor is LightGBM.
    from sicot_tf.ranking import ranker

    return ranker.Ranker.open(release.ranker)


def merge(
    models: Iterable[Models],
) -> dict[str, tuple[pathlib.Path, tuple[int, ...]]]:
    """All of them as one.

    Raises:
        ValueError: if two models of one name have different base paths.
    """
    found: dict[str, tuple[pathlib.Path, tuple[int, ...]]] = {}
    for name, (path, versions) in (
        item for each in models for item in each.items()
    ):
        known_path, known = found.get(name, (path, ()))
        if path != known_path:
            raise ValueError(
                f"Model {name!r} is served from {known_path}; a release wants "
                f"it from {path}. Export to the same folder, or give the "
                "folder another name."
            )
        found[name] = path, tuple(sorted({*known, *versions}))
    return found


def write_model_config(path: pathlib.Path, models: Models) -> None:
    """Writes the `--model_config_file` that serves exactly these versions."""
    config = model_server_config_pb2.ModelServerConfig()
    for name, (base_path, versions) in sorted(models.items()):
        model = config.model_config_list.config.add(
            name=name,
            base_path=str(base_path.absolute()),
            model_platform="tensorflow",
        )
        model.model_version_policy.specific.versions.extend(sorted(versions))
    files.write_text(path, text_format.MessageToString(config))
