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


def percent_split(unit_hash: str, dataset_config: config.DatasetConfig) -> str:
    """The split by the unit's hash, in SQL: a new unit moves no old one.

    Args:
        unit_hash: column of the hash (ubigint).
    """
    val = dataset_config.val_percent
    test = val + dataset_config.test_percent
    return f"""case when {unit_hash} % 100 < {val} then 'val'
      when {unit_hash} % 100 < {test} then 'test' else 'train' end"""


def class_candidates(units: str, dataset_config: config.DatasetConfig) -> str:
    """Units of each class that may be chosen, in SQL for `choose_by_class`.

    Once a unit is passed over, so are all behind it that are as large or
    larger. So of each size only the first come into question, as many as the
    wanted records have room for.

    Args:
        units: table with `sku_id`, `unit`, its number of records `size`, its
            `split` if that is given, and `hash`.
    """
    test = dataset_config.test_per_class
    val = dataset_config.val_per_class
    return f"""with classes as (
        select sku_id,
          {test} - coalesce(sum(size) filter (split = 'test'), 0) as test,
          {val} - coalesce(sum(size) filter (split = 'val'), 0) as val,
          coalesce(sum(size) filter (split is null or split = 'train'), 0)
            - {dataset_config.min_train_per_class} as to_spare
        from {units} group by sku_id),
      candidates as (
        select sku_id, unit, size, hash, row_number() over (
          partition by sku_id, size order by hash, unit) as place
        from {units} where split is null and size <= {max(test, val)})
      select sku_id, unit, size, test::bigint, val::bigint, to_spare::bigint
      from candidates join classes using (sku_id)
      where place <= {test} // size + {val} // size
        and size <= to_spare and size <= greatest(test, val)
      order by sku_id, hash, unit"""


def choose_by_class(
    candidates: Iterable[tuple[str, int, int, int, int, int]],
) -> Iterator[tuple[int, str]]:
    """An equal number of test records, and of validation, of each class.

    Test takes the units with the smallest hashes, validation the next: a new
    unit moves others only if its hash is among these. A unit that is too
    large for what is still wanted is passed over; `min_train_per_class`
    records stay for training.

    Args:
        candidates: rows of `class_candidates`: class, unit, its number of
            records; and records of the class that are wanted for test, for
            validation, and that training can spare.

    Yields:
        Unit and split, for those that are not for training.
    """
    for _, group in itertools.groupby(candidates, key=lambda unit: unit[0]):
        wanted: dict[str, int] = {}
        for _, unit, size, test, val, to_spare in group:
            if not wanted:
                wanted = {"test": test, "val": val}
                left = to_spare
            for name, number in wanted.items():
                if size <= number and size <= left:
                    wanted[name] -= size
                    left -= size
                    yield unit, name
                    break
