"""Which records a step takes, and which of them a worker."""

import tensorflow as tf

from sicot_tf.data.schedule import Schedule


class ScheduleTest(tf.test.TestCase):
    def test_shared_records(self):
        """Breaks if the weights of a global batch depend on the workers.

        11 records by 8: a step of 8 and one of 3. Three workers take 3
        each (the ninth pads), eight take one.
        """
        for workers, examples in ((1, 8), (3, 3), (7, 2), (8, 1), (9, 1)):
            schedule = Schedule((11,), 8, workers)
            self.assertEqual(schedule.examples_per_worker, examples)
            self.assertEqual(schedule.steps_per_epoch, 2)
            totals = [schedule.total_weight(step) for step in range(4)]
            self.assertEqual(totals, [8, 3, 8, 3])

    def test_own_records(self):
        """Breaks if workers with unequal files take unequally many steps.

        18, 14 and 3 records by ceil(8 / 3) = 3: 6 steps for the first. Steps
        0 to 5 take 3 3 3 3 3 3, 3 3 3 3 2 0 and 3 0 0 0 0 0.
        """
        schedule = Schedule((18, 14, 3), 8, 3)
        self.assertEqual(schedule.examples_per_worker, 3)
        self.assertEqual(schedule.steps_per_epoch, 6)
        totals = [schedule.total_weight(step) for step in range(7)]
        self.assertEqual(totals, [9, 6, 6, 6, 5, 3, 9])
        self.assertEqual(sum(totals[:6]), 18 + 14 + 3)

    def test_total_weight_is_the_sum_over_the_workers(self):
        """Breaks if a worker alone knows another total than all together."""
        for counts, workers in (((11,), 3), ((1,), 7), ((18, 14, 3), 3)):
            schedule = Schedule(counts, 8, workers)
            for step in range(2 * schedule.steps_per_epoch):
                taken = [
                    schedule.take(tf.constant(step, tf.int64), worker)
                    for worker in range(workers)
                ]
                self.assertEqual(
                    sum(float(tf.reduce_sum(weight)) for _, weight in taken),
                    schedule.total_weight(step),
                )

    def test_files_of_another_number_of_workers(self):
        """Breaks if records are forgotten without a word."""
        with self.assertRaisesRegex(ValueError, "for 1 or 3 workers"):
            Schedule((18, 14), 8, 3)
