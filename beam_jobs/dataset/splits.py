"""Which units of records are for training, validation and test.

A unit is what has to stay together: one record, or all with one `group` or
nearly one picture.
"""

import itertools
from collections.abc import Iterable
from collections.abc import Iterator

from sicot_tf import config


def by_class(dataset_config: config.DatasetConfig) -> bool:
    """Whether validation and test are so many records of each class."""
    return bool(dataset_config.val_per_class or dataset_config.test_per_class)


def choose_by_percent(
    units: Iterable[tuple[int, int]], dataset_config: config.DatasetConfig
) -> Iterator[tuple[int, str]]:
    """Splits by the unit's hash: a new unit moves no old one.

    Args:
        units: unit and its hash.

    Yields:
        Unit and split.
    """
    val = dataset_config.val_percent
    test = val + dataset_config.test_percent
    for unit, unit_hash in units:
        percent = unit_hash % 100
        yield (
            unit,
            "val" if percent < val else "test" if percent < test else "train",
        )


def choose_by_class(
    units: Iterable[tuple[str, int, int, str | None]],
    dataset_config: config.DatasetConfig,
) -> Iterator[tuple[int, str]]:
    """An equal number of test records, and of validation, of each class.

    Test takes the units with the smallest hashes, validation the next: a new
    unit moves others only if its hash is among these. A unit that is too
    large for what is still wanted is passed over; `min_train_per_class`
    records stay for training.

    Args:
        units: class, unit, its number of records and its split if that is
            given, sorted by class and hash.

    Yields:
        Unit and split, for those without a given one.
    """
    for _, group in itertools.groupby(units, key=lambda unit: unit[0]):
        members = list(group)
        wanted = {
            "test": dataset_config.test_per_class,
            "val": dataset_config.val_per_class,
        }
        to_spare = -dataset_config.min_train_per_class
        for _, _, size, split in members:
            if split in wanted:
                wanted[split] -= size
            else:
                to_spare += size
        for _, unit, size, split in members:
            if split is not None:
                continue
            chosen = "train"
            for name, number in wanted.items():
                if size <= number and size <= to_spare:
                    chosen = name
                    wanted[name] -= size
                    to_spare -= size
                    break
            yield unit, chosen
