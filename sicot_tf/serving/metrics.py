"""Counts and latencies of the server, under TensorFlow Serving's names.

Dashboards and alerts written for tensorflow_model_server read the same page:
names with colons, the same labels and buckets, at the same path.
"""

import threading
from collections.abc import Iterator
from collections.abc import Sequence

import prometheus_client

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Model names come from requests: without a limit anyone could fill memory.
_MAX_UNSERVED_NAMES = 100
_MAX_UNSERVED_NAME_LENGTH = 200
_OTHER_NAME = "unknown"

# Limits in microseconds, 10 to about 20 minutes, and numbers of examples:
# servables/tensorflow/util.cc of TensorFlow Serving.
_LATENCY_BUCKETS = [10 * 1.8**exponent for exponent in range(33)]
_SIZE_BUCKETS = [2.0**exponent for exponent in range(15)]


class Metrics:
    """All metrics of one server; any number of threads may write.

    Args:
        num_restarts: times the supervisor restarted this server.
    """

    def __init__(self, *, num_restarts: int = 0):
        self._lock = threading.Lock()
        self._served_names = set()
        self._unserved_names = set()
        self._registry = prometheus_client.CollectorRegistry()
        self._request_count = self._counter(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ["model_name", "status"],
        )
        self._request_latency = self._histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow "
            "Serving request.",
            ["model_name", "API", "entrypoint"],
            _LATENCY_BUCKETS,
        )
        self._runtime_latency = self._histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow "
            "runtime.",
            ["model_name", "API", "runtime"],
            _LATENCY_BUCKETS,
        )
        self._example_counts = self._histogram(
            ":tensorflow:serving:request_example_counts",
            "The number of tensorflow.Examples per request.",
            ["model"],
            _SIZE_BUCKETS,
        )
        self._example_count_total = self._counter(
            ":tensorflow:serving:request_example_count_total",
            "The total number of tensorflow.Examples.",
            ["model"],
        )
        self._warmup_latency = self._histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the "
            "model.",
            ["model_path", "status"],
            _LATENCY_BUCKETS,
        )
        self._warmup_records_read = self._counter(
            ":tensorflow:serving:model_warmup_records_read",
            "The number of warm-up records that were run.",
            ["model_path"],
        )
        self._queuing_latency = self._histogram(
            ":tensorflow:serving:batching_session:queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ["thread_pool_name"],
            _LATENCY_BUCKETS,
        )
        self._input_batch_size = self._histogram(
            ":tensorflow:serving:batching_session:input_batch_size",
            "Distribution of batch sizes, without padding.",
            [],
            _SIZE_BUCKETS,
        )
        self._processed_batch_size = self._histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            "Distribution of batch sizes that were run, with their padding.",
            [],
            _SIZE_BUCKETS,
        )
        self._padding_size = self._histogram(
            ":tensorflow:serving:batching_session:padding_size",
            "Distribution of the padding of batches.",
            ["execution_batch_size"],
            _SIZE_BUCKETS,
        )
        self._wrapped_run_count = self._counter(
            ":tensorflow:serving:batching_session:wrapped_run_count",
            "Total count of run calls on the wrapped session.",
            [],
        )
        self._request_log_count = self._counter(
            ":tensorflow:serving:request_log_count",
            "The total number of requests logged, by status.",
            ["model_name", "status_code"],
        )
        self._rest_response_count = self._counter(
            ":sicot:serving:rest_response_count",
            "HTTP answers on the REST port, by status.",
            ["code"],
        )
        self._counter(
            ":sicot:serving:restart_count",
            "Times the server was restarted after it died in native code.",
            [],
        ).inc(num_restarts)

    def record(
        self,
        model_name: str,
        api: str,
        entrypoint: str,
        status_code_name: str,
        seconds: float,
        num_examples: int,
    ) -> None:
        """One request that ended.

        Args:
            model_name: as the request gave it.
            api: for example `Predict`.
            entrypoint: `GRPC` or `REST`.
            status_code_name: for example `OK` or `NOT_FOUND`.
            seconds: from the request's arrival to its answer; counts only
                for `OK`, as in TensorFlow Serving.
            num_examples: tf.Examples of the request; 0 if it holds none.
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
        """One batch that is about to run.

        Args:
            thread_pool_name: of the batching parameters.
            size: rows of the requests together.
            padded_size: rows that are run.
            seconds_in_queue: how long each request waited.
        """
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
        """The page of metrics, in the format of TensorFlow Serving.

        prometheus_client's own writer would end the names of counters in
        `_total`, which dashboards made for TensorFlow Serving don't know.
        """
        return "".join(
            line + "\n"
            for metric in self._registry.collect()
            for line in _lines(metric)
        )

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
        self, name: str, text: str, labels: list[str]
    ) -> prometheus_client.Counter:
        return prometheus_client.Counter(
            name, text, labels, registry=self._registry
        )

    def _histogram(
        self, name: str, text: str, labels: list[str], buckets: list[float]
    ) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            name, text, labels, registry=self._registry, buckets=buckets
        )


def _lines(metric: prometheus_client.Metric) -> Iterator[str]:
    """One metric, for every set of its labels."""
    name = metric.name
    # The library drops the `_total` of a counter's name.
    if metric.type == "counter" and name.endswith("_example_count"):
        name += "_total"
    yield f"# HELP {name} {metric.documentation}"
    yield f"# TYPE {name} {metric.type}"
    for sample in metric.samples:
        if sample.name.endswith("_created"):
            continue
        labels = ",".join(
            f'{label}="{_escape(label, value)}"'
            for label, value in sample.labels.items()
        )
        sample_name = name if metric.type == "counter" else sample.name
        yield f"{sample_name}{{{labels}}} {sample.value:.17g}"


def _escape(label: str, value: str) -> str:
    """A label's value; bucket limits with six digits, as the exporter's."""
    if label == "le" and value != "+Inf":
        return f"{float(value):g}"
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
