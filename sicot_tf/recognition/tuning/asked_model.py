"""What an exported model answers to files of pictures, without a server."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.recognition.releases import release_check
from sicot_tf.serving.inference import servable

_log = logging.getLogger(__name__)
# Pictures of one question.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What signature `recognition` says of a picture.

    Attributes:
        sku_ids: `[k]`, best first.
        scores: `[k]`, the softmax of these.
        recognised: whether the best score reaches the model's threshold.
        embedding: `[dim]` float32.
    """

    sku_ids: list[str]
    scores: list[float]
    recognised: bool
    embedding: np.ndarray


class AskedModel:
    """An exported model in this process.

    Attributes:
        folder: of the version.
        version: its number.

    Args:
        path: the base path (its highest version is taken) or one version.

    Raises:
        ValueError: if there is no exported model.
    """

    def __init__(self, path: pathlib.Path):
        folder = release_check.newest_version(path)
        self.folder = folder
        self.version = int(folder.name)
        self._model = servable.Servable(path.name, self.version, folder)

    def recognise(
        self, images: Sequence[pathlib.Path | bytes]
    ) -> list[Recognised | None]:
        """Answers to pictures, files or their bytes.

        None for one that can't be decoded.
        """
        names = ("sku_id", "score", "recognised", "embedding")
        return [
            outputs
            and Recognised(
                [sku_id.decode() for sku_id in outputs[0]],
                outputs[1].tolist(),
                bool(outputs[2]),
                outputs[3],
            )
            for outputs in self._ask("recognition", names, images, _BATCH)
        ]

    def embed(
        self, images: Sequence[pathlib.Path | bytes]
    ) -> list[np.ndarray | None]:
        """`[dim]` float32 of pictures by the branch trained for search.

        None for one that can't be decoded.
        """
        return [
            outputs and outputs[0]
            for outputs in self._ask("search", ("embedding",), images, _BATCH)
        ]

    def heat_maps(
        self, images: Sequence[pathlib.Path]
    ) -> list[np.ndarray | None]:
        """`[h, w]` float32 of pictures; None for one that can't be decoded.

        One by one: in a batch, photos of different shapes share one.
        """
        return [
            outputs and outputs[0]
            for outputs in self._ask("localization", ("heat_map",), images, 1)
        ]

    def _ask(
        self,
        name: str,
        outputs: Sequence[str],
        images: Sequence[pathlib.Path | bytes],
        batch_size: int,
    ) -> Iterator[list[np.ndarray] | None]:
        """The outputs of each picture."""
        _, signature = self._model.signature(name)
        if signature is None:
            raise ValueError(
                f"{self._model.directory} has no signature {name!r}, only "
                f"{sorted(self._model.signatures)}. Export it again with "
                "python -m sicot_tf.export."
            )
        feed = signature.inputs["image_bytes"].name
        fetches = [signature.outputs[each].name for each in outputs]

        def run(contents: list[bytes]) -> list[list[np.ndarray]]:
            found = self._model.run(
                {feed: np.array(contents, object)}, fetches, None
            )
            return [list(row) for row in zip(*found)]

        with progress.bar(
            total=len(images), description=name, unit="pictures"
        ) as bar:
            for start in range(0, len(images), batch_size):
                part = images[start : start + batch_size]
                contents = [
                    each if isinstance(each, bytes) else each.read_bytes()
                    for each in part
                ]
                try:
                    yield from run(contents)
                except tf.errors.InvalidArgumentError:
                    # One that can't be decoded spoils the batch.
                    yield from (
                        _run_alone(run, image, content)
                        for image, content in zip(part, contents)
                    )
                bar.update(len(part))


def _run_alone(
    run: Callable[[list[bytes]], list[list[np.ndarray]]],
    image: pathlib.Path | bytes,
    content: bytes,
) -> list[np.ndarray] | None:
    try:
        return run([content])[0]
    except tf.errors.InvalidArgumentError as error:
        name = "A picture" if isinstance(image, bytes) else image
        _log.warning("%s is left out: %s", name, error.message)
        return None
