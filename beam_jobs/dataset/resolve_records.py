"""What only all records together decide: duplicates, splits, words, shards.

Runs in DuckDB over the facts of all parts, out of core: what does not fit
into `memory_megabytes` is spilled to the work folder. Tables, in the order
in which they come about (all by `row`):

    kept        record_id, sku_id ...: the narrow part of the facts
    rejected    reason, message: no longer kept
    units       unit: records that have to be on one side of a split
    assigned    split, sku_id ...: takes the place of all but `rejected`
    vocabulary  word, id
    labels      sku_id, label
    shards      number of the shard, label

Nothing here is a row of Python but what is of one word or class; tables of
all records are read a few times, in the order of their files.
"""

import itertools
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from beam_jobs.dataset import splits
from beam_jobs.pictures import near_duplicates
from beam_jobs.records import parquet_tables
from sicot_tf import config
from sicot_tf.data import records

# What a shard's Parquet file holds of each record.
SHARD_SCHEMA = pa.schema(
    {
        "record_id": pa.string(),
        "sku_id": pa.string(),
        "label": pa.int64(),
        "title": pa.string(),
        "words": pa.list_(pa.string()),
        "source": pa.string(),
        "jpegs": pa.string(),
        "offset": pa.int64(),
        "length": pa.int32(),
        "sha256": pa.binary(32),
    }
)


def connect(
    work: pathlib.Path, memory_megabytes: int
) -> duckdb.DuckDBPyConnection:
    """An empty database in the work folder.

    Args:
        work: a `parquet_tables.plain_name`.
    """
    # DuckDB follows the link to the name that it can't read.
    folder = work.parent if work.is_symlink() else work
    for name in ("resolve.duckdb", "resolve.duckdb.wal"):
        (folder / name).unlink(missing_ok=True)
    return duckdb.connect(
        str(folder / "resolve.duckdb"),
        config={
            "memory_limit": f"{memory_megabytes}MB",
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": "false",
        },
    )


