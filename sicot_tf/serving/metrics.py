"""Counts and latencies of the server, under TensorFlow Serving's names.

Dashboards and alerts written for tensorflow_model_server read the same page:
names with colons, the same labels and buckets, at the same path.
"""

import functools
import re
import threading
from collections.abc import Sequence

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
        self._served_names = set()
        self._unserved_names = set()
        self._registry = prometheus_client.CollectorRegistry()
        # When each counter was made would be a line more for each.
        prometheus_client.disable_created_metrics()
        self._metrics = {}
        for name, (buckets, labels) in _METRICS.items():
            make = prometheus_client.Counter
            if buckets:
                make = functools.partial(
                    prometheus_client.Histogram, buckets=buckets
                )
            self._metrics[name] = make(
                f"{_PREFIX}{name}",
                "As of TensorFlow Serving; latencies in microseconds.",
                labels.split(),
                registry=self._registry,
            )
        self._rest_response_count = prometheus_client.Counter(
            ":sicot:serving:rest_response_count",
            "HTTP answers on the REST port.",
            ["code"],
            registry=self._registry,
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
            self._metrics["request_latency"].labels(
                model_name, api, entrypoint
            ).observe(seconds * 1e6)
            if num_examples:
                self._metrics["request_example_counts"].labels(
                    model_name
                ).observe(num_examples)
                self._metrics["request_example_count_total"].labels(
                    model_name
                ).inc(num_examples)

    def count(self, model_name: str, status_code_name: str) -> str:
        """One request, whether or not a model saw it; returns its label."""
        label = self._label(model_name, status_code_name == "OK")
        self._metrics["request_count"].labels(label, status_code_name).inc()
        return label

    def record_rest_response(self, status: int) -> None:
        """One HTTP answer, whatever was asked."""
        self._rest_response_count.labels(str(status)).inc()

    def record_runtime(self, model_name: str, api: str, seconds: float) -> None:
        """One run of a model's session, without parsing and encoding."""
        self._metrics["runtime_latency"].labels(model_name, api, "TF1").observe(
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
        self._metrics["model_warmup_latency"].labels(
            model_path, status_code_name
        ).observe(seconds * 1e6)
        self._metrics["model_warmup_records_read"].labels(model_path).inc(
            num_records
        )

    def record_batch(
        self,
        thread_pool_name: str,
        size: int,
        padded_size: int,
        seconds_in_queue: Sequence[float],
    ) -> None:
        """One batch that is about to run, with rows of several requests."""
        prefix = "batching_session:"
        latency = self._metrics[prefix + "queuing_latency"]
        for seconds in seconds_in_queue:
            latency.labels(thread_pool_name).observe(seconds * 1e6)
        self._metrics[prefix + "input_batch_size"].observe(size)
        self._metrics[prefix + "processed_batch_size"].observe(padded_size)
        padding = self._metrics[prefix + "padding_size"].labels(padded_size)
        padding.observe(padded_size - size)
        self._metrics[prefix + "wrapped_run_count"].inc()

    def record_request_log(
        self, model_name: str, status_code_name: str
    ) -> None:
        """One request that was to be logged, and whether it was."""
        self._metrics["request_log_count"].labels(
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
