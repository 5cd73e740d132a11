"""Builds a generation of the vector index.

    product index + live changes -> list of wanted pictures -> vectors: of the
        base, of live changes, of the product index or embedded (Beam)
        -> FAISS indexes -> VECTORS/<date>-<id>/, VECTORS/LATEST

`sicot_tf.catalogue.vector_index` reads the result.
"""

import datetime
import logging
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.catalogue import retention as catalogue_retention
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.vectors import collect
from beam_jobs.vectors import embedding
from beam_jobs.vectors import identity as identities
from beam_jobs.vectors import live_changes
from beam_jobs.vectors import retention
from beam_jobs.vectors import sources
from beam_jobs.vectors import wanted
from beam_jobs.vectors.identity import Settings
from beam_jobs.vectors.live_changes import LiveChanges
from sicot_tf import files
from sicot_tf.catalogue import folded_products
from sicot_tf.catalogue import vector_index
from sicot_tf.data import generations
from sicot_tf.recognition.stages import pictures

_log = logging.getLogger(__name__)


def build(
    root: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    *,
    max_shrink_percent: float = 20,
    keep: int = 7,
    releases: Sequence[pathlib.Path] = (),
) -> pathlib.Path:
    """Builds a generation in `root` and points `root/LATEST` to it.

    A generation that is there already is not built again. Nothing of a new
    one is visible before it is complete; a killed build goes on where it was,
    or begins anew if live changes have come since.

    Args:
        root: folder of the generations.
        pipeline_options: from `runners.make_pipeline_options`.
        max_shrink_percent: of the vectors of `LATEST`; 100 allows all.
        keep: how many generations remain.
        releases: folders whose live releases keep theirs in any case.

    Returns:
        The folder of the generation.

    Raises:
        retention.ShrinkError: if too many vectors would be gone.
        ValueError: if a setting does not fit or a file can't be read.
    """
    datetime.date.fromisoformat(settings.date)
    # Before the work, which a mistake would lose.
    in_use = retention.in_use(releases)
    with generations.only_builder(root):
        generation = _build(
            root, settings, pipeline_options, max_shrink_percent
        )
        catalogue_retention.remove_old(root, keep, in_use)
    return generation


def _build(
    root: pathlib.Path,
    settings: Settings,
    pipeline_options: beam_options.PipelineOptions,
    max_shrink_percent: float,
) -> pathlib.Path:
    seconds: dict[str, float] = {}
    latest = generations.latest(root)
    base = latest if settings.delta else None
    if settings.delta and base is None:
        raise ValueError(
            f"{root} has no vector index for a delta to stand on. Build one "
            "without --delta first."
        )
    with progress.stage("fingerprints", seconds):
        last = live_changes.last_sequence(root)
        identity = identities.identify(settings, base, last)
    if base is not None and identities.is_up_to_date(base, identity):
        # What is left of a build that was killed after its end.
        generations.remove_abandoned(root, "*")
        _log.info("%s is already built", base)
        return base
    generation = root / identities.name_of(identity)
    if generation.exists():
        generations.remove_abandoned(root, "*")
        _take_up(generation, max_shrink_percent)
        return generation
    with generations.work_folder(root, generation.name) as work:
        # Only this process builds here: the others were killed.
        generations.remove_abandoned(root, "*")
        changes = live_changes.read(
            *(root, last, settings.product_index),
            sources.read_taken_over(latest) if latest else {},
        )
        if not embedding.has_begun(work):
            with progress.stage("list pictures", seconds):
                _list(work, root, settings, identity, changes, latest, base)
        counters: dict[str, int] = {}
        if settings.saved_model and not identities.takes_stored(
            settings, identity
        ):
            with progress.stage("embed pictures", seconds):
                counters = embedding.embed(
                    work, identity, settings.saved_model, pipeline_options
                )
        shutil.rmtree(work / "generation", ignore_errors=True)
        finished = generations.result_folder(work)
        with progress.stage("build the indexes", seconds):
            built = _write_indexes(
                *(work, root, finished, settings, identity, base),
                max_shrink_percent,
            )
        with progress.stage("report", seconds):
            _write_manifest(work, finished, identity, built, changes)
        files.write_json(
            finished / generations.RUN,
            {
                "built_at": catalogue_retention.now(),
                "seconds": {k: round(v, 2) for k, v in seconds.items()},
                "beam_counters": counters,
                **runners.describe_machine(),
            },
        )
        generations.publish(finished, generation)
        generations.point_latest(generation)
    return generation


def _take_up(generation: pathlib.Path, max_shrink_percent: float) -> None:
    """Points LATEST to a generation that is built."""
    generations.check_complete(generation)
    manifest = files.read_json(generation / generations.MANIFEST)
    retention.check_shrink(
        generation.parent, manifest["num_vectors"], max_shrink_percent
    )
    _log.info("%s is already built", generation)
    generations.point_latest(generation)


