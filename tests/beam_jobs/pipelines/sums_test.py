"""Sums of pipelines, on FnApiRunner."""

import tempfile
import unittest

import apache_beam as beam
from apache_beam.testing import test_pipeline
from apache_beam.testing import util

from beam_jobs.pipelines import runners
from beam_jobs.pipelines import sums
from sicot_tf.stores import opening


def _count(number):
    reason = "odd" if number % 2 else "even"
    return {
        "read": 1,
        "rejected": {reason: number},
        "files": {str(number): "x"},
    }


class _CountFn(beam.DoFn):
    def process(self, element):
        yield _count(element)


class SumsTest(unittest.TestCase):
    def test_add(self):
        """Breaks if counts of parts get lost when they are added."""
        total = {"read": 2, "rejected": {"odd": 1}}
        sums.add(total, {"read": 3, "rejected": {"even": 5, "odd": 1}})
        self.assertEqual(total, {"read": 5, "rejected": {"odd": 2, "even": 5}})
        with self.assertRaisesRegex(ValueError, "Did the inputs change"):
            sums.add({"sha256": "a"}, {"sha256": "b"})

    def test_what_is_added_stays_as_it_was(self):
        """Breaks if Beam's elements change under other steps' hands."""
        first, second = _count(1), _count(3)
        total = sums.add(sums.add({}, first), second)
        self.assertEqual(total["rejected"], {"odd": 4})
        self.assertEqual(first, _count(1))

    def test_combined_in_a_pipeline(self):
        """Breaks if the combiner depends on how elements are divided."""
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            total = (
                pipeline
                | beam.Create([1, 2, 3, 4])
                | beam.Map(_count)
                | beam.CombineGlobally(sums.SumFn())
            )
            util.assert_that(
                total,
                util.equal_to(
                    [
                        {
                            "read": 4,
                            "rejected": {"odd": 4, "even": 6},
                            "files": {"1": "x", "2": "x", "3": "x", "4": "x"},
                        }
                    ]
                ),
            )

    def test_sum_each(self):
        """Breaks if a process's sum is lost, or files are left behind."""
        for num_processes in (1, 2):
            with tempfile.TemporaryDirectory() as name:
                work = opening.open_folder(name)
                _, total = runners.sum_each(
                    runners.make_pipeline_options(num_processes=num_processes),
                    [1, 2, 3],
                    beam.ParDo(_CountFn()),
                    work,
                )
                self.assertEqual(list(work.list()), [])
            self.assertEqual(total["read"], 3)
            self.assertEqual(total["rejected"], {"odd": 4, "even": 2})


if __name__ == "__main__":
    unittest.main()
