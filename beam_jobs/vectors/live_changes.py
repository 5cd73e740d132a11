"""The live changes that a build folds in, and those that it need not.

The newest change of a product counts until the catalogue has one as new: from
then on the product is the catalogue's, also if it drops it later.
"""

import dataclasses
import pathlib
import sqlite3

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue.vector_updates import Update


@dataclasses.dataclass(frozen=True)
class LiveChanges:
    """What is to be laid over the catalogue.

    Attributes:
        last: number of the last change that was looked at.
        folded: the change of each product that counts, by its id.
        taken_over: number of each product's last change that the catalogue
            has taken over.
    """

    last: int
    folded: dict[str, Update]
    taken_over: dict[str, int]


def last_sequence(root: pathlib.Path) -> int:
    """The number of the newest change of a folder; 0 without any."""
    if not (root / vector_updates.UPDATES).exists():
        return 0
    with vector_updates.VectorUpdates(root) as updates:
        return updates.last_sequence


def read(
    root: pathlib.Path,
    last: int,
    index_generation: pathlib.Path,
    taken_over: dict[str, int],
) -> LiveChanges:
    """Changes up to a number, against the catalogue's own times.

    Args:
        root: folder of the vector index.
        taken_over: of the generation in use.
    """
    newest: dict[str, Update] = {}
    if last:
        with vector_updates.VectorUpdates(root) as updates:
            for update in updates.since(0):
                if update.sequence > last:
                    break
                newest[update.product_id] = update
    taken, folded = {}, {}
    store = product_index.connect(index_generation)
    try:
        for name, update in newest.items():
            if update.sequence <= taken_over.get(name, 0) or _is_in_catalogue(
                store, update
            ):
                taken[name] = update.sequence
            else:
                folded[name] = update
    finally:
        store.close()
    return LiveChanges(last, folded, taken)


def _is_in_catalogue(store: sqlite3.Connection, update: Update) -> bool:
    """Whether a record of the product is as new as the change."""
    (time,) = store.execute(
        "SELECT max(updated_at) FROM (SELECT updated_at FROM products WHERE "
        "product_id = ?1 UNION ALL SELECT updated_at FROM tombstones WHERE "
        "product_id = ?1)",
        (update.product_id,),
    ).fetchone()
    return time is not None and time >= update.changed_at
