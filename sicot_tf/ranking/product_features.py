"""What a ranker knows of a product, whoever asks for it.

`beam_jobs.product_features` measures it; a ranker's generation holds a copy,
so that it orders by what it was trained on.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sicot_tf import files
from sicot_tf.data import generations

FEATURES = "features.parquet"

# Columns of `FEATURES` beside `product_id`; NaN where nothing is known.
NAMES = (
    "sales",
    # Clicks per customer who looked, see `click_rates`.
    "click_rate",
    "price",
    # To the median price of its category.
    "price_ratio",
    # Since it was listed; `as_of` in the manifest is when.
    "age_days",
    # Of the main picture, see `beam_jobs.features.picture_quality`.
    "sharpness",
    "picture_side",
    "background_share",
    "text_share",
)
# A page teaches by click rates that its own clicks are no part of: those of
# the other folds.
NUM_FOLDS = 5
FOLD_NAMES = tuple(f"click_rate_{fold}" for fold in range(NUM_FOLDS))

SECONDS_A_DAY = 86_400.0


def fold_of(query_id: str) -> int:
    """The fold of a result page, the same on every machine."""
    return files.stable_hash("fold", query_id) % NUM_FOLDS


class ProductFeatures:
    """A table of product features in memory.

    Args:
        path: `FEATURES` of a generation.
        names: of the columns to read.

    Raises:
        ValueError: if a column is missing.
    """

    def __init__(self, path: pathlib.Path | str, names: Sequence[str] = NAMES):
        try:
            # A path may look like a partition: no data set.
            with pq.ParquetFile(path) as parquet:
                found = parquet.schema_arrow.names
                table = parquet.read(["product_id", *names])
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"The product features {path} can't be read: {error} Measure "
                "them again with python -m beam_jobs.product_features."
            ) from error
        missing = [name for name in ("product_id", *names) if name not in found]
        if missing:
            raise ValueError(
                f"Expected columns {', '.join(missing)} in {path}, found "
                f"{', '.join(found)}. Measure the features again with "
                "python -m beam_jobs.product_features."
            )
        self.names = tuple(names)
        self.product_ids = table["product_id"].to_pylist()
        self._rows = {each: row for row, each in enumerate(self.product_ids)}
        # The last row is that of products nobody has measured.
        self._values = np.full(
            (len(self.product_ids) + 1, len(names)), np.nan, np.float32
        )
        for column, name in enumerate(names):
            self._values[:-1, column] = table[name].to_numpy()

    def __len__(self) -> int:
        return len(self.product_ids)

    def __contains__(self, product_id: str) -> bool:
        return product_id in self._rows

    def of(self, product_ids: Sequence[str]) -> np.ndarray:
        """`[n, features]` float32; NaN for what is not known."""
        unknown = len(self.product_ids)
        rows = self._rows
        return self._values[[rows.get(each, unknown) for each in product_ids]]

    def write(self, path: pathlib.Path | str) -> None:
        """Writes what a ranker reads: `NAMES`, without rates by fold."""
        columns = {"product_id": pa.array(self.product_ids, pa.string())}
        for column, name in enumerate(self.names):
            if name in NAMES:
                columns[name] = self._values[:-1, column]
        pq.write_table(pa.table(columns), path, compression="zstd")


def open_generation(
    path: pathlib.Path | str,
) -> tuple[pathlib.Path, dict[str, object]]:
    """A generation of `beam_jobs.product_features`, and its manifest.

    Raises:
        ValueError: if there is none.
    """
    folder = generations.resolve_generation(path)
    manifest = files.read_json(folder / generations.MANIFEST)
    if not (folder / FEATURES).is_file() or "as_of" not in manifest:
        raise ValueError(
            f"Expected product features in {folder}, found no {FEATURES} of "
            "python -m beam_jobs.product_features."
        )
    return folder, manifest
