"""Which store a location is on."""

import functools
import pathlib

from sicot_tf.stores import folder
from sicot_tf.stores import locations


def open_folder(location: locations.Location) -> folder.Folder:
    """The folder at a path or a URL; nothing is asked of the store yet.

    Raises:
        ValueError: if there is no store for the URL.
    """
    scheme = locations.scheme(location)
    if not scheme:
        from sicot_tf.stores import local_folder

        return local_folder.LocalFolder(pathlib.Path(location))
    if scheme == "s3":
        from sicot_tf.stores import s3_folder

        return s3_folder.S3Folder(location)
    if scheme == "gs":
        from sicot_tf.stores import gcs_folder

        return gcs_folder.GcsFolder(location)
    raise ValueError(
        "Expected a path, or a URL that starts with "
        f"{' or '.join(f'{each}://' for each in locations.SCHEMES)}, received "
        f"{location!r}."
    )


@functools.lru_cache(maxsize=1024)
def folder_of(location: str) -> folder.Folder:
    """`open_folder` for a URL, kept: clients are dear."""
    return open_folder(location)


def file_of(location: str) -> tuple[folder.Folder, str]:
    """The bucket that a file at a URL is in, and its key there.

    Raises:
        ValueError: if there is no store for the URL, or it names a bucket
            only.
    """
    scheme, _, place = location.partition("://")
    bucket, _, key = place.partition("/")
    if not key:
        raise ValueError(
            f"Expected the URL of a file, such as {scheme}://bucket/file, "
            f"received {location!r}."
        )
    return folder_of(f"{scheme}://{bucket}"), key
