"""Builds a generation of the product index from catalogue records.

    catalogue files -> ParseCatalogue (Beam) -> latest record of each product
        (DuckDB) -> products.sqlite [-> EmbedPictures (Beam) -> embeddings.npy]
        -> INDEX/<date>-<id>/, INDEX/LATEST

Equal input and settings give equal bytes, whatever the number of processes;
only `run.json` differs. `sicot_tf.catalogue.product_index` reads the result.
"""

import argparse
import collections
import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import posixpath
import shutil

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library, and the version stands in the file.
import sqlite3  # noqa: F401
import sys
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow.parquet as pq
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import embed_pictures
from beam_jobs.catalogue import merge_products
from beam_jobs.catalogue import parse_catalogue
from beam_jobs.catalogue import retention
from beam_jobs.catalogue.identity import Settings
from beam_jobs.catalogue.identity import file_sha256
from beam_jobs.catalogue.identity import find_base
from beam_jobs.catalogue.identity import identify
from beam_jobs.catalogue.identity import is_same_delta
from beam_jobs.catalogue.identity import name_of
from beam_jobs.catalogue.report import REPORT
from beam_jobs.catalogue.report import count_rejects
from beam_jobs.catalogue.report import count_store
from beam_jobs.catalogue.report import write
from beam_jobs.pipelines import runners
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

_EPILOG = """\
catalogue records: JSON Lines (.jsonl), CSV (.csv), both also gzipped, or
Parquet; many files are read by many processes, one file by one
  required  product_id, sku_id (the class; several products may share one),
            title (may be empty)
  optional  images (a list, or text with | between) or image, tags, category,
            updated_at (ISO 8601, or seconds since 1970), deleted
  any other field (price, quality, ...) is kept as it is

of several records of a product the one with the latest updated_at counts, at
equal times that of the later file and line; "deleted": true removes it

records and pictures that can't be used stand in rejects.jsonl with a reason;
mended, the file can be given to --input
{reasons}

examples
  python -m beam_jobs.build_product_index --input 'catalogue/*.parquet' \\
      --output index --labels runs/cotrain/classes.jsonl
  python -m beam_jobs.build_product_index --input changes.jsonl \\
      --output index --mode delta
  python -m beam_jobs.build_product_index --output index --list
  python -m beam_jobs.build_product_index --output index --rollback

exit codes: 0 built, found finished or rolled back; 1 an error; 2 refused
(wrong flags, or the index would shrink too much). The index in use stays as
it is unless the code is 0.
"""


def build(
    inputs: Sequence[str],
    index: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    *,
    max_shrink_percent: float = 20,
    keep: int = 7,
) -> pathlib.Path:
    """Builds a generation in `index` and points `index/LATEST` to it.

    A generation that is there already is not built again. Nothing of a new
    one is visible before it is complete; a killed build goes on where it was.

    Args:
        inputs: paths or globs of catalogue files.
        index: folder of the generations.
        pipeline_options: for both pipelines, from
            `runners.make_pipeline_options`.
        max_shrink_percent: of the products of `LATEST`; 100 allows all.
        keep: how many generations remain.

    Returns:
        The folder of the generation.

    Raises:
        index_generations.ShrinkError: if too many products would be gone.
        ValueError: if a setting does not fit or a file can't be read.
    """
    datetime.date.fromisoformat(settings.date)
    with retention.only_builder(index):
        generation = _build(
            inputs, index, settings, pipeline_options, max_shrink_percent
        )
        retention.remove_old(index, keep)
    return generation


