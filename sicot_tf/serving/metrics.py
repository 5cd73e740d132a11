"""Counts and latencies of the server, under TensorFlow Serving's names.

Dashboards and alerts written for tensorflow_model_server read the same page:
names with colons, the same labels and buckets, at the same path.
"""

import re
import threading
from collections.abc import Sequence

import prometheus_client

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Model names come from requests: without a limit anyone could fill memory.
_MAX_UNSERVED_NAMES = 100
_MAX_UNSERVED_NAME_LENGTH = 200
_OTHER_NAME = "unknown"

_SERVING = ":tensorflow:serving:"
_BATCHING = f"{_SERVING}batching_session:"
# Limits in microseconds, 10 to about 20 minutes, and numbers of examples:
# servables/tensorflow/util.cc of TensorFlow Serving.
_MICROSECONDS = [float(f"{10 * 1.8**exponent:g}") for exponent in range(33)]
_SIZES = [2.0**exponent for exponent in range(15)]
# prometheus_client ends the names of counters in `_total`, TensorFlow Serving
# that of one.
_TOTAL = re.compile(
    rf"^((?:# (?:HELP|TYPE) )?(?!{_SERVING}request_example_count_)[:\w]+)_total"
    r"(?=[ {])",
    re.MULTILINE,
)


class Metrics:
    """All metrics of one server; any number of threads may write."""

    def __init__(self):
        self._lock = threading.Lock()
        self._served_names = set()
        self._unserved_names = set()
        self._registry = prometheus_client.CollectorRegistry()
        # When each counter was made would be a line more for each.
        prometheus_client.disable_created_metrics()
        self._request_count = self._counter(
            f"{_SERVING}request_count", "Requests.", "model_name", "status"
        )
        self._request_latency = self._histogram(
            f"{_SERVING}request_latency",
            "Wall time of a request in microseconds.",
            _MICROSECONDS,
            *("model_name", "API", "entrypoint"),
        )
        self._runtime_latency = self._histogram(
            f"{_SERVING}runtime_latency",
            "Wall time of a run of TensorFlow in microseconds.",
            _MICROSECONDS,
            *("model_name", "API", "runtime"),
        )
        self._example_counts = self._histogram(
            f"{_SERVING}request_example_counts",
            "tf.Examples of a request.",
            _SIZES,
            "model",
        )
        self._example_count_total = self._counter(
            f"{_SERVING}request_example_count_total", "tf.Examples.", "model"
        )
        self._warmup_latency = self._histogram(
            f"{_SERVING}model_warmup_latency",
            "Wall time of a warm-up in microseconds.",
            _MICROSECONDS,
            *("model_path", "status"),
        )
        self._warmup_records_read = self._counter(
            f"{_SERVING}model_warmup_records_read",
            "Warm-up records that were run.",
            "model_path",
        )
        self._request_log_count = self._counter(
            f"{_SERVING}request_log_count",
            "Requests that were to be logged.",
            *("model_name", "status_code"),
        )
        self._rest_response_count = self._counter(
            ":sicot:serving:rest_response_count",
            "HTTP answers on the REST port.",
            "code",
        )
        self._add_batching()

    def _add_batching(self) -> None:
        self._queuing_latency = self._histogram(
            f"{_BATCHING}queuing_latency",
            "Wall time in the queue in microseconds.",
            _MICROSECONDS,
            "thread_pool_name",
        )
        self._input_batch_size = self._histogram(
            f"{_BATCHING}input_batch_size", "Rows without padding.", _SIZES
        )
        self._processed_batch_size = self._histogram(
            f"{_BATCHING}processed_batch_size", "Rows with padding.", _SIZES
        )
        self._padding_size = self._histogram(
            f"{_BATCHING}padding_size",
            "Rows of padding.",
            _SIZES,
            "execution_batch_size",
        )
        self._wrapped_run_count = self._counter(
            f"{_BATCHING}wrapped_run_count", "Runs of batches."
        )

    def record(
        self,
        model_name: str,
        api: str,
        entrypoint: str,
        status_code_name: str,
        seconds: float,
        num_examples: int,
    ) -> None:
        """One request that ended, by gRPC or REST, for example `Predict`.

        Seconds and tf.Examples count only for `OK`, as in TensorFlow Serving.
        """
        model_name = self.count(model_name, status_code_name)
        if status_code_name == "OK":
            self._request_latency.labels(model_name, api, entrypoint).observe(
                seconds * 1e6
            )
            if num_examples:
                self._example_counts.labels(model_name).observe(num_examples)
                self._example_count_total.labels(model_name).inc(num_examples)

    def count(self, model_name: str, status_code_name: str) -> str:
        """One request, whether or not a model saw it; returns its label."""
        label = self._label(model_name, status_code_name == "OK")
        self._request_count.labels(label, status_code_name).inc()
        return label

    def record_rest_response(self, status: int) -> None:
        """One HTTP answer, whatever was asked."""
        self._rest_response_count.labels(str(status)).inc()

    def record_runtime(self, model_name: str, api: str, seconds: float) -> None:
        """One run of a model's session, without parsing and encoding."""
        self._runtime_latency.labels(model_name, api, "TF1").observe(
            seconds * 1e6
        )

    def record_warmup(
        self,
        model_path: str,
        status_code_name: str,
        seconds: float,
        num_records: int,
    ) -> None:
        """The warm-up of one version."""
        self._warmup_latency.labels(model_path, status_code_name).observe(
            seconds * 1e6
        )
        self._warmup_records_read.labels(model_path).inc(num_records)

    def record_batch(
        self,
        thread_pool_name: str,
        size: int,
        padded_size: int,
        seconds_in_queue: Sequence[float],
    ) -> None:
        """One batch that is about to run, with rows of several requests."""
        latency = self._queuing_latency.labels(thread_pool_name)
        for seconds in seconds_in_queue:
            latency.observe(seconds * 1e6)
        self._input_batch_size.observe(size)
        self._processed_batch_size.observe(padded_size)
        self._padding_size.labels(padded_size).observe(padded_size - size)
        self._wrapped_run_count.inc()

    def record_request_log(
        self, model_name: str, status_code_name: str
    ) -> None:
        """One request that was to be logged, and whether it was."""
        self._request_log_count.labels(
            self._label(model_name, is_served=False), status_code_name
        ).inc()

    def text(self) -> str:
        """The page of metrics, under TensorFlow Serving's names."""
        page = prometheus_client.generate_latest(self._registry).decode()
        return _TOTAL.sub(r"\1", page)

    def value(self, name: str) -> int:
        """The first value of a counter of this name; 0 without one."""
        for metric in self._registry.collect():
            for sample in metric.samples:
                if name in (sample.name, sample.name.removesuffix("_total")):
                    return int(sample.value)
        return 0

    def _label(self, model_name: str, is_served: bool) -> str:
        """`model_name`, or one name for all that nobody serves."""
        with self._lock:
            if model_name in self._served_names:
                return model_name
            if is_served:
                self._served_names.add(model_name)
                return model_name
            if (
                len(self._unserved_names) < _MAX_UNSERVED_NAMES
                and len(model_name) <= _MAX_UNSERVED_NAME_LENGTH
            ):
                self._unserved_names.add(model_name)
            if model_name in self._unserved_names:
                return model_name
            return _OTHER_NAME

    def _counter(
        self, name: str, text: str, *labels: str
    ) -> prometheus_client.Counter:
        return prometheus_client.Counter(
            name, text, labels, registry=self._registry
        )

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], *labels: str
    ) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            name, text, labels, registry=self._registry, buckets=buckets
        )
