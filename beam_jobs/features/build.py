"""Measures what a ranker knows of products; writes a generation.

    product index or catalogue -> products -> MeasurePictures (Beam)
    click logs -> pages of people, of train -> click rates
        -> FEATURES/<date>-<id>/features.parquet, FEATURES/LATEST

Equal input gives equal bytes, whatever the number of processes; only
`run.json` differs. `sicot_tf.ranking.product_features` reads the result.
"""

import collections
import dataclasses
import datetime
import importlib.metadata
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.features import click_rates
from beam_jobs.features import measure_pictures
from beam_jobs.features import offers
from beam_jobs.features import picture_quality
from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.ranking import log_pages
from sicot_tf.ranking import position_bias
from sicot_tf.ranking import product_features

_log = logging.getLogger(__name__)

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 1
REJECTS = "rejects.jsonl"
_MOST_PLACES = 1000


@dataclasses.dataclass(frozen=True)
class Sources:
    """What features are measured from.

    Attributes:
        product_index: a generation or the folder of all; else `catalogue`.
        catalogue: paths or globs of catalogue files.
        clicks: paths or globs of click logs; None: no click rates.
        image_root: folder of relative picture paths; None: that of the
            catalogue file.
        examination: a JSON file; None: 1 / place.
        encoding: of the text of catalogue files.
    """

    product_index: pathlib.Path | None = None
    catalogue: Sequence[str] | None = None
    clicks: Sequence[str] | None = None
    image_root: str | None = None
    examination: pathlib.Path | None = None
    encoding: str = "utf-8"


def build(
    sources: Sources,
    output: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    *,
    date: str,
    max_pages_per_day: int = 1000,
) -> pathlib.Path:
    """Builds a generation in `output` and points `output/LATEST` to it.

    A killed build goes on where it was; one that is there is not built again.

    Raises:
        ValueError: if a source can't be used.
    """
    examination = position_bias.by_power(_MOST_PLACES)
    if sources.examination:
        examination = position_bias.read(sources.examination)
    catalogue = []
    if sources.product_index:
        index = generations.resolve_generation(sources.product_index)
        origin = {
            "product_index": index.name,
            "sha256": files.sha256(index / product_index.STORE),
        }
    else:
        catalogue = record_files.find_record_files(sources.catalogue)
        record_files.check_encodings(
            catalogue, sources.encoding, what="catalogue file"
        )
        origin = {
            "catalogue": [
                {"name": each.name, "sha256": record_files.sha256(each.path)}
                for each in catalogue
            ]
        }
    log = None
    if sources.clicks:
        log = log_pages.read(
            sources.clicks, max_pages_per_day=max_pages_per_day
        )
    identity = {
        "format_version": _FORMAT_VERSION,
        "date": date,
        **origin,
        "clicks": list(log.inputs) if log else [],
        "image_root": sources.image_root,
        "examination": examination.tolist() if sources.examination else "1/k",
        "max_pages_per_day": max_pages_per_day,
        "library_versions": {
            name: importlib.metadata.version(name)
            for name in ("numpy", "opencv-python-headless", "pillow")
        },
    }
    generation = output / f"{date}-{files.json_sha256(identity)[:12]}"
    with generations.only_builder(output):
        if generation.exists():
            generations.check_complete(generation)
            _log.info("%s is already built", generation)
        else:
            with generations.work_folder(output, generation.name) as work:
                products = work / "products.parquet"
                if sources.product_index:
                    counts = offers.from_index(
                        index, sources.image_root or "", products
                    )
                    rejected = []
                else:
                    counts, rejected = offers.from_catalogue(
                        *(catalogue, sources.image_root, work),
                        *(pipeline_options, sources.encoding),
                    )
                _measure(work, pipeline_options)
                finished = generations.result_folder(work)
                _write(
                    *(work, finished, identity, counts, rejected),
                    *(log, examination),
                )
                generations.publish(finished, generation)
        generations.point_latest(generation)
    return generation