def _build(
    inputs: Sequence[str],
    index: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    max_shrink_percent: float,
) -> pathlib.Path:
    seconds: dict[str, float] = {}
    with _stage("fingerprints", seconds):
        files = record_files.find_record_files(inputs)
        record_files.check_encodings(
            files, settings.encoding, what="catalogue file"
        )
        base = find_base(index, settings)
        identity = identify(files, settings, base)
    # After a delta LATEST is what this very command has built.
    if settings.mode == "delta" and settings.base is None:
        if is_same_delta(base, identity):
            print(f"{base} is already built.")
            return base
    name = name_of(identity)
    generation = index / name
    if generation.exists():
        generations.resolve_generation(generation)  # Has it its manifest?
        manifest = config.read_json(generation / generations.MANIFEST)
        retention.check_shrink(
            index, manifest["counts"]["products"], max_shrink_percent
        )
        print(f"{generation} is already built.")
        generations.point_latest(generation)
        return generation

    work = retention.work_folder(index, name)
    finished = work / "generation"
    for folder in ("parts", "spill", "embeddings", "generation"):
        (work / folder).mkdir(exist_ok=True)
    with _stage("check records", seconds):
        counters = runners.run_each(
            pipeline_options,
            [
                (n, os.fsencode(file.path), file.name)
                for n, file in enumerate(files)
            ],
            parse_catalogue.ParseCatalogue(
                str(work / "parts"), settings.encoding
            ),
        )
    parts = [
        parse_catalogue.part_files(work / "parts", n) for n in range(len(files))
    ]
    work_list = work / "embeddings" / "pictures.sqlite"
    with parquet_tables.plain_name(work) as plain:
        with _stage("latest records", seconds):
            row_files = [
                plain / "parts" / part["products"].name for part in parts
            ]
            if base is not None:
                row_files.append(plain / "base.parquet")
                merge_products.export_base(base, row_files[-1])
            rows = merge_products.open_rows(row_files, plain / "spill")
            counts = _count(rows, parts)
        retention.check_shrink(index, counts["products"], max_shrink_percent)
        with _stage("write the store", seconds):
            merge_products.write_store(
                rows,
                finished / product_index.STORE,
                folders=[
                    settings.image_root or posixpath.dirname(file.path)
                    for file in files
                ],
                pictures=work_list if settings.saved_model else None,
                base=base,
            )
            rows.close()
    rejects = finished / parse_catalogue.REJECTS
    with rejects.open("wb") as output:
        for part in parts:
            with part["rejects"].open("rb") as file:
                shutil.copyfileobj(file, output)
    if settings.saved_model is not None:
        dim = identity["embeddings"]["dim"]
        with _stage("embed pictures", seconds):
            counters += embed_pictures.embed(
                work_list.parent, settings.saved_model, dim, pipeline_options
            )
            counts |= embed_pictures.collect(
                work_list.parent, finished, dim, base
            )
    with _stage("report", seconds):
        counts |= count_store(finished)
        counts["rejects"] = count_rejects(rejects)
        write(finished, counts, settings.labels)
        config.write_json(
            finished / generations.MANIFEST,
            {**identity, "counts": counts, "files": _describe_files(finished)},
        )
    config.write_json(
        finished / retention.RUN,
        {
            "built_at": retention.now(),
            "seconds": {k: round(v, 2) for k, v in seconds.items()},
            "records_per_second": round(
                counts["records_read"] / sum(seconds.values()), 1
            ),
            "beam_counters": counters,
            "host": platform.node(),
            "num_cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "apache_beam": importlib.metadata.version("apache-beam"),
        },
    )
    generations.publish(finished, generation)
    generations.point_latest(generation)
    shutil.rmtree(work)
    return generation


