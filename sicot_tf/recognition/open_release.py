"""What is open of a release, and what a model server has to load for it."""

import contextlib
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.recognition import nearest_pictures
from sicot_tf.recognition import releases
from sicot_tf.recognition import sku_categories

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
        nearest_pictures: the catalogue's pictures by their embeddings.
        sku_categories: categories by SKU.
        settings: numbers of the stages.

    Raises:
        ValueError: if the index can't be opened.
    """

    def __init__(self, release: releases.Release):
        self.name = release.name
        self.model_name = release.model_name
        self.model_version = release.model_version
        self.model_base_path = release.model_base_path
        self.index_generation = release.index_generation.name
        self.settings = release.settings
        with contextlib.ExitStack() as opened:
            self.index = opened.enter_context(
                product_index.ProductIndex(release.index_generation)
            )
            self.nearest_pictures = opened.enter_context(
                nearest_pictures.NearestPictures(release.index_generation)
            )
            self.sku_categories = sku_categories.SkuCategories(
                release.index_generation
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the index; lookups under way still finish."""
        self._opened.close()


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