def _measure(
    work: pathlib.Path, pipeline_options: beam_options.PipelineOptions
) -> None:
    folder = work / "pictures"
    folder.mkdir(exist_ok=True)
    products = work / "products.parquet"
    with pq.ParquetFile(products) as parquet:
        num_parts = parquet.num_row_groups
    runners.run_each(
        pipeline_options,
        list(range(num_parts)),
        measure_pictures.MeasurePictures(str(products), str(folder)),
    )


def _write(
    work: pathlib.Path,
    finished: pathlib.Path,
    identity: dict[str, Any],
    counts: dict[str, int],
    rejected: Sequence[pathlib.Path],
    log: log_pages.Log | None,
    examination: np.ndarray,
) -> None:
    with pq.ParquetFile(work / "products.parquet") as parquet:
        products, num_parts = parquet.read(), parquet.num_row_groups
    pictures = pa.concat_tables(
        [
            measure_pictures.SCHEMA.empty_table(),
            *(
                pq.ParquetFile(
                    measure_pictures.part_path(work / "pictures", part)
                ).read()
                for part in range(num_parts)
            ),
        ]
    )
    product_ids = products["product_id"].to_pylist()
    pages = log.of_split("train") if log else []
    looks, clicked = click_rates.count(
        pages, {each: row for row, each in enumerate(product_ids)}, examination
    )
    # Of all pages: an age at a later page is higher.
    as_of = max((page.time for page in log.pages), default=0.0) if log else 0.0
    listed = _column(products, "listed_at")
    as_of = as_of or float(np.nanmax(listed, initial=0.0))
    prices = _column(products, "price")
    columns = {
        "sales": _column(products, "sales"),
        "price": prices,
        "price_ratio": offers.price_ratios(
            prices, products["category"].to_pylist()
        ),
        "age_days": np.maximum(
            0, (as_of - listed) / product_features.SECONDS_A_DAY
        ),
        **{name: _column(pictures, name) for name in picture_quality.NAMES},
        **click_rates.rates(looks, clicked),
    }
    names = (*product_features.NAMES, *product_features.FOLD_NAMES)
    pq.write_table(
        pa.table(
            {
                "product_id": products["product_id"],
                **{name: columns[name].astype(np.float32) for name in names},
            }
        ),
        finished / product_features.FEATURES,
        compression="zstd",
    )
    reasons = _write_rejects(
        finished / REJECTS, rejected, product_ids, pictures, log
    )
    files.write_json(
        finished / generations.MANIFEST,
        {
            **identity,
            "as_of": as_of,
            "counts": {
                **counts,
                **{
                    f"log_{k}": n
                    for k, n in (log.counts if log else {}).items()
                },
                "rejects": reasons,
            },
            "known": {
                name: int(np.isfinite(columns[name]).sum())
                for name in product_features.NAMES
            },
            "files": generations.describe_files(finished),
        },
    )
    files.write_json(
        finished / generations.RUN,
        {
            "built_at": datetime.datetime.now(datetime.UTC).isoformat(),
            **runners.describe_machine(),
        },
    )


def _column(table: pa.Table, name: str) -> np.ndarray:
    """`[n]` float64, NaN for null."""
    return np.array(
        [np.nan if x is None else x for x in table[name].to_pylist()], float
    )


def _write_rejects(
    path: pathlib.Path,
    catalogue: Sequence[pathlib.Path],
    product_ids: Sequence[str],
    pictures: pa.Table,
    log: log_pages.Log | None,
) -> dict[str, int]:
    """Records, pictures and rows of logs that can't be used; by reason."""
    reasons: collections.Counter[str] = collections.Counter()
    with path.open("w", encoding="utf-8") as file:
        for part in catalogue:
            for line in part.read_text("utf-8").splitlines():
                reasons[json.loads(line)["reason"]] += 1
                file.write(line + "\n")
        columns = (pictures["reason"], pictures["message"])
        for product_id, reason, message in zip(
            product_ids, *(each.to_pylist() for each in columns), strict=True
        ):
            if reason:
                reasons[reason] += 1
                row = {
                    "reason": reason,
                    "message": message,
                    "product_id": product_id,
                }
                file.write(raw_records.to_json(row) + "\n")
        for row in log.rejects if log else ():
            reasons[str(row["reason"])] += 1
            file.write(raw_records.to_json(row) + "\n")
    return dict(sorted(reasons.items()))
