"""Tests of checkpoints that several workers write and read in slices."""

import json
import multiprocessing
import os
import pathlib
import random
import shutil
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.checkpoints import checkpoints
from sicot_tf.checkpoints import row_slices
from sicot_tf.checkpoints import step_folders
from tests.helpers import worker_processes

_NUM_CLASSES = 1003
_CLASSES = [f"sku-{label:04d}" for label in range(_NUM_CLASSES)]
_WORDS = ["", "red", "shoe", "cup", "tea"]
_ROW_NAMES = {"classes": _CLASSES, "words": _WORDS}
_DIMS = {"classifier/kernel": [4], "classifier/bias": []}
# Every entry of a tensor has its own value, and every tensor others.
_TENSORS = {
    f"{name}{slot}": np.arange(
        start, start + _NUM_CLASSES * int(np.prod(dims)), dtype=np.float32
    ).reshape(_NUM_CLASSES, *dims)
    for slot, start in (("", 0), ("/momentum", 500_000))
    for name, dims in _DIMS.items()
}


def _make_slices(
    num_workers=1, worker=0, *, block_size=128, num_rows=_NUM_CLASSES, fill=None
):
    """Blocks of this worker's classes, as the classifier orders them.

    They hold `_TENSORS`, or `fill` everywhere.
    """
    quotient, rest = divmod(num_rows, num_workers)
    first = worker * quotient + min(worker, rest)
    end = first + quotient + (worker < rest)
    slices = []
    for row in range(first, end, block_size):
        last = min(row + block_size, end)
        for name, tensor in _TENSORS.items():
            value = (
                tensor[row:last]
                if fill is None
                else np.full((last - row, *tensor.shape[1:]), fill, np.float32)
            )
            slices.append(
                row_slices.RowSlice(
                    name, tf.Variable(value), row, num_rows, "classes"
                )
            )
    return slices


def _make_words(fill=None, num_rows=5):
    """Word vectors; every worker has all of them."""
    value = np.arange(10, dtype=np.float32).reshape(5, 2)
    if fill is not None:
        value = np.full([num_rows, 2], fill, np.float32)
    return row_slices.RowSlice(
        "word_vectors", tf.Variable(value), 0, len(value), "words"
    )


def _make_layer(fill=None, name="dense"):
    """Variables that are the same on every worker."""
    layer = keras.layers.Dense(3, name=name)
    layer.build([None, 2])
    layer.kernel.assign(
        np.arange(6).reshape(2, 3) if fill is None else np.full([2, 3], fill)
    )
    return layer


def _rows(slices):
    """Name, first row and value of each slice."""
    return [
        (each.name, each.first_row, each.variable.numpy()) for each in slices
    ]


def _make(folder, fill=None, **arguments):
    """A run of one worker: its checkpoints, slices and layer."""
    slices = [*_make_slices(fill=fill), _make_words(fill)]
    layer = _make_layer(fill)
    saved = checkpoints.Checkpoints(
        folder,
        layer.variables,
        slices=slices,
        **{"row_names": _ROW_NAMES, **arguments},
    )
    return saved, slices, layer


# === What worker processes run ===


def _save_as_worker(collectives, strategy, folder):
    """Blocks of 77 rows: the last of each worker is smaller."""
    slices = _make_slices(
        collectives.num_workers, collectives.worker_index, block_size=77
    )
    checkpoints.Checkpoints(
        folder,
        _make_layer().variables,
        slices=[*slices, _make_words()],
        row_names=_ROW_NAMES,
        collectives=collectives,
    ).save(epoch=2, step=12)


def _restore_as_worker(collectives, strategy, folder, block_size):
    slices = _make_slices(
        collectives.num_workers,
        collectives.worker_index,
        block_size=block_size,
        fill=-1.0,
    )
    slices.append(_make_words(-1.0))
    layer = _make_layer(-1.0)
    step = checkpoints.Checkpoints(
        folder,
        layer.variables,
        slices=slices,
        row_names=_ROW_NAMES,
        collectives=collectives,
    ).restore_latest()
    return step, layer.kernel.numpy(), _rows(slices)


