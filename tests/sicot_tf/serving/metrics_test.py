import unittest

from prometheus_client import parser

from sicot_tf.serving import metrics


def samples(counts):
    """Every sample of the page by name and labels, as Prometheus reads it.

    The library's parser adds `_total` to the names of counters.
    """
    families = parser.text_string_to_metric_families(counts.text())
    return {
        (sample.name.removesuffix("_total"), *sorted(sample.labels.values())): (
            sample.value
        )
        for metric in families
        for sample in metric.samples
    }


class MetricsTest(unittest.TestCase):
    def test_names(self):
        """Breaks if dashboards for TensorFlow Serving find nothing."""
        counts = metrics.Metrics()
        counts.record("m", "Predict", "GRPC", "OK", 20e-6, 0)
        counts.record("m", "Predict", "GRPC", "OK", 3600.0, 0)
        counts.record("m", "Predict", "GRPC", "NOT_FOUND", 1.0, 0)
        counts.record("m", "classify", "REST", "OK", 1.0, 3)
        counts.record_runtime("m", "Predict", 18e-6)
        counts.record_batch("pool", 3, 4, [0.001, 0.002])
        counts.record_warmup("/m/1", "OK", 0.5, 7)
        counts.record_request_log("m", "UNKNOWN")
        counts.record_rest_response(404)
        text = counts.text()
        serving = ":tensorflow:serving:"
        batching = f"{serving}batching_session:"
        for line in (
            f"# TYPE {serving}request_count counter",
            f'{serving}request_count{{model_name="m",status="OK"}} 3.0',
            f'{serving}request_count{{model_name="m",status="NOT_FOUND"}} 1.0',
            f"# TYPE {serving}request_latency histogram",
            f'{serving}request_example_count_total{{model="m"}} 3.0',
            f'{serving}request_example_counts_sum{{model="m"}} 3.0',
            f'{serving}runtime_latency_count{{API="Predict",model_name="m",'
            'runtime="TF1"} 1.0',
            f'{batching}queuing_latency_count{{thread_pool_name="pool"}} 2.0',
            f'{batching}queuing_latency_sum{{thread_pool_name="pool"}} 3000.0',
            f"{batching}input_batch_size_sum 3.0",
            f"{batching}processed_batch_size_sum 4.0",
            f'{batching}padding_size_sum{{execution_batch_size="4"}} 1.0',
            f"{batching}wrapped_run_count 1.0",
            f'{serving}model_warmup_latency_sum{{model_path="/m/1",'
            'status="OK"} 500000.0',
            f'{serving}model_warmup_records_read{{model_path="/m/1"}} 7.0',
            f'{serving}request_log_count{{model_name="m",'
            'status_code="UNKNOWN"} 1.0',
            ':sicot:serving:rest_response_count{code="404"} 1.0',
        ):
            self.assertIn(line + "\n", text)
        for limit, count in (
            *(("10.0", 0), ("18.0", 0), ("32.4", 1)),
            # 10 * 1.8**32 microseconds, 20 minutes.
            *(("1.47476e+09", 1), ("+Inf", 2)),
        ):
            self.assertIn(
                f'{serving}request_latency_bucket{{API="Predict",'
                f'entrypoint="GRPC",le="{limit}",model_name="m"}} {count}.0\n',
                text,
            )
        self.assertEqual(counts.value(f"{serving}request_count"), 3)
        self.assertEqual(
            counts.value(f"{serving}request_example_count_total"), 3
        )
        self.assertEqual(counts.value("absent"), 0)

    def test_invented_names_fill_no_memory(self):
        """Breaks if invented names fill the memory, or hide a served one."""
        counts = metrics.Metrics()
        counts.count("x" * 60_000, "NOT_FOUND")
        for number in range(300):
            counts.record(f"x{number}", "Predict", "GRPC", "NOT_FOUND", 0.0, 0)
        counts.record("mine", "Predict", "GRPC", "OK", 0.0, 0)
        counts.record("mine", "Predict", "GRPC", "INTERNAL", 0.0, 0)
        found = samples(counts)
        name = ":tensorflow:serving:request_count"
        self.assertEqual(found[name, "NOT_FOUND", "x99"], 1)
        self.assertEqual(found[name, "NOT_FOUND", "unknown"], 201)
        self.assertEqual(found[name, "OK", "mine"], 1)
        self.assertEqual(found[name, "INTERNAL", "mine"], 1)

    def test_odd_names_break_no_page(self):
        """Breaks if one request can blind the monitoring."""
        counts = metrics.Metrics()
        name = 'a"b\\c\nd可'
        counts.record(name, "Predict", "GRPC", "OK", 0.0, 0)
        found = samples(counts)
        self.assertEqual(
            found[":tensorflow:serving:request_count", "OK", name], 1
        )


if __name__ == "__main__":
    unittest.main()
