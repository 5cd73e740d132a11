import pathlib
import tempfile
import unittest
from unittest import mock

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from sicot_tf.serving import request_log


def make_log(number: int) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name = "m"
    request = log.predict_log.request
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([number]))
    return log


class RequestLogTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(folder, "log")
        self.statuses = []

    def start(self, **options):
        options = {"sampling_rate": 1.0} | options
        return request_log.RequestLog(
            self.directory,
            record=lambda *status: self.statuses.append(status),
            **options,
        )

    def names(self):
        return sorted(path.name for path in self.directory.iterdir())

    def read(self, name):
        """The number in each record."""
        numbers = []
        for record in tf.data.TFRecordDataset(str(self.directory / name)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            numbers.append(log.predict_log.request.inputs["x"].int_val[0])
        return numbers

    def test_records_come_back(self):
        """All requests, in order, in the form of a warm-up file."""
        log = self.start()
        for number in range(20):
            log.write(make_log(number))
        log.close()
        self.assertEqual(self.names(), ["requests-000001.tfrecord"])
        self.assertEqual(self.read("requests-000001.tfrecord"), [*range(20)])
        self.assertEqual(self.statuses, [("m", "OK")] * 20)

    def test_files_are_ended_and_the_oldest_removed(self):
        """Else a busy server fills its disk."""
        with mock.patch.multiple(request_log, _MAX_FILE_BYTES=1, _MAX_FILES=2):
            log = self.start()
            for number in range(5):
                log.write(make_log(number))
            log.close()
        self.assertEqual(
            self.names(),
            ["requests-000004.tfrecord", "requests-000005.tfrecord"],
        )
        self.assertEqual(self.read("requests-000005.tfrecord"), [4])

    def test_a_new_server_goes_on_counting(self):
        """It overwrites nothing, and keeps what a crash left unfinished."""
        self.start().close()
        (self.directory / "requests-000007.tfrecord").write_bytes(b"")
        (self.directory / ".requests-000008.tfrecord").write_bytes(b"left")
        log = self.start()
        log.write(make_log(1))
        log.close()
        self.assertEqual(
            self.names(), [f"requests-{n:06d}.tfrecord" for n in (7, 8, 9)]
        )
        self.assertEqual(
            (self.directory / "requests-000008.tfrecord").read_bytes(), b"left"
        )

    def test_sampling(self):
        """A rate of 0 keeps nothing, of 1 all; others are a share."""
        for rate, least, most in ((0.0, 0, 0), (1.0, 2000, 2000)):
            log = self.start(sampling_rate=rate)
            kept = sum(log.sample() for _ in range(2000))
            self.assertTrue(least <= kept <= most, msg=(rate, kept))
            log.close()

    def test_a_broken_disk_hurts_no_request(self):
        """`write` raises nothing; the metrics and the log tell."""
        log = self.start()
        with mock.patch.object(
            tf.io,
            "TFRecordWriter",
            side_effect=tf.errors.ResourceExhaustedError(None, None, "full"),
        ):
            log.write(make_log(1))
            log.write(make_log(2))
            log.close()
        self.assertEqual(self.statuses, [("m", "UNKNOWN")] * 2)
        self.assertEqual(self.names(), [])

    def test_a_slow_disk_hurts_no_request(self):
        """More than can wait is dropped and counted."""
        log = self.start()
        with mock.patch.object(request_log, "_MAX_PENDING_BYTES", 10):
            log.write(make_log(1))
        self.assertEqual(self.statuses, [("m", "RESOURCE_EXHAUSTED")])
        log.close()


if __name__ == "__main__":
    unittest.main()