def _restore_and_fail_as_worker(
    collectives, strategy, folder, block_size, damaged, new_classes
):
    """Restores; restores grown; restores what is damaged; can't save."""
    restored = _restore_as_worker(collectives, strategy, folder, block_size)
    slices = _make_slices(
        collectives.num_workers,
        collectives.worker_index,
        block_size=block_size,
        num_rows=len(new_classes),
        fill=-1.0,
    )
    counts = checkpoints.restore_grown(
        folder,
        [],
        slices,
        old_row_names={"classes": _CLASSES},
        new_row_names={"classes": new_classes},
        collectives=collectives,
    )
    messages = []
    for action in (
        lambda: checkpoints.Checkpoints(
            damaged,
            _make_layer().variables,
            slices=[
                *_make_slices(
                    collectives.num_workers, collectives.worker_index
                ),
                _make_words(),
            ],
            collectives=collectives,
        ).restore_latest(),
        # One of the workers looks elsewhere.
        lambda: checkpoints.Checkpoints(
            f"{damaged}-{collectives.worker_index == 1}",
            _make_layer().variables,
            collectives=collectives,
        ).save(epoch=0, step=1),
    ):
        try:
            action()
        except (ValueError, OSError) as error:
            messages.append(f"{type(error).__name__}: {error}")
    return restored, counts, _rows(slices), messages


def _save_until_killed(folder):
    """Saves without a pause; all values of a checkpoint are its step."""
    saved, slices, layer = _make(folder, fill=0.0)
    step = saved.restore_latest()
    while True:
        step += 1
        for each in slices:
            each.variable.assign(tf.fill(each.variable.shape, float(step)))
        layer.kernel.assign(tf.fill([2, 3], float(step)))
        saved.save(epoch=0, step=step)


# === Tests ===


class CheckpointsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name) / "saved"

    def _assert_rows(self, rows, tensors=_TENSORS):
        """Slices of `tensors`, bit for bit."""
        for name, first_row, value in rows:
            if name in tensors:
                expected = tensors[name][first_row : first_row + len(value)]
                self.assertAllEqual(expected, value)

    # === Save and restore ===

    def test_any_number_of_workers(self):
        """Breaks if a run can't go on with another number of workers."""
        worker_processes.run_workers(
            4, f"{__name__}:_save_as_worker", str(self.folder)
        )
        with self.subTest("whole tensors"):
            reader = tf.train.load_checkpoint(
                str(self.folder / "step-00000012" / "variables")
            )
            for name, tensor in _TENSORS.items():
                self.assertAllEqual(reader.get_tensor(name), tensor)
            self.assertAllEqual(
                reader.get_tensor("dense/kernel"), np.arange(6).reshape(2, 3)
            )
        with self.subTest("manifest"):
            manifest = json.loads(
                (self.folder / "step-00000012" / "manifest.json").read_text()
            )
            self.assertEqual(manifest["step"], 12)
            self.assertEqual(manifest["epoch"], 2)
            self.assertEqual(manifest["num_workers"], 4)
            self.assertEqual(manifest["row_axes"]["classes"]["count"], 1003)
            kernel = manifest["tensors"]["classifier/kernel"]
            self.assertEqual(kernel["shape"], [1003, 4])
            # 1003 = 251 + 251 + 251 + 250 rows.
            self.assertEqual(
                kernel["row_borders"][3], [753, 830, 907, 984, 1003]
            )
            # The chief alone writes what all have.
            words = manifest["tensors"]["word_vectors"]
            self.assertEqual(words["row_borders"], [[0, 5], [], [], []])

        with self.subTest("1 worker"):
            saved, slices, layer = _make(self.folder, fill=-1.0)
            self.assertEqual(saved.restore_latest(), 12)
            self._assert_rows(_rows(slices))
            self.assertAllEqual(layer.kernel, np.arange(6).reshape(2, 3))
            self.assertAllEqual(
                slices[-1].variable, np.arange(10).reshape(5, 2)
            )

        damaged = self.folder.with_name("damaged")
        shutil.copytree(self.folder, damaged)
        data_path = sorted((damaged / "step-00000012").glob("*.data-*"))[1]
        _flip_byte(data_path)
        # Two in the middle, two at the end; one row is gone.
        new_classes = sorted(
            {*_CLASSES, "sku-0500a", "sku-0501a", "t", "u"} - {"sku-0007"}
        )
        results = worker_processes.run_workers(
            3,
            f"{__name__}:_restore_and_fail_as_worker",
            str(self.folder),
            50,
            str(damaged),
            new_classes,
        )
        with self.subTest("3 workers"):
            for (step, kernel, rows), *_ in results:
                self.assertEqual(step, 12)
                self.assertAllEqual(kernel, np.arange(6).reshape(2, 3))
                self._assert_rows(rows)
        with self.subTest("3 workers, more classes"):
            grown = _grow(new_classes)
            for _, counts, rows, _ in results:
                self.assertEqual(counts, {"classes": (1002, 4)})
                self._assert_rows(rows, grown)
        with self.subTest("errors of one worker are raised on all"):
            messages = [each for *_, each in results]
            self.assertEqual(messages[0], messages[1])
            self.assertEqual(messages[0], messages[2])
            self.assertIn(f"damaged: {data_path.name}", messages[0][0])
            self.assertStartsWith(messages[0][1], "OSError: Worker 1: ")
            self.assertIn("all workers share", messages[0][1])

        with self.subTest("7 workers"):
            for step, _, rows in worker_processes.run_workers(
                7,
                f"{__name__}:_restore_as_worker",
                str(self.folder),
                1000,
            ):
                self.assertEqual(step, 12)
                self._assert_rows(rows)

    def test_keeps_the_last(self):
        """Breaks if a long run fills the disk, or saves a step twice."""
        with self.assertRaisesRegex(ValueError, "keep 1 or more, received 0"):
            _make(self.folder, keep=0)
        saved, slices, _ = _make(self.folder, keep=2)
        self.assertIsNone(step_folders.latest_step(self.folder))
        self.assertEqual(saved.restore_latest(), 0)
        for step in (8, 9, 10):
            saved.save(epoch=0, step=step)
        names = ["step-00000009", "step-00000010"]
        self.assertEqual(sorted(os.listdir(self.folder)), names)
        self.assertEqual(step_folders.latest_step(self.folder), 10)
        slices[0].variable.assign(-slices[0].variable)
        saved.save(epoch=0, step=10)
        saved.restore_latest()
        self._assert_rows(_rows(slices))

    def test_killed_at_any_moment(self):
        """Breaks if a kill leaves a checkpoint that can't be restored.

        The processes are forked from one that has imported TensorFlow and
        done nothing with it.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tensorflow", "keras"])
        moments = random.Random(0)
        _, slices, _ = _make(self.folder)
        for _ in range(12):
            before = step_folders.latest_step(self.folder) or 0
            process = context.Process(
                target=_save_until_killed, args=(self.folder,)
            )
            process.start()
            while (step_folders.latest_step(self.folder) or 0) < before + 2:
                self.assertTrue(process.is_alive())
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.05))
            process.kill()
            process.join()
            step = checkpoints.restore_variables(self.folder, [], slices)
            self.assertGreater(step, before)
            for each in slices:
                self.assertAllEqual(
                    each.variable, np.full(each.variable.shape, float(step))
                )
            for listed in self.folder.glob("step-*"):
                reader = tf.train.load_checkpoint(str(listed / "variables"))
                self.assertAllEqual(
                    reader.get_tensor("classifier/bias"),
                    np.full([1003], float(listed.name.removeprefix("step-"))),
                )

    def test_what_a_killed_save_left_is_removed(self):
        """Breaks if leftovers fill the disk."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        for name in (".unfinished-step-00000002-ab12cd34", ".removed-step-0"):
            (self.folder / name / "worker-0").mkdir(parents=True)
        self.assertEqual(step_folders.latest_step(self.folder), 1)
        saved.save(epoch=0, step=3)
        self.assertEqual(
            sorted(os.listdir(self.folder)), ["step-00000001", "step-00000003"]
        )

    # === Damage ===

    def _assert_not_restored(self, problem, **arguments):
        """`restore_latest` fails with this message and assigns nothing."""
        saved, slices, layer = _make(self.folder, fill=-1.0, **arguments)
        with self.assertRaisesRegex(ValueError, problem) as caught:
            saved.restore_latest()
        for each in slices:
            self.assertAllEqual(
                each.variable, np.full(each.variable.shape, -1.0)
            )
        self.assertAllEqual(layer.kernel, np.full([2, 3], -1.0))
        return str(caught.exception)

    def test_damaged(self):
        """Breaks if a run goes on with weights that are not its own."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        saved.save(epoch=1, step=2)
        whole = self.folder.with_name("whole")
        shutil.copytree(self.folder, whole)
        last = self.folder / "step-00000002"
        data = "variables.data-00000-of-00001"

        def change_step(path):
            path.write_text(path.read_text().replace('"step": 2', '"step": 3'))

        for name, damage, problem in (
            (data, _flip_byte, "has another SHA-256"),
            ("variables.index", _flip_byte, "has another SHA-256"),
            (data, lambda path: os.truncate(path, 99), "has 99 bytes"),
            (data, os.remove, "is missing"),
            ("manifest.json", os.remove, "is missing"),
            ("manifest.json", lambda path: os.truncate(path, 99), "not valid"),
            ("manifest.json", change_step, "was changed"),
        ):
            with self.subTest(file=name, problem=problem):
                damage(last / name)
                message = self._assert_not_restored(problem)
                self.assertIn(f"The checkpoint {last} is damaged", message)
                self.assertIn(name, message)
                self.assertEndsWith(
                    message,
                    "Remove this folder to go on from "
                    f"{self.folder / 'step-00000001'}.",
                )
                shutil.rmtree(self.folder)
                shutil.copytree(whole, self.folder)
        _flip_byte(last / data)
        with self.subTest("without hashes TensorFlow finds it"):
            with self.assertRaisesRegex(ValueError, "is damaged"):
                checkpoints.restore_variables(
                    self.folder, [], _make_slices(), verify_hashes=False
                )
        shutil.rmtree(last)
        self.assertEqual(saved.restore_latest(), 1)
        _flip_byte(self.folder / "step-00000001" / data)
        message = self._assert_not_restored("has another SHA-256")
        self.assertEndsWith(message, "there is no earlier checkpoint.")

    def test_another_format(self):
        """Breaks if a later version's checkpoint is read as ours."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        path = self.folder / "step-00000001" / "manifest.json"
        path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
        self._assert_not_restored("has format 2, expected 1")

    def test_checkpoints_of_the_first_version(self):
        """Breaks if a run of 0.1.0 silently starts over at step 0."""
        tf.train.CheckpointManager(
            tf.train.Checkpoint(position=tf.Variable([0, 7])),
            str(self.folder),
            max_to_keep=1,
        ).save(checkpoint_number=7)
        problem = "checkpoints of sicot_tf 0.1.0.*in another --run_dir"
        self._assert_not_restored(problem)
        with self.assertRaisesRegex(ValueError, problem):
            checkpoints.restore_variables(self.folder, [])

    # === Other rows, other tensors ===

    def test_another_list_of_classes(self):
        """Breaks if rows are given to other classes than they belong to."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        swapped = [_CLASSES[1], _CLASSES[0], *_CLASSES[2:]]
        message = self._assert_not_restored(
            "another list of classes",
            row_names={"classes": swapped, "words": _WORDS},
        )
        self.assertIn("1003 old ones, 1003 new ones", message)
        self.assertIn("--init_from RUN", message)
        larger = checkpoints.Checkpoints(
            self.folder,
            [],
            slices=_make_slices(num_rows=1004, fill=0.0),
            row_names={"classes": [*_CLASSES, "t"]},
        )
        with self.assertRaisesRegex(ValueError, "1003 old ones, 1004 new"):
            larger.restore_latest()

    def test_another_model(self):
        """Breaks if a checkpoint is restored into another model."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        slices = [*_make_slices(), _make_words()]
        for problem, variables, other in (
            (
                r"missing tensors \(2\): d/bias, d/kernel;",
                _make_layer(name="d"),
                slices,
            ),
            (r"unexpected tensors \(2\): dense/bias", None, slices),
            (
                r"word_vectors \(float32 \[5, 2\], expected float32 \[6, 2\]",
                _make_layer(),
                [*_make_slices(), _make_words(0.0, num_rows=6)],
            ),
        ):
            with self.subTest(problem):
                loaded = checkpoints.Checkpoints(
                    self.folder,
                    variables.variables if variables else [],
                    slices=other,
                )
                with self.assertRaisesRegex(ValueError, problem):
                    loaded.restore_latest()

    def test_slices_that_do_not_fit(self):
        """Breaks if rows are lost because a worker left some out."""
        slices = _make_slices()
        two_layers = _make_layer().variables + _make_layer().variables
        half = tf.Variable(tf.zeros([1003, 4], tf.float16))
        for problem, variables, other in (
            ("from 128 on, up to 1003", [], slices[:4] + slices[8:]),
            ("Two variables have the path", two_layers, []),
            ("one for each of the classes", [], _make_slices(num_rows=9)),
            (
                "received float16",
                [],
                [row_slices.RowSlice("k", half, 0, 1003, "classes")],
            ),
        ):
            with self.subTest(problem):
                with self.assertRaisesRegex(ValueError, problem):
                    checkpoints.Checkpoints(
                        self.folder,
                        variables,
                        slices=other,
                        row_names=_ROW_NAMES,
                    )
        saved = checkpoints.Checkpoints(self.folder, [], slices=slices[:4])
        with self.assertRaisesRegex(ValueError, "make up all 1003"):
            saved.save(epoch=0, step=1)
        self.assertIsNone(step_folders.latest_step(self.folder))

    def test_more_and_other_classes(self):
        """Breaks if a product loses its row when others are added."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        before = [*_CLASSES[1:], *(f"new-{number}" for number in range(9))]
        permuted = list(before)
        random.Random(0).shuffle(permuted)
        for name, new_classes in (
            ("at both ends", sorted(before)),
            ("in any order", permuted),
        ):
            with self.subTest(name):
                slices = _make_slices(
                    num_rows=1011, fill=-1.0, block_size=100
                ) + [_make_words(-1.0, num_rows=3)]
                layer = _make_layer(-1.0)
                counts = checkpoints.restore_grown(
                    self.folder,
                    layer.variables,
                    slices,
                    old_row_names=_ROW_NAMES,
                    new_row_names={
                        "classes": new_classes,
                        "words": ["", "tea", "pot"],
                    },
                )
                self.assertEqual(
                    counts, {"classes": (1002, 9), "words": (2, 1)}
                )
                self._assert_rows(_rows(slices), _grow(new_classes))
                # Rows 0 and 4 of [[0, 1], [2, 3], ... [8, 9]].
                self.assertAllEqual(
                    slices[-1].variable, [[0, 1], [8, 9], [-1, -1]]
                )
                self.assertAllEqual(layer.kernel, np.arange(6).reshape(2, 3))
        # A run of its own, from step 0.
        other = self.folder.with_name("other")
        grown = checkpoints.Checkpoints(
            other,
            layer.variables,
            slices=slices,
            row_names={"classes": permuted, "words": ["", "tea", "pot"]},
        )
        self.assertEqual(grown.restore_latest(), 0)

    def test_grown_from_what_does_not_fit(self):
        """Breaks if rows are matched by a list that is not theirs."""
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=1)
        for problem, arguments in (
            ("are others", {"old_row_names": {"classes": _CLASSES[::-1]}}),
            ("are there twice", {"new_row_names": {"classes": ["a"] * 1003}}),
            ("missing.*: new/kernel", {"variables": [_kernel("new", [2, 3])]}),
            (
                r"dense/kernel \(float32 \[2, 3\], expected float32 \[2, 4\]",
                {"variables": [_kernel("dense", [2, 4])]},
            ),
            ("found none", {"directory": self.folder / "none"}),
        ):
            with self.subTest(problem):
                with self.assertRaisesRegex(ValueError, problem):
                    checkpoints.restore_grown(
                        **{
                            "directory": self.folder,
                            "variables": [],
                            "slices": _make_slices(),
                            "old_row_names": {"classes": _CLASSES},
                            "new_row_names": {"classes": _CLASSES},
                            **arguments,
                        }
                    )

    def test_a_part_of_the_variables(self):
        """Breaks if evaluation and export need the whole run."""
        with self.assertRaisesRegex(ValueError, "found none. Train first"):
            checkpoints.restore_variables(self.folder, [])
        saved, *_ = _make(self.folder)
        saved.save(epoch=0, step=5)
        layer = _make_layer(-1.0)
        # In one block, as it is served.
        slices = _make_slices(fill=-1.0, block_size=2000)[:1]
        step = checkpoints.restore_variables(
            self.folder, [layer.kernel], slices
        )
        self.assertEqual(step, 5)
        self.assertEqual(slices[0].variable.shape, [1003, 4])
        self._assert_rows(_rows(slices))
        self.assertAllEqual(layer.kernel, np.arange(6).reshape(2, 3))
        with self.assertRaisesRegex(ValueError, "missing.*: new/kernel"):
            checkpoints.restore_variables(self.folder, [_kernel("new", [2, 3])])


def _grow(new_classes):
    """The expected tensors: old rows by name, -1 in new ones."""
    grown = {}
    for name, tensor in _TENSORS.items():
        grown[name] = np.full((len(new_classes), *tensor.shape[1:]), -1.0)
        for row, sku_id in enumerate(new_classes):
            if sku_id in _CLASSES:
                grown[name][row] = tensor[_CLASSES.index(sku_id)]
    return grown


def _kernel(name, shape):
    layer = keras.layers.Dense(shape[1], name=name)
    layer.build([None, shape[0]])
    return layer.kernel


def _flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


if __name__ == "__main__":
    tf.test.main()
