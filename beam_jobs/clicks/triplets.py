"""Clicks to triplets: which products stand against the clicked one.

Tables in the database of `log`:

    positives   clicks to learn from, with the state of those that are not
    triplets    query, clicked product, another one, and their pictures
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import duckdb

# A product's picture is drawn anew for each query.
_PICTURE = """
    create macro picture(query_id, product_id, images, folder) as
      picture_at(images, (md5_number_lower(
        $seed || '|' || query_id || '|' || product_id)
        % json_array_length(images))::bigint, folder);
"""
_PLACE = """
    create macro resolved(image, folder) as
      case when contains(image, '://') or starts_with(image, '/') then image
        else folder || '/' || image end;
    create macro picture_at(images, place, folder) as
      resolved(json_extract_string(images, '$[' || place || ']'), folder);
    create table catalogue_files (file bigint, folder varchar);
"""
_KNOWN = """
    create table known as select product_id, sku_id, images, folder
    from products join catalogue_files using (file)
    where json_array_length(images) > 0
"""
_POSITIVES = """
    create table positives as
    select clicks.page, clicks.place, clicks.product_id, clicks.position,
      pages.query_id, pages.image, pages.split, known.sku_id,
      known.images, known.folder,
      case when pages.split = 'test' then 'test_split'
        when products.product_id is null then 'unknown_product'
        when known.product_id is null then 'no_picture'
        else 'click' end as state
    from clicks join pages using (page)
    left join products using (product_id) left join known using (product_id)
"""
# What was ever clicked for a picture is no negative of it, nor is another
# product of the same SKU. People look from the top down to the click and a
# little further.
_SHOWN = """
    create table triplets as
    with clicked as (
      select distinct image, product_id from shows where is_clicked),
    looked_at as (
      select positives.page, positives.place, positives.query_id,
        positives.image, positives.split, positives.position,
        positives.product_id as positive_id, positives.images as own_images,
        positives.folder as own_folder, shows.product_id as negative_id,
        known.images, known.folder
      from positives join shows on positives.page = shows.page
        and shows.position <= positives.position + $below
      join known on known.product_id = shows.product_id
      anti join clicked on clicked.image = shows.image
        and clicked.product_id = shows.product_id
      where positives.state = 'click' and known.sku_id != positives.sku_id
      qualify row_number() over (partition by positives.place order by
        md5($seed || '|' || positives.query_id || '|' || positives.product_id
          || '|' || shows.product_id), shows.product_id) <= $negatives)
    select place, split, query_id, positive_id, negative_id, position,
      'shown' as kind, image as query_picture,
      picture(query_id, positive_id, own_images, own_folder)
        as positive_picture,
      picture(query_id, negative_id, images, folder) as negative_picture
    from looked_at
"""
_HARD = """
    insert into triplets
    select place, split, query_id, positives.product_id, hard.product_id,
      position, 'hard', positives.image,
      picture(query_id, positives.product_id, positives.images,
        positives.folder),
      picture_at(known.images, hard.picture, known.folder)
    from positives join hard_rows hard using (image)
    join known on known.product_id = hard.product_id
    anti join (select distinct image, product_id from shows where is_clicked)
      clicked on clicked.image = hard.image
      and clicked.product_id = hard.product_id
    where positives.state = 'click' and known.sku_id != positives.sku_id
      and hard.picture < json_array_length(known.images)
      and not exists (select 1 from triplets t where t.place = positives.place
        and t.negative_id = hard.product_id)
    qualify row_number() over (partition by positives.place
      order by hard.rank) <= $hard
"""


def choose(
    database: duckdb.DuckDBPyConnection,
    folders: Sequence[str],
    *,
    seed: int,
    negatives: int,
    below: int,
) -> None:
    """Makes the tables, with shown products as negatives.

    Args:
        folders: of each catalogue file; relative pictures lie there.
        seed: of the choice among products, and among their pictures.
        negatives: at most so many shown products against a click.
        below: so many places below the click were probably looked at.
    """
    database.execute(_PLACE)
    database.executemany(
        "insert into catalogue_files values (?, ?)", list(enumerate(folders))
    )
    # Macros take no parameters.
    database.execute(_PICTURE.replace("$seed", f"'{int(seed)}'"))
    database.execute(_KNOWN)
    database.execute(_POSITIVES)
    database.execute(
        _SHOWN, {"seed": str(seed), "below": below, "negatives": negatives}
    )


def queries(database: duckdb.DuckDBPyConnection) -> list[str]:
    """The pictures that clicks to learn from belong to, sorted."""
    rows = database.execute(
        "select distinct image from positives where state = 'click' "
        "order by image"
    )
    return [image for (image,) in rows.fetchall()]


def add_hard(
    database: duckdb.DuckDBPyConnection,
    hits: Iterable[tuple[str, int, str, int]],
    *,
    hard: int,
) -> None:
    """Adds the nearest products that nobody clicked as negatives.

    Args:
        hits: query picture, rank, product_id, place of its picture; each
            product of a query once.
        hard: at most so many of them against a click.
    """
    database.execute(
        "create table hard_rows (image varchar, rank bigint, "
        "product_id varchar, picture bigint)"
    )
    rows = list(hits)
    if rows:
        database.executemany("insert into hard_rows values (?, ?, ?, ?)", rows)
    database.execute(_HARD, {"hard": hard})


def pictures(database: duckdb.DuckDBPyConnection) -> list[str]:
    """All pictures of the triplets, sorted."""
    rows = database.execute(
        "select query_picture from triplets union "
        "select positive_picture from triplets union "
        "select negative_picture from triplets order by 1"
    )
    return [path for (path,) in rows.fetchall()]


def drop_unreadable(
    database: duckdb.DuckDBPyConnection, unreadable: Mapping[str, str]
) -> dict[str, int]:
    """Takes triplets without a picture out; counts them by picture.

    The click of one that has no readable query or clicked picture gets the
    state `bad_query_picture` or `bad_product_picture`.

    Args:
        unreadable: path to reason.
    """
    database.execute(
        "create table all_triplets as select distinct place, query_picture, "
        "positive_picture from triplets"
    )
    database.execute("create table unreadable (path varchar)")
    if unreadable:
        database.executemany(
            "insert into unreadable values (?)",
            [(path,) for path in sorted(unreadable)],
        )
    counts = {}
    for name, state in (
        ("query", "bad_query_picture"),
        ("positive", "bad_product_picture"),
        ("negative", None),
    ):
        bad = f"{name}_picture in (select path from unreadable)"
        if state:
            database.execute(
                f"update positives set state = '{state}' where place in "
                f"(select place from triplets where {bad})"
            )
        (counts[name],) = database.execute(
            f"select count(*) from triplets where {bad}"
        ).fetchone()
        database.execute(f"delete from triplets where {bad}")
    database.execute(
        "update positives set state = 'no_negative' where state = 'click' "
        "and place not in (select place from triplets)"
    )
    return {name: count for name, count in counts.items() if count}
