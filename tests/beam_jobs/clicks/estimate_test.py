import duckdb
import numpy as np
import pyarrow as pa
import tensorflow as tf

from beam_jobs.clicks import alike_products
from beam_jobs.clicks import estimate
from beam_jobs.clicks import examination

_KNOWN = 1 / np.arange(1, 6)
# A query of one of them asks for it.
_COLOURS = ("red", "green", "blue", "yellow")


def _log(num_pages=10_000, *, similarities=False):
    """Pages of queries that never come twice, 5 of 12 products on each.

    A product of the colour asked for is clicked with probability 0.8 if it is
    looked at, another one with 0.1; the order is of that, and noise.
    """
    rng = np.random.default_rng(0)
    products = [
        (f"{colour}/{number}", f"nice {colour} thing {number}")
        for colour in _COLOURS
        for number in range(10)
    ]
    columns = {name: [] for name in ("page", "position", "product_id")}
    columns |= {"is_clicked": [], "similarity": []}
    for page in range(num_pages):
        asked = _COLOURS[rng.integers(len(_COLOURS))]
        found = rng.choice(len(products), 12, replace=False)
        fits = np.array(
            [0.8 if products[n][0].startswith(asked) else 0.1 for n in found]
        )
        order = np.argsort(-fits + 0.4 * rng.standard_normal(12))[:5]
        clicked = rng.random(5) < _KNOWN * fits[order]
        for place, product in enumerate(order):
            columns["page"].append(page)
            columns["position"].append(place + 1)
            columns["product_id"].append(products[found[product]][0])
            columns["is_clicked"].append(bool(clicked[place]))
            columns["similarity"].append(
                float(fits[product]) if similarities else None
            )
    database = duckdb.connect()
    table = pa.table(columns)
    database.register("table_", table)
    database.execute(
        "create table shows as select *, page::varchar as image, "
        "'train' as split from table_"
    )
    database.execute(
        "create table products (product_id varchar, words varchar)"
    )
    database.executemany("insert into products values (?, ?)", products)
    by_clicks = np.zeros(5)
    for position, is_clicked in zip(columns["position"], columns["is_clicked"]):
        by_clicks[position - 1] += is_clicked
    return database, examination.error(by_clicks / by_clicks[0], _KNOWN)


class EstimateTest(tf.test.TestCase):
    def test_similarities_of_the_log(self):
        """Breaks if they are not taken, or the known examination is missed by
        more than a tenth."""
        database, by_clicks = _log(similarities=True)
        found = estimate.estimate(database, None)
        self.assertEqual(found.method, "similarity")
        error = examination.error(found.places, _KNOWN)
        self.assertLess(error, 0.1)
        self.assertLess(error, by_clicks / 2)

    def test_words(self):
        """Breaks if words on the page tell no more than clicks alone."""
        database, by_clicks = _log()
        found = estimate.estimate(database, None)
        self.assertEqual(found.method, "words")
        error = examination.error(found.places, _KNOWN)
        self.assertLess(error, 0.9 * by_clicks)

    def test_words_of_a_page(self):
        """Breaks if a product's own words, or common ones, count for it."""
        database = duckdb.connect()
        database.execute(
            "create table shows as select 1 as page, 'train' as split, "
            "p as product_id, n as position, false as is_clicked from "
            "(values ('a', 1), ('b', 2), ('c', 3)) t(p, n)"
        )
        database.execute(
            "create table products as select * from (values ('a', 'red cup'), "
            "('b', 'red pen'), ('c', 'blue pan'), ('d', 'a jar')) "
            "t(product_id, words)"
        )
        alike_products.by_words(database)
        rows = database.execute(
            "select position, similarity from alike order by position"
        ).fetchall()
        # a and b: one of the two others is red, as half the catalogue is:
        # (1 / 2 - 1 / 2) * ln 2 = 0. Without d's and c's: see below.
        self.assertEqual(rows, [(1, 0), (2, 0), (3, 0)])
        database.execute("insert into products values ('e', 'x'), ('f', 'y')")
        alike_products.by_words(database)
        rows = database.execute(
            "select position, similarity from alike order by position"
        ).fetchall()
        # Now a third of the catalogue: (1 / 2 - 1 / 3) * ln 3 = 0.183102.
        self.assertEqual(rows, [(1, 183102), (2, 183102), (3, 0)])

    def test_nothing_tells_it(self):
        """Breaks if a small log's chances become weights."""
        database, _ = _log(20)
        with self.assertLogs("beam_jobs", "WARNING"):
            found = estimate.estimate(database, None)
        self.assertEqual((found.method, found.places), ("none", [1.0]))


if __name__ == "__main__":
    tf.test.main()
