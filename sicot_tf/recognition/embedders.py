"""What a model says of pictures, one call after another: for commands.

The service itself asks asynchronously, see `model_server`.
"""

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue.gallery import Embed
from sicot_tf.recognition import model_server


def of_saved_model(
    saved_model: pathlib.Path, signature: str, sha256: str
) -> Embed:
    """A model in this process.

    Args:
        sha256: of the model that is expected.

    Raises:
        ValueError: if it is another one.
    """
    found = product_index.embedding_model_sha256(saved_model)
    if found != sha256:
        raise ValueError(
            f"The vectors of the index are by another model than {saved_model} "
            f"({sha256[:8]}, this is {found[:8]}). Give the version that was "
            "released with it."
        )
    # Seconds, and only where it is needed.
    import tensorflow as tf

    model = tf.saved_model.load(str(saved_model))

    def embed(pictures: Sequence[bytes]) -> np.ndarray:
        try:
            outputs = model.signatures[signature](
                image_bytes=tf.constant(list(pictures))
            )
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(error.message[:300]) from error
        return outputs["embedding"].numpy()

    return embed


@contextlib.contextmanager
def of_server(
    address: str, model_name: str, version: int | None, signature: str
) -> Iterator[Embed]:
    """A model server; the newest version that answers unless one is named.

    Raises:
        ValueError: if it can't be asked, or has no such model.
    """
    with asyncio.Runner() as runner:

        async def connect() -> model_server.ModelServer:
            return model_server.ModelServer(address)

        server = runner.run(connect())
        try:
            if version is None:
                version = _newest(runner, server, model_name)

            async def ask(pictures: Sequence[bytes]) -> np.ndarray:
                if signature == model_server.SEARCH:
                    found = await server.embed(model_name, version, pictures)
                else:
                    found = await server.recognise(
                        model_name, version, pictures
                    )
                return np.array([each.embedding for each in found])

            def embed(pictures: Sequence[bytes]) -> np.ndarray:
                try:
                    return runner.run(ask(pictures))
                except model_server.ModelServerError as error:
                    if error.status == 422:
                        raise ValueError(
                            f"{error} {error.details[:200]}"
                        ) from error
                    raise ConnectionError(
                        f"{error} Ask again once {address} answers."
                    ) from error

            yield embed
        finally:
            runner.run(server.close())


def _newest(
    runner: asyncio.Runner, server: model_server.ModelServer, model_name: str
) -> int:
    try:
        versions = runner.run(server.versions(model_name))
    except model_server.ModelServerError as error:
        raise ConnectionError(
            f"{server.address} does not answer: {error} Is the server up?"
        ) from error
    if not versions:
        raise ValueError(
            f"{server.address} has no version of {model_name!r} that answers. "
            "Name the model that it serves: --model_name."
        )
    return max(versions)
