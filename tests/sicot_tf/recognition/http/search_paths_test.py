import pathlib
import tempfile
import time
import unittest

import httpx
import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.recognition import answers
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

_TIMEOUT = 300
_IDS = [product_id for product_id, *_ in tiny_recognizer.PRODUCTS]


class SearchPathsTest(unittest.TestCase):
    """One process for all tests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = pathlib.Path(folder)
        server = tiny_server.shared()
        index = tiny_recognizer.write_index(cls.root)
        cls.vectors = tiny_recognizer.write_vectors(cls.root, server.tiny)
        cls.recognizer = tiny_recognizer.RecognizerProcess(
            cls.root,
            *("--model", "tiny", "--model_server", server.grpc_address),
            *("--product_index", index, "--vector_index", cls.vectors),
            *("--catalogue_root", cls.root / "catalogue"),
            *("--timeout_seconds", _TIMEOUT),
        )
        cls.addClassCleanup(cls.recognizer.kill)
        cls.http = cls.enterClassContext(
            httpx.Client(base_url=cls.recognizer.url, timeout=_TIMEOUT)
        )

    def by_photo(self, data, **parameters):
        """The answer, checked against its description."""
        response = self.http.post(
            "/v1/search", files={"image": data}, params=parameters
        )
        self.assertEqual(response.status_code, 200, response.text)
        return answers.SearchAnswer.model_validate_json(response.content).search

    def by_query(self, query, **parameters):
        response = self.http.get(
            "/v1/search", params={"query": query, **parameters}
        )
        self.assertEqual(response.status_code, 200, response.text)
        return answers.SearchAnswer.model_validate_json(response.content).search

    def refusal(self, status, method, **parameters):
        response = self.http.request(method, "/v1/search", **parameters)
        self.assertEqual(response.status_code, status, response.text)
        return answers.Refusal.model_validate_json(response.content).error

    def test_one_result_in_three_ways(self):
        """Breaks if photo, panel and query do not find the same, in the same
        order, the catalogue's own picture first."""
        data = tiny_server.make_jpeg(2)
        panel = self.http.post("/v1/recognize", files={"image": data}).json()
        first = answers.Search.model_validate(panel["search"])
        self.assertEqual(first, self.by_photo(data))
        again = self.by_query(first.query)
        self.assertEqual(again.results, first.results)
        self.assertEqual((again.box, again.box_from), (None, None))
        self.assertEqual(first.total, len(_IDS))
        self.assertEqual(first.vector_index_generation, "2026-01-02-vv")
        whole = self.by_photo(data, localize=False)
        self.assertEqual(whole.results[0].product.product_id, "shop/b")
        self.assertAlmostEqual(whole.results[0].similarity, 1.0, 5)
        self.assertEqual(whole.results[0].picture, "https://img.example/b.jpg")

    def test_pages_and_filters(self):
        """Breaks if a page repeats or loses a product, or a filter lets
        another category or price through."""
        query = self.by_photo(tiny_server.make_jpeg(1)).query
        pages = [
            self.by_query(query, page=page, page_size=4).results
            for page in (1, 2, 3)
        ]
        self.assertEqual([len(page) for page in pages], [4, 2, 0])
        ids = [each.product.product_id for page in pages for each in page]
        self.assertCountEqual(ids, _IDS)
        drinks = self.by_query(query, category_filter="drink")
        self.assertEqual(
            {each.product.product_id for each in drinks.results},
            {"商店/可乐", "shop/d"},
        )
        # No product has a price.
        self.assertEqual(self.by_query(query, max_price=5).total, 0)

    def test_refusals(self):
        """Breaks if a damaged query, or one of another model, is answered."""
        query = self.by_photo(tiny_server.make_jpeg(1)).query
        other = "A" + query[1:] if query[0] != "A" else "B" + query[1:]
        error = self.refusal(409, "GET", params={"query": other})
        self.assertIn("Send the photo again", error)
        for damaged in ("x", query[:-4], "=" * 9, "é", query + "AAAA"):
            self.refusal(422, "GET", params={"query": damaged})
        self.assertEqual(
            self.refusal(422, "GET"), "Expected query, received none."
        )
        error = self.refusal(422, "GET", params={"query": query, "box": "1"})
        self.assertIn("Expected parameters page, page_size", error)
        error = self.refusal(
            422, "GET", params={"query": query, "min_price": 2, "max_price": 1}
        )
        self.assertIn("min_price up to max_price", error)
        self.refusal(415, "POST", content=b"no photo")

    def test_change_by_the_gallery(self):
        """Breaks if a product that is put, without a class of the model, is
        not found with its picture soon, or still is once it is deleted."""
        data = tiny_server.make_jpeg(77)
        import tensorflow as tf

        model = tf.saved_model.load(str(tiny_server.shared().tiny))
        vector = model.signatures["embedding"](image_bytes=tf.constant([data]))
        vector = vector["embedding"].numpy()
        vector /= np.linalg.norm(vector)
        product = product_index.Product(
            *("shop/new", "sku-new", "New", ["new.jpg"], ["red"], "drink"),
            {"price": "2.50"},
            None,
        )
        with vector_updates.VectorUpdates(self.vectors) as updates:
            updates.put(
                *(product, vector, [data]),
                product_index.embedding_model_sha256(tiny_server.shared().tiny),
            )

            def first():
                return self.by_photo(data, localize=False).results[0]

            self._wait(lambda: first().product.product_id == "shop/new")
            found = first()
            self.assertEqual(self.http.get(found.picture).content, data)
            kept = self.by_photo(data, tags="red", max_price=2.5)
            self.assertEqual(
                [each.product.title for each in kept.results], ["New"]
            )
            updates.delete("shop/new")
            self._wait(lambda: first().product.product_id != "shop/new")
        self.assertEqual(self.http.get(found.picture).status_code, 404)

    def _wait(self, is_true):
        deadline = time.monotonic() + _TIMEOUT
        while not is_true():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_metrics(self):
        """Breaks if results are not counted or timed."""
        self.by_photo(tiny_server.make_jpeg(1))
        text = self.http.get("/metrics").text
        self.assertIn("sicot_recognition_search_results_count", text)
        self.assertIn('search_stage_seconds_count{stage="results"}', text)


if __name__ == "__main__":
    unittest.main()
