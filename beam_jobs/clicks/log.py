"""What only the whole log decides: pages, robots, double clicks.

Runs in DuckDB over the rows of all files, out of core. Tables, in the order
in which they come about:

    files      folder of each log: relative pictures lie there
    products   the catalogue's, from `merge_products`
    pages      a result page each: the first row of its query_id
    clicks     clicks on pages of people, each product of a page once
    robots     visitors, with the reason
    states     what became of each row that could be read
    shows      the products of the pages of people
"""

import math
import pathlib
from collections.abc import Sequence

import duckdb

from beam_jobs.catalogue import merge_products

# So unlikely is a visitor whose clicks all were at the first place.
_FIRST_PLACE_CHANCE = 1e-4
# Who was shown so many products and clicked at most of them reads no page.
_LEAST_SHOWN = 30
_HOUR = 3_600_000_000

_PRODUCTS = """
    create table products as select product_id, sku_id, images, file,
      lower(concat_ws(' ', title, tags, category)) as words
    from latest where not deleted
"""
_PAGES = """
    create table pages as
    with first_places as (
      select min(place) as place from click_rows group by query_id)
    select
      row_number() over (order by place) as page,
      query_id, visitor, time, shown, similarities,
      case when contains(image, '://') or starts_with(image, '/') then image
        else files.folder || '/' || image end as image,
      coalesce(split, case when
        md5_number_lower($seed || '|' || image) % 1000000 < $val_share * 1000000
        then 'val' else 'train' end) as split,
      split as given_split, image as named_image
    from click_rows semi join first_places using (place)
    join files on files.file = click_rows.place >> 36
"""
# Who disagrees with the first row of a page is put aside.
_ROWS = """
    create table page_rows as
    select page, place, clicked, position, pages.visitor,
      click_rows.shown != pages.shown
        or click_rows.image != pages.named_image
        or click_rows.visitor is distinct from pages.visitor
        or click_rows.split is distinct from pages.given_split
        as is_other_page,
      row_number() over (partition by page, clicked, is_other_page
        order by click_rows.time, place) > 1 as is_again,
      click_rows.time as time
    from click_rows join pages using (query_id)
"""
_RATES = f"""
    create table rates as
    with paging as (
      select visitor, count(*) over (partition by visitor order by time
        range between {_HOUR} preceding and current row) as n
      from pages where visitor is not null),
    clicking as (
      select visitor, count(*) over (partition by visitor order by time
        range between {_HOUR} preceding and current row) as n
      from page_rows where visitor is not null
        and clicked is not null and not is_again and not is_other_page),
    at_places as (
      select page_rows.visitor, count(*) as clicks,
        count(*) filter (position = 1) as firsts
      from page_rows join pages using (page)
      where page_rows.visitor is not null and clicked is not null
        and not is_again and not is_other_page and len(shown) > 1
      group by page_rows.visitor)
    select visitor, coalesce(pages, 0) as pages,
      coalesce(clicks_an_hour, 0) as clicks_an_hour,
      coalesce(clicks, 0) as clicks, coalesce(firsts, 0) as firsts, shown
    from (select visitor, max(n) as pages from paging group by visitor)
    full join (select visitor, sum(len(shown)) as shown from pages
      where visitor is not null group by visitor) using (visitor)
    full join (select visitor, max(n) as clicks_an_hour from clicking
      group by visitor) using (visitor)
    full join at_places using (visitor)
"""
_ROBOTS = """
    create table robots as select visitor, case
      when pages > $max_pages then 'robot_pages'
      when clicks_an_hour > $max_clicks then 'robot_clicks'
      when shown >= $least_shown and 2 * clicks > shown
        then 'robot_everything'
      else 'robot_first_place' end as reason
    from rates where pages > $max_pages or clicks_an_hour > $max_clicks
      or (shown >= $least_shown and 2 * clicks > shown)
      or (firsts = clicks and clicks >= $min_firsts)
"""
_STATES = """
    create table states as select page, place, clicked, position, case
      when is_other_page then 'other_page'
      when reason is not null then reason
      when clicked is null then 'no_click'
      when is_again then 'double_click'
      else 'click' end as state
    from page_rows left join robots using (visitor)
"""
_SHOWS = """
    create table clicks as
      select page, place, clicked as product_id, position from states
      where state = 'click';
    create table shows as
      with people as (
        select page, image, split, shown, similarities from pages
        where page not in (select page from states
          where starts_with(state, 'robot_'))),
      each as (
        select page, image, split, unnest(shown) as product_id,
          generate_subscripts(shown, 1) as position,
          unnest(coalesce(similarities, [null for _ in shown])) as similarity
        from people)
      select each.*, clicks.page is not null as is_clicked
      from each left join clicks using (page, product_id)
"""


def open_log(
    products: Sequence[pathlib.Path],
    clicks: Sequence[pathlib.Path],
    folders: Sequence[str],
    spill: pathlib.Path,
    *,
    seed: int,
    val_share: float,
    max_pages_per_hour: int,
    max_clicks_per_hour: int,
) -> duckdb.DuckDBPyConnection:
    """The tables above, of parsed catalogue files and click logs.

    Args:
        products: Parquet files of `parse_catalogue.PRODUCT_SCHEMA`.
        clicks: Parquet files of `parse_clicks.CLICK_SCHEMA`.
        folders: of each click log.
        spill: inside a `parquet_tables.plain_name`, as the files are.
        seed: of the split of pictures that have none.
        val_share: of them.
    """
    database = merge_products.open_rows(products, spill)
    database.execute(_PRODUCTS)
    rows = database.read_parquet(
        [str(each) for each in clicks], hive_partitioning=False
    )
    rows.create_view("click_rows")
    database.execute("create table files (file bigint, folder varchar)")
    database.executemany(
        "insert into files values (?, ?)", list(enumerate(folders))
    )
    database.execute(_PAGES, {"seed": str(seed), "val_share": val_share})
    database.execute(_ROWS)
    database.execute(_RATES)
    limits = {
        "max_pages": max_pages_per_hour,
        "max_clicks": max_clicks_per_hour,
        "least_shown": _LEAST_SHOWN,
    }
    database.execute(_ROBOTS, {**limits, "min_firsts": _min_firsts(database)})
    database.execute(_STATES)
    database.execute(_SHOWS)
    return database


def _min_firsts(database: duckdb.DuckDBPyConnection) -> int:
    """So many clicks, all at the first place, are no coincidence."""
    clicks, firsts = database.execute(
        "select coalesce(sum(clicks), 0)::bigint, "
        "coalesce(sum(firsts), 0)::bigint from rates"
    ).fetchone()
    if not 0 < firsts < clicks:
        return 1 << 62
    return math.ceil(math.log(_FIRST_PLACE_CHANCE) / math.log(firsts / clicks))


def count_robots(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Visitors by the reason for which they are taken for robots."""
    return dict(
        database.execute(
            "select reason, count(*) from robots group by reason "
            "order by reason"
        ).fetchall()
    )
