"""Tests of batching: who runs with whom, what is padded, what is refused."""

import threading
import time
from concurrent import futures

import numpy as np
import tensorflow as tf
from google.protobuf import text_format

from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import batch_queue
from sicot_tf.serving.inference import batching
from sicot_tf.serving.inference import servable
from tests.helpers import serving_models

_HOUR_MICROS = 3_600_000_000
# A test that hangs fails after this; nothing passes because of it.
_SECONDS = 30


def _parameters(text: str):
    return text_format.Parse(text, serving_config.BatchingParameters())


class _Model:
    """`y:0 = 2 * x:0`; keeps the feeds of each run, can hold runs back."""

    def __init__(self):
        self.runs = []
        self.deadlines = []
        self.started = threading.Semaphore(0)
        self._open = threading.Event()
        self._open.set()

    def hold(self):
        self._open.clear()

    def let_go(self):
        self._open.set()

    def __call__(self, feeds, fetches, deadline):
        self.runs.append(feeds)
        self.deadlines.append(deadline)
        self.started.release()
        if not self._open.wait(_SECONDS):
            raise AssertionError("held for ever")
        x = feeds["x:0"]
        if x.dtype != np.float32:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "Expects arg.0. to be float",
            )
        if (x < 0).any():
            raise tf.errors.InvalidArgumentError(None, None, "negative")
        values = {"y:0": 2 * x, "size:0": np.float32(x.sum())}
        return [values[fetch] for fetch in fetches]

    def sizes(self):
        return [len(feeds["x:0"]) for feeds in self.runs]


def _x(*values):
    return {"x:0": np.array(values, np.float32)}


class BatchingTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.model = _Model()
        self.addCleanup(self.model.let_go)
        self.callers = futures.ThreadPoolExecutor(40)
        self.addCleanup(self.callers.shutdown)

    def start(self, text, **kwargs):
        """Batching with one thread, unless `text` says otherwise."""
        if "num_batch_threads" not in text:
            text += " num_batch_threads { value: 1 }"
        self.scheduler = batching.BatchScheduler(_parameters(text), **kwargs)
        self.addCleanup(self.scheduler.close)
        self.addCleanup(self.model.let_go)
        self.run_model = self.scheduler.make_runner(self.model, "half")
        # Counts what reached the queues.
        self.num_scheduled = 0
        schedule = self.scheduler._schedule

        def count(*args):
            try:
                return schedule(*args)
            finally:
                self.num_scheduled += 1

        self.scheduler._schedule = count

    def send(self, feeds, fetches=("y:0",), deadline=None):
        """A caller's answer to be; queued, running or refused on return."""
        return self.submit(
            lambda: self.run_model(feeds, list(fetches), deadline)
        )

    def submit(self, call):
        before = self.num_scheduled
        answer = self.callers.submit(call)
        while self.num_scheduled == before and not answer.done():
            time.sleep(0.001)
        return answer

    def occupy(self):
        """Holds the one thread with a request; others have to wait."""
        self.model.hold()
        answer = self.callers.submit(self.run_model, _x(0), ["y:0"], None)
        self.assertTrue(self.model.started.acquire(timeout=_SECONDS))
        return answer

    def assert_error(self, answer, error_type, text):
        with self.assertRaisesRegex(error_type, text):
            answer.result(_SECONDS)

    # Who runs when.

    def test_never_waits_when_idle(self):
        """A lone client of a server with a long timeout would wait it out."""
        self.start(f"batch_timeout_micros {{ value: {_HOUR_MICROS} }}")
        for value in range(3):
            answer = self.send(_x(value))
            self.assertAllEqual(answer.result(_SECONDS)[0], [2 * value])
        self.assertEqual(self.model.sizes(), [1, 1, 1])

    def test_busy_thread_collects_a_batch(self):
        """Without it each request runs alone: nothing is gained."""
        self.start("max_batch_size { value: 4 }")
        first = self.occupy()
        answers = [self.send(_x(value)) for value in range(1, 6)]
        self.model.let_go()
        self.assertAllEqual(first.result(_SECONDS)[0], [0])
        for value, answer in enumerate(answers, 1):
            self.assertAllEqual(answer.result(_SECONDS)[0], [2 * value])
        # 4 of the 5 that waited are a full batch.
        self.assertEqual(self.model.sizes(), [1, 4, 1])

    def test_open_batch_waits_only_while_another_runs(self):
        """The timeout has to bring requests together, but never for nothing."""
        self.start(
            f"batch_timeout_micros {{ value: {_HOUR_MICROS} }} "
            "max_batch_size { value: 3 } num_batch_threads { value: 2 }"
        )
        self.occupy()
        answers = [self.send(_x(1)), self.send(_x(2))]
        # The other thread is free, but the batch may still grow.
        self.assertEqual(self.model.sizes(), [1])
        answers.append(self.send(_x(3)))
        # Full: runs beside the first.
        self.assertTrue(self.model.started.acquire(timeout=_SECONDS))
        self.assertEqual(self.model.sizes(), [1, 3])
        last = self.send(_x(4))
        self.assertEqual(self.model.sizes(), [1, 3])
        # Nothing else runs: no more waiting.
        self.model.let_go()
        self.assertAllEqual(last.result(_SECONDS)[0], [8])
        for value, answer in enumerate(answers, 1):
            self.assertAllEqual(answer.result(_SECONDS)[0], [2 * value])
        self.assertEqual(self.model.sizes(), [1, 3, 1])

    def test_timeout_of_an_open_batch(self):
        """Without the timeout a request would wait for a long neighbour."""
        self.start(
            "batch_timeout_micros { value: 1000 } "
            "num_batch_threads { value: 2 }"
        )
        self.occupy()
        self.send(_x(1))
        # It runs although the first does not end.
        self.assertTrue(self.model.started.acquire(timeout=_SECONDS))
        self.assertEqual(self.model.sizes(), [1, 1])

    def test_signatures_and_models_do_not_mix(self):
        """Another set of outputs is another run; order of names is kept."""
        self.start("")
        other = _Model()
        run_other = self.scheduler.make_runner(other, "other")
        self.occupy()
        answers = [self.send(_x(1)), self.send(_x(2), ["y:0", "y:0"])]
        third = self.submit(lambda: run_other(_x(3), ["y:0"], None))
        self.model.let_go()
        self.assertAllEqual(answers[1].result(_SECONDS), [[4], [4]])
        self.assertAllEqual(answers[0].result(_SECONDS), [[2]])
        self.assertAllEqual(third.result(_SECONDS), [[6]])
        # One set of names, however often each is asked for.
        self.assertEqual(self.model.sizes(), [1, 2])
        self.assertEqual(other.sizes(), [1])

    def test_feeds_are_sorted_as_in_tensorflow_serving(self):
        """The index in TensorFlow's texts ("arg[0]") counts them."""
        self.start("")
        feeds = {"x:0": np.float32([1]), "a:0": np.float32([2])}
        self.run_model(feeds, ["y:0"], None)
        self.assertEqual(list(self.model.runs[0]), ["a:0", "x:0"])

    def test_32_callers_get_their_own_rows(self):
        """Rows that are cut one off go to the wrong customer."""
        self.start(
            "max_batch_size { value: 16 } num_batch_threads { value: 2 } "
            "allowed_batch_sizes: [4, 16] max_enqueued_batches { value: 100 }"
        )
        model = servable.Servable(
            "half_plus_two",
            1,
            serving_models.saved_model("half_plus_two"),
            scheduler=self.scheduler,
        )
        signature = model.signatures["serving_default"]
        [feed] = [info.name for info in signature.inputs.values()]
        [fetch] = [info.name for info in signature.outputs.values()]

        def call(caller):
            random = np.random.default_rng(caller)
            for _ in range(50):
                x = random.random(random.integers(1, 5), np.float32)
                [y] = model.run({feed: x}, [fetch], None)
                np.testing.assert_allclose(y, x / 2 + 2, rtol=1e-6)
            return caller

        answers = [self.callers.submit(call, caller) for caller in range(32)]
        self.assertEqual([each.result(60) for each in answers], [*range(32)])
        model.close()

    # One request does not fail the others.

    def test_bad_values_fail_alone(self):
        """Breaks if one broken client makes errors for all others."""
        self.start("")
        self.occupy()
        good, bad, also_good = map(self.send, (_x(1), _x(-1), _x(3, 4)))
        self.model.let_go()
        self.assertAllEqual(good.result(_SECONDS)[0], [2])
        self.assertAllEqual(also_good.result(_SECONDS)[0], [6, 8])
        self.assert_error(bad, tf.errors.InvalidArgumentError, "negative")
        # The batch of 4 rows, then each of the three.
        self.assertEqual(self.model.sizes(), [1, 4, 1, 1, 2])

    def test_wrong_type_fails_alone(self):
        """NumPy would make the whole batch double, and all of it wrong."""
        self.start("")
        self.occupy()
        good, bad = self.send(_x(1)), self.send({"x:0": np.array([1.0])})
        self.model.let_go()
        self.assertAllEqual(good.result(_SECONDS)[0], [2])
        self.assert_error(
            bad,
            tf.errors.InvalidArgumentError,
            "Expects arg.0. to be float",
        )

    def test_different_shapes(self):
        """TensorFlow Serving fails both; here each runs on its own."""
        self.start("")
        self.occupy()
        answers = [self.send(_x([1, 2])), self.send(_x([1, 2, 3]))]
        with self.assertLogs(
            "sicot_tf.serving.inference.batching", "INFO"
        ) as logs:
            self.model.let_go()
            self.assertAllEqual(answers[0].result(_SECONDS)[0], [[2, 4]])
            self.assertAllEqual(answers[1].result(_SECONDS)[0], [[2, 4, 6]])
        self.assertIn("different shapes", logs.records[0].getMessage())

    # Callers that do not wait any longer.

    def test_deadline_in_the_queue(self):
        """Work for which nobody waits would delay everyone behind it."""
        self.start("")
        self.occupy()
        late, patient = self.send(_x(1), deadline=0.0), self.send(_x(2))
        # Answered while the thread is still held.
        self.assert_error(
            late,
            tf.errors.ResourceExhaustedError,
            "waiting in batching queue",
        )
        self.model.let_go()
        self.assertAllEqual(patient.result(_SECONDS)[0], [4])
        self.assertEqual(self.model.sizes(), [1, 1])

    def test_expired_task_is_dropped_by_the_thread(self):
        """Should the caller's own clock be late, the batch thread decides."""
        task = batch_queue.Task(_x(1), 1, 0.0, lambda: True)
        self.assertFalse(batching._still_wanted(task))
        self.assert_error(
            task.future,
            tf.errors.ResourceExhaustedError,
            "waiting in batching queue",
        )

    def test_deadline_while_running(self):
        """The caller is released although the run goes on for others."""
        task = batch_queue.Task(_x(1), 1, 0.0, lambda: True)
        task.future.set_running_or_notify_cancel()
        with self.assertRaises(tf.errors.DeadlineExceededError):
            batching._wait_for([task], deadline=0.0)
        # Nobody minds the late answer.
        task.future.set_result([])

    def test_batch_has_the_latest_deadline(self):
        """With the earliest one, an impatient client fails its neighbours."""
        self.start("")
        self.occupy()
        now = time.monotonic()
        answers = [self.send(_x(1), deadline=now + 20), self.send(_x(2))]
        self.model.let_go()
        futures.wait(answers, _SECONDS)
        # None: for ever.
        self.assertEqual(self.model.deadlines, [None, None])
        self.model.hold()
        self.model.started = threading.Semaphore(0)
        self.occupy()
        answers = [
            self.send(_x(1), deadline=now + seconds) for seconds in (100, 1000)
        ]
        self.model.let_go()
        futures.wait(answers, _SECONDS)
        self.assertEqual(self.model.deadlines[-1], now + 1000)

    def test_cancelled_call_does_not_run(self):
        """A client that hangs up should cost nothing."""
        self.start("")
        self.occupy()
        active = threading.Event()
        active.set()

        def call():
            with batching.calling_for(active.is_set):
                return self.run_model(_x(1), ["y:0"], None)

        gone = self.submit(call)
        other = self.send(_x(2))
        active.clear()
        self.model.let_go()
        self.assert_error(gone, tf.errors.CancelledError, "The caller has left")
        self.assertAllEqual(other.result(_SECONDS)[0], [4])
        self.assertEqual(self.model.sizes(), [1, 1])

    # Bounds.

    def test_full_queue(self):
        """An unbounded queue answers everyone, but far too late."""
        self.start(
            "max_batch_size { value: 2 } max_enqueued_batches { value: 2 }"
        )
        self.occupy()
        answers = [self.send(_x(value)) for value in range(4)]
        self.assert_error(
            self.send(_x(5)), tf.errors.UnavailableError, "is full"
        )
        self.model.let_go()
        for value, answer in enumerate(answers):
            self.assertAllEqual(answer.result(_SECONDS)[0], [2 * value])
        # There is room again.
        self.assertAllEqual(self.run_model(_x(6), ["y:0"], None)[0], [12])

    def test_too_large_request(self):
        """Its size is the client's mistake, whatever the load."""
        self.start("max_batch_size { value: 16 }")
        self.assert_error(
            self.send(_x(*range(40))),
            tf.errors.InvalidArgumentError,
            "Task size 40 is larger than maximum input batch size 16",
        )

    def test_large_batch_splitting(self):
        """Pieces of one request: the first fills the open batch."""
        self.start(
            "max_batch_size { value: 8 } max_execution_batch_size { value: 3 } "
            "enable_large_batch_splitting { value: true }"
        )
        self.occupy()
        small, large = self.send(_x(1)), self.send(_x(*range(8)))
        self.model.let_go()
        self.assertAllEqual(small.result(_SECONDS)[0], [2])
        self.assertAllEqual(large.result(_SECONDS)[0], 2 * np.arange(8))
        # 1 + 2 rows, 3 rows, 3 rows.
        self.assertEqual(self.model.sizes(), [1, 3, 3, 3])

    def test_no_room_for_the_pieces(self):
        """Half a request in the queue would be work for nothing."""
        self.start(
            "max_batch_size { value: 8 } max_execution_batch_size { value: 2 } "
            "enable_large_batch_splitting { value: true } "
            "max_enqueued_batches { value: 2 }"
        )
        self.occupy()
        self.send(_x(1))
        self.assert_error(
            self.send(_x(*range(4))),
            tf.errors.UnavailableError,
            "queue .* is full",
        )

    # Padding.

    def test_pads_with_row_0_of_the_last_task(self):
        """Zeros might be no valid input; TensorFlow Serving repeats a row."""
        told = []
        self.start(
            "max_batch_size { value: 8 } allowed_batch_sizes: [4, 8] "
            'thread_pool_name { value: "pool" }',
            on_batch=lambda *args: told.append(args[:3]),
        )
        self.occupy()
        answers = [self.send(_x(1, 2)), self.send(_x(3, 4, 5))]
        self.model.let_go()
        self.assertAllEqual(answers[0].result(_SECONDS)[0], [2, 4])
        self.assertAllEqual(answers[1].result(_SECONDS)[0], [6, 8, 10])
        self.assertAllEqual(self.model.runs[0]["x:0"], [0, 0, 0, 0])
        self.assertAllEqual(self.model.runs[1]["x:0"], [1, 2, 3, 4, 5, 3, 3, 3])
        # Name, rows and rows with padding, for the metrics.
        self.assertEqual(told, [("pool", 1, 4), ("pool", 5, 8)])

    def test_pads_variable_lengths(self):
        """By each tensor's own first element, as TensorFlow Serving does."""
        self.start("pad_variable_length_inputs: true")
        self.occupy()
        answers = [self.send(_x([1, 2])), self.send(_x([5, 6, 7], [8, 9, 9]))]
        self.model.let_go()
        self.assertAllEqual(answers[0].result(_SECONDS)[0], [[2, 4, 2]])
        self.assertAllEqual(
            self.model.runs[1]["x:0"], [[1, 2, 1], [5, 6, 7], [8, 9, 9]]
        )

    def test_no_rows(self):
        """A request of no rows has no row 0 to repeat."""
        self.start("max_batch_size { value: 4 } allowed_batch_sizes: [4]")
        self.occupy()
        answers = [self.send(_x(1)), self.send(_x())]
        self.model.let_go()
        self.assertAllEqual(answers[0].result(_SECONDS)[0], [2])
        self.assertAllEqual(answers[1].result(_SECONDS)[0], [])
        self.assertAllEqual(self.run_model(_x(), ["y:0"], None)[0], [])

    # Tensors that are no batch.

    def test_inputs_without_rows(self):
        """A number of rows has to be known, to be cut off again."""
        self.start("")
        ones = np.ones
        for feeds in (
            {},
            {"x:0": np.float32(1)},
            {"x:0": ones(2, np.float32), "z:0": ones(3, np.float32)},
        ):
            self.assert_error(
                self.send(feeds),
                tf.errors.InvalidArgumentError,
                "equal first dimensions",
            )
        self.assertEmpty(self.model.runs)

    def test_outputs_that_are_no_rows(self):
        """Such a signature can't be batched; its answer belongs to nobody."""
        self.start("")
        run = self.scheduler.make_runner(
            lambda feeds, fetches, seconds: [np.float32([1, 2, 3])], "three"
        )
        for call in (self.run_model, run):
            with self.assertRaises(tf.errors.FailedPreconditionError):
                call(_x(1), ["size:0"], None)

    # Parameters.

    def test_defaults_are_those_of_tensorflow_serving(self):
        """A file that sets one value relies on the others."""
        options = batch_queue.BatchingOptions.from_proto(_parameters(""))
        self.assertEqual(options, batch_queue.BatchingOptions())
        self.assertEqual(
            (
                options.max_batch_size,
                options.batch_timeout_micros,
                options.max_enqueued_batches,
            ),
            (1000, 0, 10),
        )

    def test_wrong_parameters(self):
        """A server must not start with sizes that can't be kept."""
        for text, name in (
            (
                "max_batch_size { value: 16 } allowed_batch_sizes: [4, 8]",
                "allowed_batch_sizes",
            ),
            (
                "max_batch_size { value: 2 } max_execution_batch_size "
                "{ value: 3 } enable_large_batch_splitting { value: true }",
                "max_execution_batch_size",
            ),
            ("num_batch_threads { value: 0 }", "num_batch_threads"),
            ("max_batch_size { value: 0 }", "max_batch_size"),
            ("batch_timeout_micros { value: -1 }", "batch_timeout_micros"),
            ("max_enqueued_batches { value: 0 }", "max_enqueued_batches"),
        ):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, name):
                batching.BatchScheduler(_parameters(text))

    def test_parameters_of_one_version(self):
        """Its batching_params.pbtxt wins over those of the server."""
        self.start("")
        self.run_model = self.scheduler.make_runner(
            self.model, "half", _parameters("max_batch_size { value: 1 }")
        )
        self.assert_error(
            self.send(_x(1, 2)),
            tf.errors.InvalidArgumentError,
            "Task size 2 is larger than maximum input batch size 1",
        )

    def test_close_answers_what_is_queued(self):
        """A server that drains loses no request."""
        self.start("")
        self.occupy()
        queued = self.send(_x(1))
        closing = self.callers.submit(self.scheduler.close)
        self.model.let_go()
        closing.result(_SECONDS)
        self.assertAllEqual(queued.result(_SECONDS)[0], [2])
        with self.assertRaises(tf.errors.UnavailableError):
            self.run_model(_x(1), ["y:0"], None)


if __name__ == "__main__":
    tf.test.main()
