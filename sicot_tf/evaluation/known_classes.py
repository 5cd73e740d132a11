"""Labels of a dataset as those of a run, joined by SKU id.

A label is a place in a class list, and every dataset generation has its own
list: one SKU more or less moves all that stand behind it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

_NUM_EXAMPLES = 10


@dataclasses.dataclass(frozen=True)
class KnownClasses:
    """Which classes of a dataset a run knows.

    run_labels: `[num_dataset_classes]` int64, the run's label of each class
    of the dataset, -1 for one that the run does not know. unknown: the SKU
    ids of those. absent: SKU ids of the run that the dataset lacks.
    """

    run_labels: np.ndarray
    unknown: list[str]
    absent: list[str]

    @classmethod
    def join(
        cls, run_sku_ids: Sequence[str], dataset_sku_ids: Sequence[str]
    ) -> "KnownClasses":
        """Finds the classes of a dataset among those of a run.

        Raises:
            ValueError: if none is among them.
        """
        place = {sku_id: label for label, sku_id in enumerate(run_sku_ids)}
        run_labels = np.array(
            [place.get(sku_id, -1) for sku_id in dataset_sku_ids], np.int64
        )
        if not (run_labels >= 0).any():
            raise ValueError(
                f"The run knows none of the {len(dataset_sku_ids):,} classes "
                f"of this dataset: {_some(dataset_sku_ids)}. It was trained on "
                f"{len(run_sku_ids):,} others: {_some(run_sku_ids)}. Take the "
                "dataset of the run, or train on this one."
            )
        in_dataset = set(dataset_sku_ids)
        return cls(
            run_labels=run_labels,
            unknown=[
                sku_id
                for sku_id, label in zip(dataset_sku_ids, run_labels)
                if label < 0
            ],
            absent=[each for each in run_sku_ids if each not in in_dataset],
        )

    def facts(self) -> dict[str, Any]:
        """Counts and some SKU ids, for JSON."""
        return {
            "known": int((self.run_labels >= 0).sum()),
            "unknown_to_the_run": len(self.unknown),
            "unknown_examples": self.unknown[:_NUM_EXAMPLES],
            "absent_from_the_dataset": len(self.absent),
            "absent_examples": self.absent[:_NUM_EXAMPLES],
        }

    def note(self, num_records: int, num_left_out: int) -> str:
        """What a reader of the accuracies has to know; "" if nothing."""
        if not self.unknown and not self.absent:
            return ""
        note = (
            f"The class lists of dataset and run differ; labels are joined by "
            f"SKU id. Left out: {num_left_out:,} of {num_records:,} records, "
            f"which are of classes that the run does not know"
        )
        if self.unknown:
            note += f" ({len(self.unknown):,}: {_some(self.unknown)})"
        if self.absent:
            note += (
                f". The dataset lacks {len(self.absent):,} classes of the run: "
                f"{_some(self.absent)}"
            )
        return f"{note}."


def difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """How two class lists differ, in words."""
    first, second = set(ours), set(theirs)
    only = [
        f"only the {name} {len(sku_ids):,}: {_some(sku_ids)}"
        for name, sku_ids in (
            ("first has", sorted(first - second)),
            ("second has", sorted(second - first)),
        )
        if sku_ids
    ]
    if only:
        return "; ".join(only)
    return "the same SKUs with other counts, names or order"


def _some(sku_ids: Sequence[str]) -> str:
    shown = ", ".join(sku_ids[:3])
    return shown + (", ..." if len(sku_ids) > 3 else "")
