import unittest

from prometheus_client import parser

from sicot_tf.serving import metrics as metrics_lib


def samples(metrics: metrics_lib.Metrics) -> dict[tuple, float]:
    """Every sample of the page, as Prometheus reads it.

    The library's parser adds `_total` to the names of counters.
    """
    return {
        (
            sample.name.removesuffix("_total"),
            *sample.labels.values(),
        ): sample.value
        for metric in parser.text_string_to_metric_families(metrics.text())
        for sample in metric.samples
    }


class MetricsTest(unittest.TestCase):
    def test_requests(self):
        """Dashboards find counts and latencies by these names and labels."""
        metrics = metrics_lib.Metrics()
        metrics.record("m", "Predict", "GRPC", "OK", 20e-6, 0)
        metrics.record("m", "Predict", "GRPC", "OK", 3600.0, 0)
        metrics.record("m", "Predict", "GRPC", "NOT_FOUND", 1.0, 0)
        metrics.record("m", "classify", "REST", "OK", 1.0, 3)
        metrics.record_runtime("m", "Predict", 18e-6)
        text = metrics.text()
        serving = ":tensorflow:serving:"
        for line in (
            f"# TYPE {serving}request_count counter",
            f'{serving}request_count{{model_name="m",status="OK"}} 3',
            f'{serving}request_count{{model_name="m",status="NOT_FOUND"}} 1',
            f"# TYPE {serving}request_latency histogram",
            f'{serving}request_example_count_total{{model="m"}} 3',
            f'{serving}request_example_counts_sum{{model="m"}} 3',
        ):
            self.assertIn(line + "\n", text)
        for limit, count in (
            ("10", 0),
            ("18", 0),
            ("32.4", 1),
            # 10 * 1.8**32 microseconds, 20 minutes.
            (f"{10 * 1.8**32:g}", 1),
            ("+Inf", 2),
        ):
            self.assertIn(
                f'{serving}request_latency_bucket{{model_name="m",'
                f'API="Predict",entrypoint="GRPC",le="{limit}"}} {count}\n',
                text,
            )
        self.assertIn(
            f'{serving}runtime_latency_count{{model_name="m",API="Predict",'
            'runtime="TF1"} 1\n',
            text,
        )

    def test_batches_warm_ups_logs_and_restarts(self):
        """Each of them is on the page, and Prometheus can read it."""
        metrics = metrics_lib.Metrics(num_restarts=2)
        metrics.record_batch("pool", 3, 4, [0.001, 0.002])
        metrics.record_warmup("/m/1", "OK", 0.5, 7)
        metrics.record_request_log("m", "UNKNOWN")
        found = samples(metrics)
        serving = ":tensorflow:serving:"
        batching = f"{serving}batching_session:"
        for key, value in {
            (f"{batching}queuing_latency_count", "pool"): 2,
            (f"{batching}queuing_latency_sum", "pool"): 3000,
            (f"{batching}input_batch_size_sum",): 3,
            (f"{batching}processed_batch_size_sum",): 4,
            (f"{batching}padding_size_sum", "4"): 1,
            (f"{batching}wrapped_run_count",): 1,
            (f"{serving}model_warmup_latency_sum", "/m/1", "OK"): 500_000,
            (f"{serving}model_warmup_records_read", "/m/1"): 7,
            (f"{serving}request_log_count", "m", "UNKNOWN"): 1,
            (":sicot:serving:restart_count",): 2,
        }.items():
            self.assertAlmostEqual(found[key], value, places=3, msg=key)

    def test_invented_names_fill_no_memory(self):
        """Anyone can send any name; the served one keeps its own line."""
        metrics = metrics_lib.Metrics()
        metrics.count("x" * 60_000, "NOT_FOUND")
        for number in range(300):
            metrics.record(f"x{number}", "Predict", "GRPC", "NOT_FOUND", 0.0, 0)
        metrics.record("mine", "Predict", "GRPC", "OK", 0.0, 0)
        metrics.record("mine", "Predict", "GRPC", "INTERNAL", 0.0, 0)
        found = samples(metrics)
        name = ":tensorflow:serving:request_count"
        self.assertEqual(found[name, "x99", "NOT_FOUND"], 1)
        self.assertEqual(found[name, "unknown", "NOT_FOUND"], 201)
        self.assertEqual(found[name, "mine", "OK"], 1)
        self.assertEqual(found[name, "mine", "INTERNAL"], 1)

    def test_odd_names_break_no_page(self):
        """Else one request could blind the monitoring."""
        metrics = metrics_lib.Metrics()
        name = 'a"b\\c\nd可'
        metrics.record(name, "Predict", "GRPC", "OK", 0.0, 0)
        found = samples(metrics)
        self.assertEqual(
            found[":tensorflow:serving:request_count", name, "OK"], 1
        )


if __name__ == "__main__":
    unittest.main()
