"""Counts and latencies of the server, under TensorFlow Serving's names.

Dashboards and alerts written for tensorflow_model_server read the same page:
names with colons, the same labels and buckets, at the same path.
"""

import re
import threading
from collections.abc import Sequence
from typing import Any

import prometheus_client

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Model names come from requests: without a limit anyone could fill memory.
_MAX_UNSERVED_NAMES = 100
_MAX_UNSERVED_NAME_LENGTH = 200
_OTHER_NAME = "unknown"

_PREFIX = ":tensorflow:serving:"
# Limits in microseconds, 10 to about 20 minutes, and numbers of examples:
# servables/tensorflow/util.cc of TensorFlow Serving.
_MICROSECONDS = [float(f"{10 * 1.8**exponent:g}") for exponent in range(33)]
_SIZES = [2.0**exponent for exponent in range(15)]
# Buckets of a histogram, None for a counter; and labels.
_METRICS = {
    "request_count": (None, "model_name status"),
    "request_latency": (_MICROSECONDS, "model_name API entrypoint"),
    "runtime_latency": (_MICROSECONDS, "model_name API runtime"),
    "request_example_counts": (_SIZES, "model"),
    "request_example_count_total": (None, "model"),
    "model_warmup_latency": (_MICROSECONDS, "model_path status"),
    "model_warmup_records_read": (None, "model_path"),
    "request_log_count": (None, "model_name status_code"),
    "batching_session:queuing_latency": (_MICROSECONDS, "thread_pool_name"),
    "batching_session:input_batch_size": (_SIZES, ""),
    "batching_session:processed_batch_size": (_SIZES, ""),
    "batching_session:padding_size": (_SIZES, "execution_batch_size"),
    "batching_session:wrapped_run_count": (None, ""),
    # HTTP answers on the REST port, which TensorFlow Serving does not count.
    ":sicot:serving:rest_response_count": (None, "code"),
}
# prometheus_client ends the names of counters in `_total`, TensorFlow Serving
# that of one.
_TOTAL = re.compile(
    rf"^((?:# (?:HELP|TYPE) )?(?!{_PREFIX}request_example_count_)[:\w]+)_total"
    r"(?=[ {])",
    re.MULTILINE,
)


class Metrics:
    """All metrics of one server; any number of threads may write."""

    def __init__(self):
        self._lock = threading.Lock()
        self._names = set()
        self._num_unserved_names = 0
        self._registry = prometheus_client.CollectorRegistry()
        # When each counter was made would be a line more for each.
        prometheus_client.disable_created_metrics()
        self._metrics = {}
        for name, (buckets, labels) in _METRICS.items():
            make, options = prometheus_client.Counter, {}
            if buckets:
                make, options = (
                    prometheus_client.Histogram,
                    {"buckets": buckets},
                )
            self._metrics[name] = make(
                name if name.startswith(":") else _PREFIX + name,
                "Latencies are in microseconds.",
                labels.split(),
                registry=self._registry,
                **options,
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
        name = self.count(model_name, status_code_name)
        if status_code_name != "OK":
            return
        self._observe("request_latency", seconds * 1e6, name, api, entrypoint)
        if num_examples:
            self._observe("request_example_counts", num_examples, name)
            self._add("request_example_count_total", num_examples, name)

    def count(self, model_name: str, status_code_name: str) -> str:
        """One request, whether or not a model saw it; returns its label."""
        label = self._label(model_name, status_code_name == "OK")
        self._add("request_count", 1, label, status_code_name)
        return label

    def record_rest_response(self, status: int) -> None:
        """One HTTP answer, whatever was asked."""
        self._add(":sicot:serving:rest_response_count", 1, str(status))

    def record_runtime(self, model_name: str, api: str, seconds: float) -> None:
        """One run of a model's session, without parsing and encoding."""
        self._observe("runtime_latency", seconds * 1e6, model_name, api, "TF1")

    def record_warmup(
        self,
        model_path: str,
        status_code_name: str,
        seconds: float,
        num_records: int,
    ) -> None:
        """The warm-up of one version."""
        self._observe(
            "model_warmup_latency", seconds * 1e6, model_path, status_code_name
        )
        self._add("model_warmup_records_read", num_records, model_path)

    def record_batch(
        self,
        thread_pool_name: str,
        size: int,
        padded_size: int,
        seconds_in_queue: Sequence[float],
    ) -> None:
        """One batch that is about to run, with rows of several requests."""
        prefix = "batching_session:"
        for seconds in seconds_in_queue:
            self._observe(
                prefix + "queuing_latency", seconds * 1e6, thread_pool_name
            )
        self._observe(prefix + "input_batch_size", size)
        self._observe(prefix + "processed_batch_size", padded_size)
        self._observe(prefix + "padding_size", padded_size - size, padded_size)
        self._add(prefix + "wrapped_run_count", 1)

    def record_request_log(
        self, model_name: str, status_code_name: str
    ) -> None:
        """One request that was to be logged, and whether it was."""
        label = self._label(model_name, is_served=False)
        self._add("request_log_count", 1, label, status_code_name)

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

    def _add(self, name: str, number: int, *labels: object) -> None:
        self._metric(name, labels).inc(number)

    def _observe(self, name: str, value: float, *labels: object) -> None:
        self._metric(name, labels).observe(value)

    def _metric(self, name: str, labels: tuple[object, ...]) -> Any:
        metric = self._metrics[name]
        return metric.labels(*labels) if labels else metric

    def _label(self, model_name: str, is_served: bool) -> str:
        """`model_name`, or one name for all that nobody serves."""
        with self._lock:
            if model_name in self._names:
                return model_name
            if not is_served:
                if (
                    self._num_unserved_names == _MAX_UNSERVED_NAMES
                    or len(model_name) > _MAX_UNSERVED_NAME_LENGTH
                ):
                    return _OTHER_NAME
                self._num_unserved_names += 1
            self._names.add(model_name)
            return model_name
