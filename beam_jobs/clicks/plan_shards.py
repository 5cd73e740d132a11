"""Which triplet goes into which shard, with which weight."""

import math
import pathlib
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

_PICTURE = pa.struct(
    {"jpegs": pa.string(), "offset": pa.int64(), "length": pa.int32()}
)
_SCHEMA = pa.schema(
    {
        "query_id": pa.string(),
        "positive_id": pa.string(),
        "negative_id": pa.string(),
        "query": _PICTURE,
        "positive": _PICTURE,
        "negative": _PICTURE,
        "weight": pa.float32(),
        "negative_kind": pa.string(),
    }
)
_TRIPLETS = """
    select query_id, positive_id, negative_id,
      {'jpegs': q.jpegs, 'offset': q.offset, 'length': q.length} as query,
      {'jpegs': p.jpegs, 'offset': p.offset, 'length': p.length} as positive,
      {'jpegs': n.jpegs, 'offset': n.offset, 'length': n.length} as negative,
      weights[least(position, len(weights))]::float as weight,
      kind as negative_kind
    from triplets, (select $weights::double[] as weights)
    join pictures q on q.path = query_picture
    join pictures p on p.path = positive_picture
    join pictures n on n.path = negative_picture
    where split = $split
    order by md5($seed || '|' || query_id || '|' || positive_id || '|'
      || negative_id), query_id, positive_id, negative_id
"""


def weights(
    places: Sequence[float], counts: dict[int, int], max_weight: float
) -> list[float]:
    """The weight of a click at each place: 1 / examination, clipped, mean 1.

    Args:
        places: how often each is looked at, the first 1; later places are
            taken as the last one.
        counts: triplets by the place of their click, from 1.
        max_weight: before the mean is made 1.
    """
    inverse = [min(max_weight, 1 / each) for each in places]
    total = sum(
        count * inverse[min(place, len(inverse)) - 1]
        for place, count in sorted(counts.items())
    )
    mean = total / max(1, sum(counts.values())) or 1.0
    return [each / mean for each in inverse]


def plan(
    database: duckdb.DuckDBPyConnection,
    tables: Sequence[pathlib.Path],
    folder: pathlib.Path,
    *,
    places: Sequence[float],
    max_weight: float,
    shard_triplets: int,
    seed: int,
) -> dict[str, int]:
    """Writes `<stem>.parquet` for each shard; returns stems and triplets.

    The order is that of a hash: neighbours have nothing in common.

    Args:
        tables: of `store_pictures.PICTURE_SCHEMA`.
        folder: what a killed job planned is replaced by the same.
    """
    if tables:
        database.read_parquet(
            # Beside `folder`, under the name that DuckDB takes.
            [str(folder.parent / "pictures" / each.name) for each in tables],
            hive_partitioning=False,
        ).create_view("pictures")
    shards = {}
    for split in ("train", "val"):
        counts = dict(
            database.execute(
                "select position, count(*) from triplets where split = ? "
                "group by position",
                [split],
            ).fetchall()
        )
        total = sum(counts.values())
        if not total:
            continue
        num_shards = math.ceil(total / shard_triplets)
        rows = database.sql(
            _TRIPLETS,
            params={
                "weights": weights(places, counts, max_weight),
                "split": split,
                "seed": str(seed),
            },
        )
        table = rows.to_arrow_table().cast(_SCHEMA)
        for shard in range(num_shards):
            stem = f"{split}-{shard:05d}-of-{num_shards:05d}"
            first = shard * total // num_shards
            end = (shard + 1) * total // num_shards
            pq.write_table(
                table.slice(first, end - first), folder / f"{stem}.parquet"
            )
            shards[stem] = end - first
    if not any(stem.startswith("train-") for stem in shards):
        raise ValueError(
            "Expected clicks to learn from, found none that leaves a triplet "
            "for training. Look at --clicks and --catalogue: do their "
            "product ids and pictures fit, and are there rows that are not "
            "of split val or test?"
        )
    return shards
