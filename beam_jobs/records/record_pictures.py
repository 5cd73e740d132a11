"""Reading the pictures of records, wherever they are."""

from beam_jobs.records import record_files
from sicot_tf.data import records
from sicot_tf.stores import folder as folders


def read(path: str, folder: str = "") -> bytes:
    """The bytes of a record's picture.

    Args:
        path: of the picture.
        folder: of the record file; empty where it is not known.

    Raises:
        RecordError: `missing_image`, if it can't be read. The message has no
            folder in it: that differs between machines.
        StoreError: if the whole store is at fault, which is no reason to
            reject every record: it can't be reached, does not accept the
            credentials, or refuses the bucket that the record file is in.
    """
    try:
        with record_files.open_file(path) as file:
            return file.read()
    except folders.StoreRefusedError as error:
        # One record may name any bucket.
        if _bucket(path) == _bucket(folder):
            raise
        raise records.RecordError("missing_image", str(error)) from error
    except folders.StoreError:
        raise
    except Exception as error:  # Beam's file systems have others yet.
        message = getattr(error, "strerror", None) or str(error)
        raise records.RecordError("missing_image", message) from error


def _bucket(url: str) -> list[str]:
    return url.split("/")[:3]