def _list(
    work: pathlib.Path,
    root: pathlib.Path,
    settings: Settings,
    identity: dict[str, Any],
    changes: LiveChanges,
    latest: pathlib.Path | None,
    base: pathlib.Path | None,
) -> None:
    """Writes the list of wanted pictures, with the vectors that are there."""
    takes_stored = identities.takes_stored(settings, identity)
    image_root = settings.image_root
    if image_root is None:
        image_root = pictures.find_root(settings.product_index)
    if image_root is None and takes_stored:
        # The paths are names only: nothing is read.
        image_root = pathlib.Path()
    listed = work / wanted.FILE
    wanted.write(listed, settings.product_index, image_root, changes)
    if base is not None:
        sources.note_base(listed, base)
    signature = None
    if latest is not None:
        manifest = files.read_json(latest / generations.MANIFEST)
        signature = manifest["signature"]
    collect.note_live(
        *(work, root, changes, identity),
        can_compare=signature == identity["signature"],
        can_embed=settings.saved_model is not None and not takes_stored,
    )
    if takes_stored:
        collect.note_stored(work, settings.product_index)


def _write_indexes(
    work: pathlib.Path,
    root: pathlib.Path,
    finished: pathlib.Path,
    settings: Settings,
    identity: dict[str, Any],
    base: pathlib.Path | None,
    max_shrink_percent: float,
) -> dict[str, Any]:
    """Writes rows and indexes; what the manifest says of them."""
    vectors = collect.Vectors(
        work, identity["dim"], settings.product_index, base
    )
    vectors.reject_bad()
    with wanted.opened(work / wanted.FILE) as listed:
        (count,) = listed.execute(
            "SELECT count(*) FROM wanted WHERE file IS NOT NULL"
        ).fetchone()
    retention.check_shrink(root, count, max_shrink_percent)
    if not count:
        raise ValueError(
            f"{settings.product_index} has no picture that could be embedded. "
            f"{_first_reject(work)}"
        )
    removed, added = None, None
    if base is not None:
        removed, added = sources.changed_products(work / wanted.FILE, base)
    rows, array = vectors.assemble(added)
    if base is None:
        built = vector_index.build(
            finished, rows, array, recall=settings.recall, seed=settings.seed
        )
        changed = {}
    else:
        built = vector_index.build_from(
            finished, base, removed=sorted(removed), rows=rows, vectors=array
        )
        changed = {
            "products_added_or_changed": len(added),
            "products_gone": len(removed - added),
        }
    if built["num_vectors"] != count:
        # Nothing of it becomes visible.
        raise RuntimeError(
            f"Expected {count} vectors in the index, found "
            f"{built['num_vectors']}."
        )
    return {**built, "counts": changed}


def _first_reject(work: pathlib.Path) -> str:
    with wanted.opened(work / wanted.FILE) as listed:
        found = listed.execute(
            "SELECT path, message FROM wanted WHERE reason IS NOT NULL "
            "ORDER BY row LIMIT 1"
        ).fetchone()
    if found is None:
        return "Its products have no pictures at all."
    return f"The first is {found[0]}: {found[1]}"


def _write_manifest(
    work: pathlib.Path,
    finished: pathlib.Path,
    identity: dict[str, Any],
    built: dict[str, Any],
    changes: LiveChanges,
) -> None:
    listed = work / wanted.FILE
    sources.write(finished, listed, changes.taken_over)
    folded_products.write(
        finished,
        {name: each.product for name, each in changes.folded.items()},
    )
    with wanted.opened(listed) as work_list:
        (num_pictures,) = work_list.execute(
            "SELECT count(*) FROM wanted"
        ).fetchone()
        by_file = dict(
            work_list.execute(
                "SELECT file, count(*) FROM wanted WHERE file IS NOT NULL "
                "GROUP BY file"
            )
        )
    counts = {
        "pictures": num_pictures,
        "embedded": by_file.get(wanted.EMBEDDED, 0),
        "kept_from_base": by_file.get(wanted.BASE, 0),
        "from_live_changes": by_file.get(wanted.LIVE, 0),
        "from_product_index": by_file.get(wanted.STORED, 0),
        "live_changes_folded": len(changes.folded),
        "live_changes_taken_over": len(changes.taken_over),
        "rejects": collect.write_rejects(work, finished),
        **built.pop("counts"),
    }
    files.write_json(
        finished / generations.MANIFEST,
        {
            **identity,
            **built,
            "counts": counts,
            "files": generations.describe_files(finished),
        },
    )
