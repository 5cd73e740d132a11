import json
import pathlib

import duckdb
import numpy as np
import tensorflow as tf

from beam_jobs.clicks import examination


def _shows(rows):
    """Shows of (image, product, position, is_clicked)."""
    database = duckdb.connect()
    database.execute(
        "create table shows (image varchar, product_id varchar, "
        "position bigint, is_clicked boolean, split varchar)"
    )
    database.executemany("insert into shows values (?, ?, ?, ?, 'train')", rows)
    return database


class ExaminationTest(tf.test.TestCase):
    def test_harvest(self):
        """Breaks if a product counts that stood at one place only, or if the
        place where it was more often counts more."""
        database = _shows(
            [
                # p at 1: 3 shows, 2 clicks; at 2: 1 show, 1 click.
                *[("q", "p", 1, clicked) for clicked in (True, True, False)],
                ("q", "p", 2, True),
                # Of another query: at one place only.
                ("r", "p", 1, True),
            ]
        )
        shows, clicks = examination.harvest(database)
        # 3 * 1 / (3 + 1) of each; clicks are that times 2 / 3 and 1 / 1.
        self.assertAllClose(shows, [[0.75, 0.75]])
        self.assertAllClose(clicks, [[0.5, 0.75]], atol=1e-6)

    def test_fit_is_exact_without_noise(self):
        """Breaks if the model does not tell relevance from examination."""
        examined = np.array([1.0, 0.5, 0.25])
        relevance = np.array([[0.9], [0.3]])
        shows = np.array([[100.0, 900.0, 300.0], [900.0, 100.0, 500.0]])
        # Clicked are shows * examined * relevance, in expectation.
        fitted = examination.fit(shows, shows * examined * relevance)
        self.assertAllClose(fitted, examined, atol=1e-4)

    def test_known_examination_is_found(self):
        """Breaks if the estimate is worse than clicks alone, or off by more
        than a tenth: products that fit stand higher up, as in any shop."""
        rng = np.random.default_rng(0)
        known = 1 / np.arange(1, 6)
        rows = []
        for query in range(400):
            fits = rng.random(5)
            for _ in range(20):
                order = np.argsort(-fits + 0.5 * rng.standard_normal(5))
                clicked = rng.random(5) < known * fits[order]
                rows += [
                    (query, int(product), place + 1, bool(clicked[place]))
                    for place, product in enumerate(order)
                ]
        counts = np.zeros(5)
        for _, _, position, is_clicked in rows:
            counts[position - 1] += is_clicked
        shows, clicks = _harvest_of(rows)
        error = examination.error(examination.fit(shows, clicks), known)
        by_clicks = examination.error(counts / counts[0], known)
        self.assertLess(error, 0.1)
        self.assertLess(error, by_clicks / 2)

    def test_too_few_clicks(self):
        """Breaks if a place is judged by chance."""
        shows = np.array([[100.0, 100.0, 100.0]])
        fitted = examination.fit(shows, np.array([[50.0, 25.0, 19.0]]))
        self.assertAllEqual(np.isnan(fitted), [False, False, True])
        self.assertAllClose(
            examination.complete(fitted), [1, 0.5, 0.5], atol=1e-3
        )

    def test_read(self):
        """Breaks if the shop's summary or a plain list can't be given."""
        folder = pathlib.Path(self.get_temp_dir())
        path = folder / "examination.json"
        for content in ([2, 1], {"examination": [2, 1]}):
            path.write_text(json.dumps(content))
            self.assertEqual(examination.read(path), [1, 0.5])
        for content in ([], [1, 0], {"other": [1]}, [1, "x"]):
            path.write_text(json.dumps(content))
            with self.assertRaisesRegex(ValueError, "a list of numbers"):
                examination.read(path)


def _harvest_of(rows):
    """`harvest` of many rows: DuckDB takes long to insert them singly."""
    import pyarrow as pa

    names = ("image", "product_id", "position", "is_clicked")
    columns = dict(zip(names, zip(*rows)))
    table = pa.table({**columns, "split": ["train"] * len(rows)})
    database = duckdb.connect()
    database.register("shows", table)
    return examination.harvest(database)


if __name__ == "__main__":
    tf.test.main()
