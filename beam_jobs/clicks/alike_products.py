"""Products that fit their query about as well, for the examination of places.

Where no query picture comes twice, relevance can't be held equal by its pair
with a product. It is regressed on what is known of both instead (Wang et al.,
Position Bias Estimation for Unbiased Learning to Rank in Personal Search, WSDM
2018): the similarity in the log, or how much of the page has the product's
words. Bins of it have one relevance each.
"""

import duckdb
import numpy as np

from beam_jobs.clicks import examination

_BINS = 20
# More tell hardly more.
_MAX_PAGES = 50_000
_UNIT = 1_000_000

_LOGGED = """
    create or replace temp table alike as
    select page, position, is_clicked, similarity from shows
    where similarity is not null and split != 'test'
"""
# A word says more of a page the rarer it is elsewhere. Whole millionths: the
# order in which threads add them must not matter.
_WORDS = f"""
    create or replace temp table chosen as
      select distinct page from shows where split != 'test'
      order by md5(page::varchar) limit {_MAX_PAGES};
    create or replace temp table page_shows as
      select page, position, is_clicked, product_id,
        count(*) over (partition by page) as num_shown
      from shows semi join chosen using (page);
    create or replace temp table words as
      select product_id, unnest(list_distinct(list_filter(
        regexp_split_to_array(words, '[^\\p{{L}}\\p{{N}}]+'),
        lambda word: word != ''))) as word
      from products;
    create or replace temp table word_shares as
      select word, count(*) / (select count(*) from products) as share
      from words group by word;
    create or replace temp table page_words as
      select page, word, count(*) as n
      from page_shows join words using (product_id) group by page, word;
    create or replace temp table alike as
      select page, position, is_clicked, coalesce(sum((greatest(0,
        (n - 1) / (num_shown - 1) - share) * -ln(share) * {_UNIT})::bigint), 0)
        as similarity
      from page_shows left join words using (product_id)
      left join page_words using (page, word)
      left join word_shares using (word)
      where num_shown > 1
      group by page, position, is_clicked
"""
_CELLS = f"""
    with bins as (
      select least(position, {examination.MAX_PLACES}) as place, is_clicked,
        ntile({_BINS}) over (order by similarity, page, position) as bin
      from alike)
    select bin, place, count(*), count(*) filter (is_clicked)
    from bins group by bin, place order by bin, place
"""


def by_similarity(
    database: duckdb.DuckDBPyConnection,
) -> tuple[np.ndarray, np.ndarray]:
    """Shows and clicks by the similarity of query and product in the log.

    Returns:
        shows, clicks: `[num_bins, num_places]`; without a row if the log has
        no similarities.
    """
    database.execute(_LOGGED)
    return _cells(database)


def by_words(
    database: duckdb.DuckDBPyConnection,
) -> tuple[np.ndarray, np.ndarray]:
    """The same by the words (title, tags, category) shared with the page.

    What most of a page has is what the query asked for, as far as words tell.
    """
    database.execute(_WORDS)
    return _cells(database)


def _cells(
    database: duckdb.DuckDBPyConnection,
) -> tuple[np.ndarray, np.ndarray]:
    rows = database.execute(_CELLS).fetchall()
    num_places = max([place for _, place, *_ in rows], default=0)
    shows = np.zeros((_BINS if rows else 0, num_places))
    clicks = np.zeros_like(shows)
    for bin_, place, num_shows, num_clicks in rows:
        shows[bin_ - 1, place - 1] = num_shows
        clicks[bin_ - 1, place - 1] = num_clicks
    return shows, clicks
