"""Clients that ask without a pause, and whether answers are of one piece."""

import collections
import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Sequence

import orjson

from benchmarks.recognition import marked_releases

_TIMEOUT = 60


class Met:
    """What all clients met.

    Attributes:
        failures: texts of what went wrong.
        releases: answers by the mark of their release.
        latencies: of panels, in milliseconds.
        stop: set to end.
    """

    def __init__(
        self,
        pairs: Sequence[marked_releases.Marked],
        find_fault: Callable[[dict], str | None],
    ):
        self.failures: list[str] = []
        self.releases: collections.Counter[str] = collections.Counter()
        self.latencies: list[float] = []
        self.num_requests = 0
        self.num_pages = self.num_results = self.num_other_model = 0
        self.stop = threading.Event()
        self._marks = {
            each.index_generation.name: (each.mark, int(each.model.name))
            for each in pairs
        }
        self._vectors = {
            each.index_generation.name: each.vector_index_generation.name
            for each in pairs
        }
        self._find_fault = find_fault
        self._lock = threading.Lock()

    def judge_panel(self, answer: dict, milliseconds: float) -> None:
        """Counts an answer to a photo."""
        mark, version = self._marks[answer["index_generation"]]
        found = answer["objects"]
        found = found + [
            other for each in found for other in each["alternatives"]
        ]
        titles = [each["product"]["title"] for each in found if each["product"]]
        fault = self._find_fault(answer)
        if version != answer["model_version"]:
            fault = "model and index are of different releases"
        more, other_fault = self._judge_results(answer)
        titles, fault = titles + more, fault or other_fault
        self._count(mark, titles, fault)
        self.latencies.append(milliseconds)

    def judge_page(self, answer: dict) -> None:
        """Counts another page of results."""
        mark, version = self._marks[answer["index_generation"]]
        titles, fault = self._judge_results(answer)
        if version != answer["model_version"]:
            fault = "model and index are of different releases"
        with self._lock:
            self.num_pages += 1
        self._count(mark, titles, fault)

    def _judge_results(self, answer: dict) -> tuple[list[str], str | None]:
        """Titles of the results, and what is wrong with these."""
        search = answer["search"]
        fault = None
        wanted = self._vectors[answer["index_generation"]]
        if search["vector_index_generation"] != wanted:
            fault = "product index and vector index are of different releases"
        if not search["total"]:
            fault = "no results"
        with self._lock:
            self.num_results += len(search["results"])
        return [each["product"]["title"] for each in search["results"]], fault

    def judge_products(self, answer: dict) -> None:
        """Counts an answer to a SKU."""
        mark, _ = self._marks[answer["index_generation"]]
        self._count(mark, [each["title"] for each in answer["products"]], None)

    def count_other_model(self) -> None:
        """A query that was refused since the model is another one now."""
        with self._lock:
            self.num_requests += 1
            self.num_other_model += 1

    def fail(self, failure: str) -> None:
        """A request without the answer it should have."""
        with self._lock:
            self.num_requests += 1
            self.failures.append(failure)

    def _count(
        self, mark: str, titles: Sequence[str], fault: str | None
    ) -> None:
        if not all(each.startswith(mark) for each in titles):
            fault = f"titles {titles} in an answer of {mark}"
        with self._lock:
            self.num_requests += 1
            self.releases[mark] += 1
            if fault:
                self.failures.append(f"Mixed: {fault}")


def ask_again(url: str, photos: Sequence[bytes], number: int, met: Met) -> None:
    """One client: a panel, a page, a product, and a picture of it, again."""
    address = url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)

    def ask(
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        may_be_of_other_model: bool = False,
    ) -> bytes | None:
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            met.fail(f"{method} {path}: {error!r}")
            connection.close()
            return None
        if response.status == 409 and may_be_of_other_model:
            met.count_other_model()
            return None
        if response.status != 200:
            met.fail(f"{method} {path}: {response.status} {content[:300]!r}")
            # No busy loop where all is refused.
            time.sleep(0.05)
            return None
        return content

    while not met.stop.is_set():
        number += 1
        started = time.perf_counter()
        photo = photos[number % len(photos)]
        content = ask("POST", "/v1/recognize", photo)
        if content is None:
            continue
        answer = orjson.loads(content)
        met.judge_panel(answer, 1000 * (time.perf_counter() - started))
        query = urllib.parse.urlencode(
            {"query": answer["search"]["query"], "page": 2, "page_size": 3}
        )
        content = ask("GET", f"/v1/search?{query}", may_be_of_other_model=True)
        if content:
            met.judge_page(orjson.loads(content))
        product = answer["objects"][0]["product"]
        if product:
            sku = urllib.parse.quote(product["sku_id"])
            content = ask("GET", f"/v1/products/{sku}")
            if content:
                met.judge_products(orjson.loads(content))
            for picture in product["pictures"][:1]:
                if picture.startswith("/"):
                    ask("GET", picture)
    connection.close()
