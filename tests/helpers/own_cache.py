"""A cache of generations that a test has for itself."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from unittest import mock

from sicot_tf.data import generation_cache


@contextlib.contextmanager
def own_cache(folder: pathlib.Path | str) -> Iterator[None]:
    """Copies go there; what was in use is not any more in the end."""
    with (
        mock.patch.dict(os.environ, {"SICOT_TF_CACHE": str(folder)}),
        mock.patch.object(generation_cache, "_in_use", {}) as in_use,
    ):
        yield
        for file in in_use.values():
            file.close()
