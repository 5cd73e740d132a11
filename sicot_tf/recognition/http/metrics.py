"""What Prometheus reads of the recognition service."""

from collections.abc import Callable

import prometheus_client

from sicot_tf.recognition import answers
from sicot_tf.recognition.releases import open_release

_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    *(5.0, 10.0),
)
_RESULTS = (0, 1, 5, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Counters of one process."""

    def __init__(self, queue_length: Callable[[], int]):
        # One more line for each, which nobody looks at.
        prometheus_client.disable_created_metrics()
        self.registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "sicot_recognition_requests",
            "HTTP requests by path and code.",
            ["path", "code"],
            registry=self.registry,
        )
        self._seconds = prometheus_client.Histogram(
            "sicot_recognition_stage_seconds",
            "Time of each stage of an answer; total: without the upload.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = prometheus_client.Counter(
            "sicot_recognition_answers",
            "Answers, by whether an object was recognised.",
            ["recognised"],
            registry=self.registry,
        )
        for recognised in ("true", "false"):
            self._answers.labels(recognised)
        self._search_seconds = prometheus_client.Histogram(
            "sicot_recognition_search_stage_seconds",
            "Time of each stage of results without a panel.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._results = prometheus_client.Histogram(
            "sicot_recognition_search_results",
            "Products that a search has found, of all pages together.",
            buckets=_RESULTS,
            registry=self.registry,
        )
        prometheus_client.Gauge(
            "sicot_recognition_queue_length",
            "Photos under way.",
            registry=self.registry,
        ).set_function(queue_length)
        self._live = prometheus_client.Gauge(
            "sicot_recognition_live",
            "1 for the model version and index generation in use.",
            ["variant", "model", "model_version", "index_generation"],
            registry=self.registry,
        )
        self._live_labels: dict[str, tuple[str, ...]] = {}
        self._swaps = prometheus_client.Counter(
            "sicot_recognition_releases",
            "Releases that went live, or failed to.",
            ["outcome"],
            registry=self.registry,
        )
        self._restarts = prometheus_client.Counter(
            "sicot_recognition_model_server_restarts",
            "How often the embedded model server died.",
            registry=self.registry,
        )

    def count_request(self, path: str, code: int) -> None:
        """Counts an answered request; `path` is one of few."""
        self._requests.labels(path, str(code)).inc()

    def count_answer(self, answer: answers.Answer) -> None:
        """Counts a panel and its times."""
        self._answers.labels(str(answer.recognised).lower()).inc()
        for stage, milliseconds in answer.milliseconds.items():
            self._seconds.labels(stage).observe(milliseconds / 1000)

        if answer.search:
            self._results.observe(answer.search.total)

    def count_search(
        self, search: answers.Search, milliseconds: dict[str, float]
    ) -> None:
        """Counts results without a panel, and their times."""
        self._results.observe(search.total)
        for stage, spent in milliseconds.items():
            self._search_seconds.labels(stage).observe(spent / 1000)

    def count_release(self, outcome: str) -> None:
        """Counts a release that is live, or failed."""
        self._swaps.labels(outcome).inc()

    def count_restart(self) -> None:
        """Counts a death of the embedded model server."""
        self._restarts.inc()

    def set_live(self, variant: str, release: open_release.OpenRelease) -> None:
        """What visitors of a variant get from now on."""
        if variant in self._live_labels:
            self._live.remove(*self._live_labels[variant])
        self._live_labels[variant] = (
            *(variant, release.model_name, str(release.model_version)),
            release.index_generation,
        )
        self._live.labels(*self._live_labels[variant]).set(1)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return prometheus_client.generate_latest(self.registry)
