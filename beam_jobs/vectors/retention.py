"""The generations of a vector index: a guard, an end, and what there is.

The way back, and which are removed, is as for the product index.
"""

import logging
import pathlib
from collections.abc import Sequence

from beam_jobs.catalogue import retention
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.recognition.releases import releases

_log = logging.getLogger(__name__)


def check_shrink(
    root: pathlib.Path, num_vectors: int, max_shrink_percent: float
) -> None:
    """Compares a new index with the one in use.

    Raises:
        retention.ShrinkError: if it has fewer vectors by more than the
            percentage.
    """
    current = generations.latest(root)
    if current is not None:
        retention.expect_as_many(
            num_vectors,
            files.read_json(current / generations.MANIFEST)["num_vectors"],
            max_shrink_percent,
            counted="vectors",
            current=current,
            question="Are all pictures there?",
        )


def in_use(folders: Sequence[pathlib.Path]) -> set[pathlib.Path]:
    """Generations of the live releases, and of those a roll-back leads to.

    Args:
        folders: of `sicot_tf.release`.

    Raises:
        ValueError: if what is live can't be read.
    """
    found = set()
    for folder in folders:
        name = releases.live_name(folder)
        if name is None:
            _log.warning(
                "%s has no release in use: it keeps no generation.", folder
            )
            continue
        release = releases.read(folder, name)
        used = [release.vector_index_generation]
        if release.before:
            try:
                before = releases.read(folder, release.before)
                used.append(before.vector_index_generation)
            except ValueError:
                pass  # A roll-back can't lead there either.
        found |= {path.resolve() for path in used if path}
    return found


def describe(root: pathlib.Path) -> str:
    """A table of the generations, the oldest first."""
    current = generations.latest(root)
    lines = [
        f"{'generation':24} {'vectors':>12} {'products':>12} {'mode':6} "
        f"{'signature':10} {'product index':24} {'updates':>8} built"
    ]
    for path in generations.by_age(root):
        found = files.read_json(path / generations.MANIFEST)
        in_use = current is not None and path.name == current.name
        lines.append(
            f"{path.name:24} {found['num_vectors']:12,} "
            f"{found['num_products']:12,} {found['mode']:6} "
            f"{found['signature']:10} "
            f"{found['product_index']['generation']:24} "
            f"{found['folded_updates']:8,} "
            f"{generations.built_at(path)[:19]}{'  <- LATEST' * in_use}"
        )
    return "\n".join(lines)
