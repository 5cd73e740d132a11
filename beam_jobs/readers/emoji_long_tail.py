"""Which emoji and drawings of them are kept: a long tail by choice."""

import collections
import random
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

_HEAD_SHARE = 0.17
_TWO_SHARE = 0.33
# What the metrics call a head class.
MIN_HEAD_DRAWINGS = 5


def choose_classes(
    splits: Mapping[str, Collection[str]], num_classes: int, seed: int
) -> list[str]:
    """Chooses among the classes that can be trained and tested.

    Args:
        splits: for each class the splits that have a drawing of it.
        num_classes: how many; 0: all.
        seed: of the choice.

    Returns:
        Classes with a drawing in train and in test, sorted.

    Raises:
        ValueError: if there are fewer than `num_classes`.
    """
    complete = sorted(
        sku_id
        for sku_id, drawn in splits.items()
        if "train" in drawn and "test" in drawn
    )
    if not 0 <= num_classes <= len(complete):
        raise ValueError(
            f"Expected num_classes from 1 to {len(complete)}, or 0 for all, "
            f"received {num_classes}."
        )
    if num_classes:
        random.Random(seed).shuffle(complete)
        complete = complete[:num_classes]
    return sorted(complete)


def assign_long_tail(
    num_drawings: Mapping[str, int], seed: int
) -> dict[str, list[str]]:
    """Parts classes by how many training drawings they keep.

    In shuffled order, 17 % of the classes, taken from those with at least 5
    drawings, are `head` and keep all; the next 33 % keep `two`, the rest
    `one`.

    Args:
        num_drawings: the training drawings of each class.
        seed: of the shuffle.

    Returns:
        Sorted classes under `head`, `two` and `one`.
    """
    order = sorted(num_drawings)
    random.Random(seed).shuffle(order)
    rich = [id_ for id_ in order if num_drawings[id_] >= MIN_HEAD_DRAWINGS]
    head = rich[: round(_HEAD_SHARE * len(order))]
    rest = [id_ for id_ in order if id_ not in set(head)]
    num_two = round(_TWO_SHARE * len(order))
    return {
        "head": sorted(head),
        "two": sorted(rest[:num_two]),
        "one": sorted(rest[num_two:]),
    }


def keep_drawings(
    record_ids: Collection[str], limit: int, seed: int
) -> list[str]:
    """Draws at most `limit` records; the same ones whatever their order."""
    record_ids = sorted(record_ids)
    # The record ids are part of the seed, so that classes draw independently.
    chance = random.Random(f"{seed}|{'|'.join(record_ids)}")
    return sorted(chance.sample(record_ids, min(limit, len(record_ids))))


def cut_long_tail(
    records: Sequence[dict[str, str]], seed: int
) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Leaves out training records; the groups as `assign_long_tail`."""
    drawn = collections.defaultdict(list)
    for record in records:
        if record["split"] == "train":
            drawn[record["sku_id"]].append(record["record_id"])
    groups = assign_long_tail({id_: len(drawn[id_]) for id_ in drawn}, seed)
    kept = {id_ for sku_id in groups["head"] for id_ in drawn[sku_id]}
    for name, limit in (("two", 2), ("one", 1)):
        for sku_id in groups[name]:
            kept.update(keep_drawings(drawn[sku_id], limit, seed))
    records = [
        record
        for record in records
        if record["split"] != "train" or record["record_id"] in kept
    ]
    return records, groups