@contextlib.contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Says what is going on and notes how long it took."""
    print(f"{name} ...", flush=True)
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _count(
    rows: duckdb.DuckDBPyConnection, parts: Sequence[dict[str, pathlib.Path]]
) -> dict[str, Any]:
    """What became of each record.

    `records_read` is the sum of `records_rejected`, `records_superseded` (a
    later record of the product counts), `tombstones` and
    `products_from_input`.
    """
    counts = collections.Counter(merge_products.count_rows(rows))
    for part in parts:
        metadata = pq.read_metadata(part["products"]).metadata
        counts["records_read"] += int(metadata[b"read"])
        counts["records_rejected"] += int(metadata[b"rejected"])
    counts["products"] = (
        counts["products_from_input"] + counts["products_from_base"]
    )
    return dict(counts)


def _describe_files(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(str(path)),
        }
        for path in sorted(folder.iterdir())
    }


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds, lists or rolls back, says what came of it."""
    width = max(map(len, parse_catalogue.REJECT_REASONS))
    reasons = "\n".join(
        f"  {reason:{width}}  {explanation}"
        for reason, explanation in parse_catalogue.REJECT_REASONS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.build_product_index",
        description="Builds a dated product index: SKU id to products.",
        epilog=_EPILOG.format(reasons=reasons),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="INDEX",
        help="folder of the generations; INDEX/LATEST names the one in use",
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--input",
        nargs="+",
        metavar="CATALOGUE",
        help="catalogue files: paths or globs",
    )
    action.add_argument(
        "--list", action="store_true", help="show the generations"
    )
    action.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="GENERATION",
        help="point LATEST to a generation (default: the one before)",
    )
    parser.add_argument(
        "--date",
        type=_parse_date,
        default=datetime.date.today().isoformat(),
        help="of the generation, YYYY-MM-DD (default: today)",
    )
    parser.add_argument(
        "--mode",
        choices=("full", "delta"),
        default="full",
        help="full: the input is the whole catalogue; delta: changes on top "
        "of a base (default: full)",
    )
    parser.add_argument(
        "--base",
        type=pathlib.Path,
        metavar="GENERATION",
        help="what a delta stands on (default: LATEST)",
    )
    parser.add_argument(
        "--labels",
        type=pathlib.Path,
        metavar="FILE",
        help="classes.jsonl of a run or data set, or the sku_ids.txt of a "
        "SavedModel: report SKUs without class and classes without SKU",
    )
    parser.add_argument(
        "--saved_model",
        type=pathlib.Path,
        metavar="DIR",
        help="exported model, for example saved_models/sicot/1: write its "
        "embedding of every picture",
    )
    parser.add_argument(
        "--image_root",
        metavar="DIR",
        help="folder of relative picture paths, read with --saved_model "
        "(default: that of the catalogue file)",
    )
    parser.add_argument(
        "--encoding",
        default="utf-8",
        help="of the text of JSON Lines and CSV, for example gb18030 or "
        "utf-16 (default: utf-8)",
    )
    parser.add_argument(
        "--max_shrink_percent",
        type=float,
        default=20,
        help="refuse an index that loses more of its products (default: 20)",
    )
    parser.add_argument(
        "--force", action="store_true", help="however much it shrinks"
    )
    parser.add_argument(
        "--keep",
        type=int,
        default=7,
        help="generations that remain (default: 7)",
    )
    runners.add_arguments(parser)
    arguments, beam_flags = parser.parse_known_args(argv)
    if not arguments.max_shrink_percent >= 0:
        parser.error(
            "--max_shrink_percent: expected 0 or more, received "
            f"{arguments.max_shrink_percent}"
        )
    if arguments.keep < 1:
        parser.error(f"--keep: expected 1 or more, received {arguments.keep}")
    try:
        pipeline_options = runners.make_pipeline_options(
            arguments.runner, arguments.num_processes, beam_flags
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        if arguments.list:
            print(retention.describe(arguments.output))
        elif arguments.rollback is not None:
            _roll_back(arguments.output, arguments.rollback or None)
        else:
            _build_and_tell(arguments, pipeline_options)
    except retention.ShrinkError as error:
        print(f"Refused: {error}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        sys.exit(f"Error: {error}")


def _parse_date(text: str) -> str:
    return datetime.date.fromisoformat(text).isoformat()


def _roll_back(index: pathlib.Path, name: str | None) -> None:
    with retention.only_builder(index):
        generation = retention.roll_back(index, name)
    print(f"{index / generations.LATEST} names {generation.name} again.")


def _build_and_tell(
    arguments: argparse.Namespace,
    pipeline_options: beam_options.PipelineOptions,
) -> None:
    print(f"date {arguments.date}", flush=True)
    generation = build(
        arguments.input,
        arguments.output,
        Settings(
            date=arguments.date,
            mode=arguments.mode,
            base=arguments.base,
            labels=arguments.labels,
            saved_model=arguments.saved_model,
            image_root=arguments.image_root,
            encoding=arguments.encoding,
        ),
        pipeline_options,
        max_shrink_percent=(
            100 if arguments.force else arguments.max_shrink_percent
        ),
        keep=arguments.keep,
    )
    report = config.read_json(generation / REPORT)
    counts = report["counts"]
    print(
        f"{counts['products']:,} products of {counts['skus']:,} SKUs from "
        f"{counts['records_read']:,} records; "
        f"{counts['records_rejected']:,} rejected"
    )
    if report["classes"] is not None:
        classes = report["classes"]
        print(
            f"{classes['skus_without_class']['count']:,} SKUs without class, "
            f"{classes['classes_without_sku']['count']:,} classes without SKU"
        )
        if classes["count"] == classes["classes_without_sku"]["count"]:
            print(
                f"Warning: no product is of one of the {classes['count']:,} "
                f"classes of {arguments.labels}.",
                file=sys.stderr,
            )
    if not counts["products"]:
        raise ValueError(
            f"{generation} holds no product; see its {parse_catalogue.REJECTS} "
            "for the reasons."
        )
    print(f"Product index: {generation}")
    print(
        "Go back with: python -m beam_jobs.build_product_index --output "
        f"{arguments.output} --rollback"
    )


if __name__ == "__main__":
    main()
