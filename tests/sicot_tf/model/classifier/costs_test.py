"""The formulas against figures worked out by hand."""

import dataclasses
import unittest

from sicot_tf.model.classifier import costs

# b = ceil(4 / 3) = 2, n = 2 streams * 2 = 4 rows of a worker, N = 12 of all,
# ceil(10 / 3) = 4 classes of a worker.
_TINY = costs.Job(
    num_classes=10,
    embedding_dim=3,
    num_workers=3,
    global_batch_size=4,
    backbone_parameters=6,
)
# The paper's largest set (section 4.3) on 8 workers: b = 32, n = 64, N = 512.
_PAPER = costs.Job(num_classes=998_131, embedding_dim=2048, num_workers=8)


def _changed(job, **changes):
    return dataclasses.replace(job, **changes)


def _not_zero(values):
    return {name: value for name, value in values.items() if value}


class CostsTest(unittest.TestCase):
    def test_the_papers_largest_set(self):
        """Breaks if a formula loses a factor that matters at a million.

        Each by C D = 998,131 * 2,048 = 2,044,172,288.
        """
        # Rows, gradient and momentum: * 4 bytes * 3 = 24.5 GB, 3.07 on each.
        needed = costs.parameter_bytes(998_131, 2048, 1)
        self.assertEqual(needed, 24_530_067_456)
        self.assertAlmostEqual(needed / 8 / 1e9, 3.07, delta=0.005)
        # 6 * 64 rows * C D = 0.785e12, and sharded the same.
        for layout in ("replicated", "sharded"):
            work = sum(costs.flops(_PAPER, layout).values())
            self.assertAlmostEqual(work / 1e12, 0.785, delta=0.0005)
        # 2 * 7 / 8 * 4 bytes * C (D + 1) = 14.3 GB.
        sent = costs.sent_bytes(_PAPER, "replicated")
        self.assertEqual(sent["gradient of all classes"], 14_316_192_933)
        # Twice 7 * 64 rows * 2,048 * 4 bytes = 7.34 MB.
        sent = costs.sent_bytes(_PAPER, "sharded")
        self.assertEqual(
            sent["features"] + sent["gradient of the features"], 7_340_032
        )
        # Both need 2 * 7 / 8 * 4 bytes * 23.5 M = 165 MB for the backbone.
        self.assertEqual(sent["gradient of the backbone"], 164_500_000)

    def test_sent_bytes(self):
        """Breaks if a tensor on the wire is counted wrongly or not at all.

        A worker has 4 rows of 3 features; it sends each gather's part to 2
        others.
        """
        self.assertEqual(
            costs.sent_bytes(_TINY, "sharded"),
            {
                "features": 2 * 4 * 3 * 4,
                # int64 and float32.
                "labels and weights": 2 * 4 * (8 + 4),
                # 4 float32 of all 12 rows.
                "statistics": 2 * 12 * 16,
                # 2 / 3 of [12, 3] float32.
                "gradient of the features": 96,
                # 2 * 2 / 3 of 6 float32.
                "gradient of the backbone": 32,
            },
        )
        # 2 * 2 / 3 of 9 * (3 + 1) float32.
        self.assertEqual(
            costs.sent_bytes(_changed(_TINY, num_classes=9), "replicated"),
            {"gradient of all classes": 192, "gradient of the backbone": 32},
        )
        # 2 columns more there and back, and 3 * 2 of the projection, doubling
        # the 6 of the backbone.
        wider = costs.sent_bytes(_changed(_TINY, word_dim=2), "sharded")
        self.assertEqual(wider["features"], 2 * 4 * 5 * 4)
        self.assertEqual(wider["gradient of the features"], 160)
        self.assertEqual(wider["gradient of the backbone"], 64)
        # Two bfloat16 a word: 2 words for 3 features. Gradients stay float32.
        sent = costs.sent_bytes(_changed(_TINY, bfloat16=True), "sharded")
        self.assertEqual(sent["features"], 2 * 4 * 2 * 4)
        self.assertEqual(sent["gradient of the features"], 96)

    def test_one_worker_sends_nothing(self):
        """Breaks if one worker is said to talk to itself."""
        alone = _changed(_TINY, num_workers=1)
        for layout in ("replicated", "sharded"):
            self.assertEqual(_not_zero(costs.sent_bytes(alone, layout)), {})
            self.assertEqual(costs.num_collectives(alone, layout), 0)
            memory = costs.memory_bytes(alone, layout)
            self.assertEqual(memory["packed gradient and its sum"], 0)
            self.assertEqual(memory["gathered examples and statistics"], 0)

    def test_memory_sharded(self):
        """Breaks if a worker's memory is counted wrongly; N = 12, 4 classes."""
        expected = {
            # 4 * (3 + 1) float32.
            "class rows and biases": 64,
            "optimizer slots": 64,
            # [12, 4] float32.
            "logits kept": 192,
            # 3 [12, 4] and [4, 3] float32.
            "a block at work": 624,
            # 12 rows of 3 features, 3 words of label and weight, and 4
            # statistics of each of 3 workers.
            "gathered examples and statistics": 12 * (3 + 3 + 12) * 4,
            # Twice [12, 3] float32.
            "gradient of the features": 288,
        }
        memory = costs.memory_bytes(_TINY, "sharded")
        self.assertEqual(_not_zero(memory), expected)
        memory = costs.memory_bytes(_changed(_TINY, num_slots=2), "sharded")
        self.assertEqual(
            _not_zero(memory), {**expected, "optimizer slots": 128}
        )

    def test_memory_replicated(self):
        """Breaks if a copy of all rows is forgotten; n = 4, 10 classes."""
        self.assertEqual(
            _not_zero(costs.memory_bytes(_TINY, "replicated")),
            {
                # 10 * (3 + 1) float32.
                "class rows and biases": 160,
                "optimizer slots": 160,
                "dense gradient": 160,
                "packed gradient and its sum": 320,
                # [4, 10] float32.
                "logits kept": 160,
                # 3 [4, 10] and [10, 3] float32.
                "a block at work": 600,
                # [4, 3] float32.
                "gradient of the features": 48,
            },
        )

    def test_blocks_bound_the_memory_of_logits(self):
        """Breaks if chunked memory grows with the classes.

        [512, 124,767] float32 is 255,522,816 bytes; a block 16,384 classes.
        """
        exactly = _changed(_PAPER, logit_memory=255_522_816)
        self.assertTrue(costs.keeps_logits(exactly, "sharded"))
        chunked = _changed(_PAPER, logit_memory=255_522_815)
        self.assertFalse(costs.keeps_logits(chunked, "sharded"))
        memory = costs.memory_bytes(chunked, "sharded")
        self.assertEqual(memory["logits kept"], 0)
        # 4 bytes * 16,384 * (3 * 512 rows + 2,048).
        self.assertEqual(memory["a block at work"], 234_881_024)

    def test_flops(self):
        """Breaks if recomputation or clipping is thought to be free.

        A product is 2 * 12 * 4 * 3 = 288; the logits are 192 bytes.
        """
        kept = {"forward": 288, "backward": 576}
        # P P^T: 2 * 12 * 12 * 4, X X^T: 2 * 12 * 12 * 3.
        norm = {"norm of the gradient": 1152 + 864}
        for changes, more in (
            ({}, {}),
            ({"clip": True}, norm),
            ({"logit_memory": 191}, {"logits again": 288}),
            (
                {"logit_memory": 191, "clip": True},
                {"logits again": 576, **norm},
            ),
        ):
            found = costs.flops(_changed(_TINY, **changes), "sharded")
            self.assertEqual(_not_zero(found), {**kept, **more}, msg=changes)
        # The dense gradient is there, its norm costs no product.
        changed = _changed(_TINY, logit_memory=0, clip=True)
        self.assertEqual(
            _not_zero(costs.flops(changed, "replicated")),
            {"forward": 240, "backward": 480, "logits again": 240},
        )

    def test_rows_from_words(self):
        """Breaks if 2 columns of words are thought to be free, or trained.

        Of 4 classes and 12 examples; products are 2 * 12 * 4 * (3 or 5).
        """
        wider = _changed(_TINY, word_dim=2)
        before = costs.memory_bytes(_TINY, "sharded")
        memory = costs.memory_bytes(wider, "sharded")
        changed = {
            name: value
            for name, value in memory.items()
            if value != before[name]
        }
        self.assertEqual(
            changed,
            {
                "word vectors of classes": 4 * 2 * 4,
                "gathered examples and statistics": 12 * (5 + 3 + 12) * 4,
                "gradient of the features": 2 * 12 * 5 * 4,
            },
        )
        self.assertEqual(
            _not_zero(costs.flops(_changed(wider, logit_memory=0), "sharded")),
            {"forward": 480, "backward": 288 + 480, "logits again": 480},
        )

    def test_sampled_classes(self):
        """Breaks if sampling saves no work, or saves rows.

        Half of the 4 classes: 2 * 12 * 2 * 3 = 144.
        """
        sampled = _changed(_TINY, sample_rate=0.5)
        self.assertEqual(costs.flops(sampled, "sharded")["forward"], 144)
        memory = costs.memory_bytes(sampled, "sharded")
        self.assertEqual(memory["class rows and biases"], 64)
        self.assertEqual(memory["logits kept"], 96)
        self.assertEqual(
            costs.sent_bytes(sampled, "sharded"),
            costs.sent_bytes(_TINY, "sharded"),
        )

    def test_communication(self):
        """Breaks if times ignore the latency or the bandwidth.

        704 bytes and 4 collectives, or 192 + 32 bytes and 1, at 100 bytes a
        second and half a second each.
        """
        job = _changed(_TINY, num_classes=9)
        for layout, seconds in (("sharded", 9.04), ("replicated", 2.74)):
            found = costs.communication_seconds(job, layout, 100.0, 0.5)
            self.assertAlmostEqual(found, seconds)

    def test_break_even(self):
        """Breaks if the crossover is not where both times are equal.

        Without the backbone: 672 bytes + 3 * 0.5 s * 100 = 822, against
        2 * 2 / 3 * 4 bytes * 4 = 21 (rounded down) for a class: 39.1.
        """
        self.assertEqual(costs.break_even_classes(_TINY, 100.0, 0.5), 40)
        least = costs.break_even_classes(_PAPER, 0.2e9, 0.003)
        for classes, sharded_is_faster in ((least, True), (least - 1, False)):
            job = _changed(_PAPER, num_classes=classes)
            seconds = [
                costs.communication_seconds(job, layout, 0.2e9, 0.003)
                for layout in ("sharded", "replicated")
            ]
            self.assertEqual(seconds[0] <= seconds[1], sharded_is_faster)

    def test_largest_number_of_classes(self):
        """Breaks if one class more would fit, or this many do not."""
        for layout in ("replicated", "sharded"):
            most = costs.largest_num_classes(_PAPER, layout, 8e9)
            for classes, fits in ((most, True), (most + 1, False)):
                job = _changed(_PAPER, num_classes=classes, logit_memory=0)
                needed = sum(costs.memory_bytes(job, layout).values())
                self.assertEqual(needed <= 8e9, fits)
        # One row on each worker, and what goes with it, is 12.7 MB.
        self.assertEqual(costs.largest_num_classes(_PAPER, "sharded", 12e6), 0)
        # Five copies of D + 1 float32 dominate the 8 GB: 0.195 M.
        most = costs.largest_num_classes(_PAPER, "replicated", 8e9)
        self.assertAlmostEqual(most / 1e6, 8e3 / (4 * 5 * 2049), delta=0.005)

    def test_choice(self):
        """Breaks if `--classifier auto` shards a toy or copies a giant."""
        for expected, classes, dim, slots, workers, memory in (
            # 34k * 512 * 12 bytes = 209 MB of 16 GB.
            ("replicated", 34_000, 512, 1, 8, 16e9),
            ("sharded", 34_000, 512, 1, 1, 16e9),
            # 10 % of 2 GB is 200 MB.
            ("sharded", 34_000, 512, 1, 8, 2e9),
            # Rows, gradient and two slots: 278.5 MB of 2.7 GB.
            ("sharded", 34_000, 512, 2, 8, 2.7e9),
            ("replicated", 99_999, 2, 1, 2, 16e9),
            ("sharded", 100_000, 2, 1, 2, 16e9),
            ("sharded", 998_131, 2048, 1, 8, 149e9),
        ):
            found = costs.choose_classifier(
                classes, dim, slots, workers, memory
            )
            self.assertEqual(found, expected, msg=(classes, workers, memory))


if __name__ == "__main__":
    unittest.main()