class Resolver:
    """The global stage over the facts in `facts_folder`.

    The methods are to be called in the order in which they stand.

    Args:
        work: for tables on their way; this and all other folders are inside a
            `parquet_tables.plain_name`.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        work: pathlib.Path,
        facts_folder: pathlib.Path,
        dataset_config: config.DatasetConfig,
    ):
        self._db = connection
        self._work = work
        self._config = dataset_config
        self._facts = _of_all_parts(facts_folder)

    def load(self) -> None:
        """Reads the narrow part of the facts."""
        self._db.execute(
            f"""create table kept as
            select row, record_id, sku_id, sku_name, split, "group", length,
              sha256, image_hash_high, image_hash_low, split_hash, order_hash
            from {self._facts}"""
        )
        self._db.execute(
            """create table rejected
            (row bigint, reason varchar, message varchar)"""
        )

    # === Duplicates and splits ===

    def reject_duplicates(self) -> None:
        """Keeps the first record of an id, and of a picture of a class.

        Of records with one picture those given to test come before those
        given to val, and both before all others.
        """
        self._reject(
            "kept",
            "duplicate_id",
            f"""select row, 'The record_id was seen before, as record '
              || (first_row + 1) || ' of all.' as message
            from (select row, min(row) over (partition by record_id)
              as first_row from {_repeated("record_id")})
            where row != first_row""",
        )
        if self._config.duplicates == "keep":
            return
        self._reject(
            "kept",
            "duplicate_image",
            f"""select row, 'The picture is that of record ' || first_id
              || ', of the same class.' as message
            from (select row, first_value(record_id) over same as first_id,
                row_number() over same as place
              from {_repeated("sku_id, sha256")}
              window same as (partition by sku_id, sha256
                order by case split when 'test' then 0 when 'val' then 1
                  else 2 end, row))
            where place > 1""",
        )

    def find_units(self) -> dict[str, int]:
        """Joins records with one group, one picture or nearly one picture.

        Returns:
            Counts for the manifest.
        """
        self._db.execute("create table pairs (a bigint, b bigint)")
        crowded = 0
        if self._config.duplicates != "keep":
            self._db.execute(
                f"""insert into pairs select first_row, row
                from (select row, min(row) over (partition by sha256)
                  as first_row from {_repeated("sha256")})
                where first_row != row"""
            )
            if self._config.near_duplicate_distance >= 0:
                crowded = near_duplicates.insert_pairs(
                    self._db,
                    "kept",
                    "pairs",
                    max_distance=self._config.near_duplicate_distance,
                )
        (num_pairs,) = self._db.execute(
            "select count(*) from (select distinct a, b from pairs)"
        ).fetchone()
        near_duplicates.group_pairs(self._db, "pairs", "picture_groups")
        # A given group is one unit, and so are groups that a picture joins.
        self._db.execute(
            """create table given_groups as
            with firsts as (select "group", min(row) as unit from kept
              where "group" is not null group by "group")
            select row, unit from kept join firsts using ("group")"""
        )
        self._db.execute(
            """create table joined as
            select coalesce(g.unit, p.row) as a, coalesce(h.unit, p.unit) as b
            from picture_groups as p
            left join given_groups as g on g.row = p.row
            left join given_groups as h on h.row = p.unit
            where a != b"""
        )
        near_duplicates.group_pairs(self._db, "joined", "roots")
        self._db.execute(
            """create table units as
            select kept.row, coalesce(r.unit, g.unit, kept.row) as unit
            from kept left join given_groups as g using (row)
            left join roots as r on r.row = coalesce(g.unit, kept.row)"""
        )
        return {"similar_pairs": num_pairs, "crowded_hashes": crowded}

    def assign_splits(self, frozen_test: Sequence[str] = ()) -> None:
        """Gives every record its split; training pictures leave the test.

        Args:
            frozen_test: record ids that are in the test set whatever happens.
        """
        self._insert(
            "frozen",
            {"record_id": pa.string()},
            ((record_id,) for record_id in frozen_test),
        )
        self._find_given_splits()
        chosen = splits.percent_split("u.hash", self._config)
        if splits.by_class(self._config):
            chosen = "coalesce(c.split, 'train')"
        self._insert(
            "chosen",
            {"unit": pa.int64(), "split": pa.string()},
            self._choose_by_class(),
        )
        self._db.execute(
            f"""create table assigned as
            select row, f.sku_id, sku_name, length, order_hash, is_frozen,
              coalesce(f.split, u.split, {chosen}) as split
            from fixed as f join unit_splits as u using (unit)
            left join chosen as c using (unit)
            join kept using (row)"""
        )
        if self._config.duplicates != "keep":
            self._reject_images_in_test()
        for table in (
            "kept", "pairs", "picture_groups", "given_groups", "joined",
            "roots", "units", "fixed", "unit_splits", "chosen",
        ):  # fmt: skip
            self._db.execute(f"drop table if exists {table}")

    def _find_given_splits(self) -> None:
        """Where a record of a unit has its split given, the others follow.

        Makes `fixed`, records with the split they were given, and
        `unit_splits`.
        """
        self._db.execute(
            """create table fixed as
            select row, unit, sku_id, split_hash,
              frozen.record_id is not null as is_frozen,
              case when frozen.record_id is not null
                then 'test' else split end as split
            from kept join units using (row)
            left join frozen on frozen.record_id = trim(kept.record_id)"""
        )
        self._db.execute(
            """create table unit_splits as
            select unit,
              case min(case split when 'test' then 0 when 'val' then 1
                when 'train' then 2 end)
                when 0 then 'test' when 1 then 'val' when 2 then 'train' end
                as split,
              min(split_hash) as hash,
              arg_min(sku_id, (split_hash, row)) as sku_id,
              count(*) as size
            from fixed group by unit"""
        )

    def _choose_by_class(self) -> Iterator[tuple[int, str]]:
        """Units for validation and test where each class gives some."""
        if not splits.by_class(self._config):
            return iter(())
        return splits.choose_by_class(
            self._iterate(splits.class_candidates("unit_splits", self._config))
        )

    def _reject_images_in_test(self) -> None:
        """For only splits that are given part what belongs together."""
        self._reject(
            "assigned",
            "image_in_test",
            """with held_out as (
              select unit, min(split) as split
              from assigned join picture_groups using (row)
              where split != 'train' group by unit)
            select row, 'The picture, or nearly the same, is in ' ||
              held_out.split || '.' as message
            from assigned join picture_groups using (row)
            join held_out using (unit)
            where assigned.split = 'train'""",
        )

    def unknown_test_ids(self) -> list[str]:
        """Ids of the frozen test that no record has, or none of use."""
        rows = self._db.execute(
            f"""select record_id from frozen anti join (
              select trim(record_id) as record_id
              from {self._facts} as facts
              semi join frozen on trim(facts.record_id) = frozen.record_id
            ) using (record_id)"""
        )
        return [record_id for (record_id,) in rows.fetchall()]

    # === Words and labels ===

    def count_words(self) -> dict[str, int]:
        """Occurrences of each word in the training titles."""
        return dict(
            self._db.execute(
                f"""select word, count(*) from (
                  select unnest(words) as word
                  from {self._facts} join assigned using (row)
                  where assigned.split = 'train')
                group by word"""
            ).fetchall()
        )

    def set_vocabulary(self, vocabulary: Sequence[str]) -> None:
        """Takes the words; training records without any may have to leave."""
        first = records.PADDING_ID + 1
        self._insert(
            "vocabulary",
            {"id": pa.int64(), "word": pa.string()},
            enumerate(vocabulary, first),
        )
        if self._config.require_words:
            self._reject(
                "assigned",
                "no_words",
                f"""select facts.row, 'No word of the title is in the '
                  || 'vocabulary: ' || left(title, 100) as message
                from {self._facts} as facts join assigned using (row)
                anti join (select distinct row from (
                    select row, unnest(words) as word from {self._facts}
                  ) semi join vocabulary using (word)) as known using (row)
                where assigned.split = 'train'""",
            )

    def assign_labels(self, kept_labels: Sequence[str] = ()) -> None:
        """Labels of the classes; records of classes never trained leave.

        Args:
            kept_labels: SKU ids that keep their labels, in their order; new
                ones come behind them, in the order of code points.
        """
        self._insert(
            "labels",
            {"label": pa.int64(), "sku_id": pa.string()},
            enumerate(kept_labels),
        )
        self._db.execute(
            f"""insert into labels
            select {len(kept_labels)} - 1 + row_number() over (order by sku_id),
              sku_id
            from (select distinct sku_id from assigned where split = 'train')
            anti join labels using (sku_id)"""
        )
        self._reject(
            "assigned",
            "class_not_in_train",
            """select row, 'No training record of class ' || sku_id
              || ' is left.' as message
            from assigned anti join labels using (sku_id)""",
        )

    def num_frozen_in_test(self) -> int:
        """How many records of the frozen test are in the test set."""
        (count,) = self._db.execute(
            """select count(*) from assigned
            where is_frozen and split = 'test'"""
        ).fetchone()
        return count

    # === Output ===

    def iterate_training_words(self) -> Iterator[str]:
        """The words of the training titles in stored order, also unknown.

        Yields:
            The words of a title with spaces between them.
        """
        for (words,) in self._iterate(
            f"""select array_to_string(words, ' ')
            from {self._facts} as facts join (
              select row from assigned where split = 'train') using (row)
            order by order_hash, row"""
        ):
            yield words

    def write_shards(self, folder: pathlib.Path) -> list[str]:
        """Writes the records of each shard; returns the stems of the shards.

        Shards are ranges of the order: one after the other they are in it,
        however many there are.
        """
        limit = self._config.shard_megabytes << 20
        sizes = self._db.execute(
            f"""select split, greatest(1, ceil(sum(length) / {limit}))::bigint
            from assigned group by split order by split"""
        ).fetchall()
        # A shard without records is written, too, empty.
        stems = [
            f"{split}-{i:05d}-of-{count:05d}"
            for split, count in sizes
            for i in range(count)
        ]
        counts = [count for _, count in sizes]
        firsts = itertools.accumulate([0, *counts[:-1]])
        self._insert(
            "split_sizes",
            {"split": pa.string(), "count": pa.uint64(), "first": pa.int32()},
            ((*size, first) for size, first in zip(sizes, firsts)),
        )
        self._db.execute(
            """create table shards as
            select row, label::int as label, first
              + ((order_hash::uhugeint * count::uhugeint) >> 64)::int as shard
            from assigned join split_sizes using (split)
            join labels using (sku_id)"""
        )
        columns = ", ".join(f'"{name}"' for name in SHARD_SCHEMA.names)
        rows = self._read(
            f"""select shard, {columns}
            from {self._facts} as facts join shards using (row)
            order by shard, order_hash, row"""
        )
        writer = parquet_tables.PartedWriter(
            [folder / f"{stem}.parquet" for stem in stems], SHARD_SCHEMA
        )
        with writer:
            for batch in rows:
                writer.add(batch.column(0), batch.select(SHARD_SCHEMA.names))
        return stems

    def class_counts(self) -> Iterator[tuple[str, str | None, dict[str, int]]]:
        """SKU id, name and records of each split, in the order of labels."""
        for sku_id, name, *counts in self._iterate(
            """select labels.sku_id, arg_min(sku_name, row)
                filter (sku_name is not null),
              count(*) filter (split = 'train'),
              count(*) filter (split = 'val'),
              count(*) filter (split = 'test')
            from labels left join assigned using (sku_id)
            group by labels.sku_id, label order by label"""
        ):
            yield sku_id, name, dict(zip(records.SPLITS, counts, strict=True))

    def rejected(self) -> Iterator[tuple[int, str, str]]:
        """Row, reason and message of what this stage rejects, by row."""
        return self._iterate(
            "select row, reason, message from rejected order by row"
        )

    # === DuckDB ===

    def _reject(self, table: str, reason: str, query: str) -> None:
        """Moves the rows of a query (row, message) to the rejected."""
        self._db.execute(
            f"""create or replace temp table leaving as
            select row, message from ({query})"""
        )
        self._db.execute(
            f"insert into rejected select row, '{reason}', message from leaving"
        )
        self._db.execute(
            f"delete from {table} where row in (select row from leaving)"
        )

    def _read(self, query: str) -> Iterator[pa.RecordBatch]:
        """Rows of a query, a chunk in memory at a time."""
        # Its own cursor: another query on this one would end the reading.
        rows = self._db.cursor().sql(query)
        yield from rows.to_arrow_reader(parquet_tables.CHUNK)

    def _iterate(self, query: str) -> Iterator[tuple]:
        """The same as rows of Python."""
        for batch in self._read(query):
            columns = [column.to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)

    def _insert(
        self,
        table: str,
        types: Mapping[str, pa.DataType],
        rows: Iterable[Sequence[Any]],
    ) -> None:
        """Creates a table from rows of Python, a chunk in memory at a time."""
        path = self._work / f"{table}.parquet"
        with parquet_tables.TableWriter(path, pa.schema(types)) as writer:
            for row in rows:
                writer.add(row)
        content = parquet_tables.read_parquet(self._work, path.name)
        self._db.execute(f"create table {table} as select * from {content}")
        path.unlink()


def _of_all_parts(folder: pathlib.Path) -> str:
    return parquet_tables.read_parquet(folder, "part-*.parquet")


def _repeated(columns: str) -> str:
    """Of `kept` what is there several times, and few others of equal hash.

    Windows over these are the same as over all, and hashes take a fraction
    of the memory that the values would.
    """
    return f"""(from kept semi join (select hash({columns}) as key from kept
      group by key having count(*) > 1) on hash({columns}) = key)"""
