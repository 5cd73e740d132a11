"""Pairs of nearly equal pictures, by a banded join of their hashes.

Two hashes that differ in at most d bits agree in at least one of d + 1 bands
(the pigeonhole principle), so only pictures that share a band are compared.
"""

from collections.abc import Iterable
from collections.abc import Iterator

import duckdb

_NUM_BITS = 64
# A band that more pictures share says nothing; plain white ones do.
_MAX_BUCKET = 1000
# Hashes with fewer bits set are of plain pictures: a disc, an empty box. Of
# 3,000 drawings they are 3 %, and 12 of the 28 pairs of different things
# that at most 3 bits part.
_MIN_BITS = 20


def insert_pairs(
    connection: duckdb.DuckDBPyConnection,
    pictures: str,
    pairs: str,
    *,
    max_distance: int,
    max_bucket: int = _MAX_BUCKET,
    min_bits: int = _MIN_BITS,
) -> int:
    """Adds the rows of pictures whose hashes differ in few bits.

    Args:
        pictures: table with `row` (bigint), `image_hash_high` and
            `image_hash_low` (ubigint).
        pairs: table with `a` and `b` (bigint), a < b, that gets the pairs.
        max_distance: most bits, of both hashes together, that may differ.
        max_bucket: bands that more different hashes share are not looked at.
        min_bits: pictures whose hashes have fewer bits set are not either.

    Returns:
        How many bands and pictures were left out for that.
    """
    num_bits = "bit_count(image_hash_high) + bit_count(image_hash_low)"
    (num_left_out,) = connection.execute(
        f"select count(*) from {pictures} where {num_bits} < {min_bits}"
    ).fetchone()
    connection.execute(
        f"""create or replace temp table hashes as
        select image_hash_high as x, image_hash_low as y, min(row) as row
        from {pictures} where {num_bits} >= {min_bits}
        group by all"""
    )
    # Pictures of equal hash are paired with the first of them.
    connection.execute(
        f"""insert into {pairs}
        select hashes.row, pictures.row from {pictures} as pictures
        join hashes on x = image_hash_high and y = image_hash_low
        where hashes.row != pictures.row"""
    )
    connection.execute(
        "create or replace temp table found (a bigint, b bigint)"
    )
    for mask in _masks(max_distance + 1) if max_distance else ():
        num_left_out += _find_in_band(
            connection, mask, max_distance, max_bucket
        )
    # Pairs that share several bands were found in each.
    connection.execute(f"insert into {pairs} select distinct a, b from found")
    for table in ("found", "hashes"):
        connection.execute(f"drop table {table}")
    return num_left_out


def _find_in_band(
    connection: duckdb.DuckDBPyConnection,
    mask: int,
    max_distance: int,
    max_bucket: int,
) -> int:
    """Adds the pairs that share the bits of a mask; counts what is left out."""
    connection.execute(
        f"""create or replace temp table crowded as
        select x & {mask} as x, y & {mask} as y from hashes
        group by all having count(*) > {max_bucket}"""
    )
    (count,) = connection.execute("select count(*) from crowded").fetchone()
    connection.execute(
        f"""insert into found
        with banded as (
          select row, x, y, x & {mask} as band_x, y & {mask} as band_y
          from hashes
          anti join crowded
            on crowded.x = hashes.x & {mask}
            and crowded.y = hashes.y & {mask})
        select a.row, b.row from banded as a join banded as b
          on a.band_x = b.band_x and a.band_y = b.band_y
        where a.row < b.row and
          bit_count(xor(a.x, b.x)) + bit_count(xor(a.y, b.y))
            <= {max_distance}"""
    )
    return count


def group_pairs(
    pairs: Iterable[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """Joins what pairs connect; a group is named by its smallest row.

    Memory grows with the rows that stand in a pair, about 200 bytes each.

    Yields:
        Row and group, of every row in a pair, by row.
    """
    parents: dict[int, int] = {}

    def find(row: int) -> int:
        parents.setdefault(row, row)
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for a, b in pairs:
        first, second = sorted((find(a), find(b)))
        parents[second] = first
    for row in sorted(parents):
        yield row, find(row)


def _masks(num_bands: int) -> list[str]:
    """The bits of each band, taken in turns so that all have some detail."""
    return [
        f"{sum(1 << bit for bit in range(band, _NUM_BITS, num_bands))}::ubigint"
        for band in range(num_bands)
    ]
