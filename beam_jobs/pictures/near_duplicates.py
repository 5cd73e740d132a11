"""Pairs of nearly equal pictures, by a banded join of their hashes.

Two hashes that differ in at most d bits agree in at least one of d + 1 bands
(the pigeonhole principle), and in one behind which, in a circle, the next
band differs in at most one bit: were there at least two behind each band that
agrees, and one in each of the others, d + 1 bits would differ. So they agree
in a band and in one half of the next, and only pictures that share both are
compared. A band alone is shared by too many: of 5 million photos 290 million
pairs share one of five, and 10 million one with a half.
"""

import duckdb

_NUM_BITS = 64
# Bits that more pictures share say nothing; plain white ones do.
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
        max_bucket: bands with a half that more different hashes share are
            not looked at.
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
    for table in ("found", "hashes", "shared"):
        connection.execute(f"drop table if exists {table}")
    return num_left_out


def _find_in_band(
    connection: duckdb.DuckDBPyConnection,
    mask: int,
    max_distance: int,
    max_bucket: int,
) -> int:
    """Adds the pairs that share the bits of a mask; counts what is left out."""
    connection.execute(
        f"""create or replace temp table shared as
        select x & {mask}::ubigint as x, y & {mask}::ubigint as y,
          count(*) as num_hashes
        from hashes group by all having count(*) > 1"""
    )
    (num_crowded,) = connection.execute(
        f"select count(*) from shared where num_hashes > {max_bucket}"
    ).fetchone()
    # Few hashes share their bits with others: only these are joined.
    connection.execute(
        f"""insert into found
        with banded as (
          select row, hashes.x, hashes.y, shared.x as band_x,
            shared.y as band_y
          from hashes join shared
            on shared.x = hashes.x & {mask}::ubigint
            and shared.y = hashes.y & {mask}::ubigint
          where num_hashes <= {max_bucket})
        select a.row, b.row from banded as a join banded as b
          on a.band_x = b.band_x and a.band_y = b.band_y
        where a.row < b.row and
          bit_count(xor(a.x, b.x)) + bit_count(xor(a.y, b.y))
            <= {max_distance}"""
    )
    return num_crowded


def group_pairs(
    connection: duckdb.DuckDBPyConnection, pairs: str, groups: str
) -> None:
    """Joins what pairs connect; a group is named by its smallest row.

    In rounds: of each pair the larger row takes the smallest that it is
    paired with as its parent, all take the parents' parents up to the root,
    and the pairs become pairs of roots, until there are none.

    Args:
        pairs: table with `a` and `b` (bigint).
        groups: table that is created, with `row` and `unit` (bigint) of every
            row in a pair.
    """
    connection.execute(
        f"""create or replace temp table links as
        select distinct least(a, b) as a, greatest(a, b) as b
        from {pairs} where a != b"""
    )
    connection.execute(
        f"""create table {groups} as select row, row as unit from (
          select a as row from {pairs} union select b from {pairs})"""
    )
    while _count(connection, "links"):
        connection.execute(
            """create or replace temp table parents as
            select b as row, min(a) as parent from links group by b"""
        )
        _follow(connection)
        connection.execute(
            f"""update {groups} set unit = parent from parents
            where parents.row = {groups}.unit"""
        )
        connection.execute(
            """create or replace temp table links as
            select distinct least(a, b) as a, greatest(a, b) as b from (
              select coalesce(first.parent, a) as a,
                coalesce(second.parent, b) as b
              from links left join parents as first on first.row = a
              left join parents as second on second.row = b)
            where a != b"""
        )
    for table in ("parents", "links"):
        connection.execute(f"drop table if exists {table}")


def _follow(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes every parent a root: twice as far up each time."""
    moved = True
    while moved:
        connection.execute(
            """create or replace temp table further as
            select child.row, up.parent from parents as child
            join parents as up on up.row = child.parent"""
        )
        moved = _count(connection, "further") > 0
        connection.execute(
            """update parents set parent = further.parent from further
            where further.row = parents.row"""
        )
    connection.execute("drop table further")


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    (count,) = connection.execute(f"select count(*) from {table}").fetchone()
    return count


def _masks(num_bands: int) -> list[int]:
    """The bits of each band and of one half of the next, for both halves."""
    # Taken in turns, so that all have some detail.
    bands = [range(band, _NUM_BITS, num_bands) for band in range(num_bands)]
    return [
        sum(1 << bit for bit in (*band, *after[half::2]))
        for band, after in zip(bands, bands[1:] + bands[:1], strict=True)
        for half in (0, 1)
    ]
