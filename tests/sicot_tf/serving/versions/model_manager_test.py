"""Tests of model_manager: which versions are served, and how they change."""

import contextlib
import gc
import io
import pathlib
import shutil
import tempfile
import threading
import time
import unittest
import weakref

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving.inference import servable as servable_lib
from sicot_tf.serving.versions import model_manager
from tests.helpers import serving_models

State = model_manager.State
_POLL_SECONDS = 0.03
# Far above what a loaded machine needs; nothing waits for it to pass.
_PATIENCE_SECONDS = 60.0


class FakeServable:
    """Knows what it is and whether it is closed."""

    def __init__(self, name, version, directory):
        self.name = name
        self.version = version
        self.directory = directory
        self.is_closed = False

    def close(self):
        self.is_closed = True


class FakeLoads:
    """A `load` that fails or waits as the test wants it to."""

    def __init__(self):
        self.calls = []
        self.errors = {}
        # A load of these versions waits for the event.
        self.gates = {}
        self.servables = []

    def __call__(self, name, version, directory):
        self.calls.append((name, version))
        if version in self.gates:
            self.gates[version].wait(_PATIENCE_SECONDS)
        if version in self.errors:
            raise self.errors[version]
        self.servables.append(FakeServable(name, version, directory))
        return self.servables[-1]


def spec(name="m", version=None, label=None):
    model_spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        model_spec.version.value = version
    if label is not None:
        model_spec.version_label = label
    return model_spec


class ModelManagerTestCase(unittest.TestCase):
    """A folder `m` for versions and a manager with fake loads."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.base_path = self.folder / "m"
        self.base_path.mkdir()
        self.load = FakeLoads()
        # What the manager writes to the log.
        self.log = io.StringIO()
        redirect = contextlib.redirect_stderr(self.log)
        redirect.__enter__()
        self.addCleanup(redirect.__exit__, None, None, None)

    def make_manager(self, load=None, **options):
        options = {
            "file_system_poll_wait_seconds": _POLL_SECONDS,
            "max_num_load_retries": 0,
            "load_retry_interval_seconds": 0.01,
            **options,
        }
        manager = model_manager.ModelManager(load or self.load, **options)
        self.addCleanup(manager.close)
        return manager

    def add_version(self, name, base_path=None):
        """A whole version that appears at once: one graph, no variables."""
        base_path = base_path or self.base_path
        directory = base_path / f".tmp-{name}"
        directory.mkdir()
        saved_model = saved_model_pb2.SavedModel()
        saved_model.meta_graphs.add()
        (directory / "saved_model.pb").write_bytes(
            saved_model.SerializeToString()
        )
        directory.rename(base_path / str(name))

    def config(self, *names, labels=None, **policy):
        """Models, each in a folder of its own name."""
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.SetInParent()
        for name in names:
            config.model_config_list.config.add(
                name=name,
                base_path=str(self.folder / name),
                model_platform="tensorflow",
                model_version_policy=policy,
                version_labels=labels or {},
            )
        return config

    def wait_for(self, condition):
        """Returns once it is true."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.log.getvalue())
            time.sleep(0.002)

    def wait_for_states(self, manager, expected, name="m"):
        """Waits for `{version: state}` of all versions there ever were."""

        def states():
            try:
                statuses = manager.statuses(spec(name))
            except tf.errors.NotFoundError:
                statuses = []
            return {status.version: status.state for status in statuses}

        deadline = time.monotonic() + _PATIENCE_SECONDS
        while states() != expected and time.monotonic() < deadline:
            time.sleep(0.002)
        self.assertEqual(states(), expected, self.log.getvalue())

    def let_it_look(self, manager):
        """Returns after two more looks at the folders."""
        finder = manager._finder
        num_looks = 0
        original = finder.look

        def look(*arguments):
            nonlocal num_looks
            try:
                return original(*arguments)
            finally:
                num_looks += 1

        finder.look = look
        self.wait_for(lambda: num_looks >= 3)
        del finder.look

    def assert_raises(self, error_class, message, function, *arguments):
        """The class is the code; the text is compared whole."""
        with self.assertRaises(error_class) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.message, message)

    def assert_use_raises(self, manager, model_spec, error_class, message):
        with self.assertRaises(error_class) as caught:
            with manager.use(model_spec):
                self.fail("No error")
        self.assertEqual(caught.exception.message, message)

    def used_version(self, manager, **choice):
        with manager.use(spec(**choice)) as servable:
            self.assertFalse(servable.is_closed)
            return servable.version


class VersionsTest(ModelManagerTestCase):
    """Wrong here: requests meet the wrong version, or none."""

    def test_start_and_swap(self):
        """New before old goes; GetModelStatus tells of both."""
        self.add_version(1)
        manager = self.make_manager()
        first = self.load.gates[1] = threading.Event()
        manager.set_config(self.config("m"))
        self.assertFalse(manager.is_available())
        first.set()
        self.assertTrue(manager.wait_until_available())
        self.assertTrue(manager.is_available())
        self.assertEqual(manager.model_names(), ["m"])
        self.assertEqual(self.used_version(manager), 1)

        gate = self.load.gates[2] = threading.Event()
        self.add_version(2)
        self.wait_for_states(manager, {2: State.LOADING, 1: State.AVAILABLE})
        self.assertEqual(self.used_version(manager), 1)
        gate.set()
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.assertEqual(self.used_version(manager), 2)
        self.assertTrue(self.load.servables[0].is_closed)
        # Descending, as TensorFlow Serving lists them.
        self.assertEqual(
            manager.statuses(spec()),
            [(2, State.AVAILABLE, 0, ""), (1, State.END, 0, "")],
        )
        self.assertEqual(
            manager.statuses(spec(version=1)), [(1, State.END, 0, "")]
        )
        self.assertIn(
            "Successfully loaded servable version {name: m version: 2}",
            self.log.getvalue(),
        )

    def test_request_texts(self):
        """Each text of a ModelSpec that leads nowhere."""
        self.add_version(1)
        manager = self.make_manager()
        self.assert_use_raises(
            manager,
            spec(label="x"),
            tf.errors.UnavailableError,
            "Model labels does not init yet.x",
        )
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        for model_spec, error_class, message in (
            (
                model_pb2.ModelSpec(),
                tf.errors.InvalidArgumentError,
                "ModelSpec has no name specified.",
            ),
            (
                spec("foo"),
                tf.errors.NotFoundError,
                "Servable not found for request: Latest(foo)",
            ),
            (
                spec("m", version=99),
                tf.errors.NotFoundError,
                "Servable not found for request: Specific(m, 99)",
            ),
            (
                spec("m", label="x"),
                tf.errors.InvalidArgumentError,
                "Unrecognized servable version label: x",
            ),
            (
                spec("foo", label="x"),
                tf.errors.InvalidArgumentError,
                "Unrecognized servable version label: x",
            ),
        ):
            self.assert_use_raises(manager, model_spec, error_class, message)
        self.assert_raises(
            tf.errors.NotFoundError,
            "Could not find version 9 of model m",
            manager.statuses,
            spec(version=9),
        )
        self.assert_raises(
            tf.errors.NotFoundError,
            "Could not find any versions of model foo",
            manager.statuses,
            spec("foo"),
        )
        # GetModelStatus ignores a label.
        self.assertEqual(len(manager.statuses(spec(label="x"))), 1)

    def test_used_version_is_closed_after_its_last_request(self):
        """Wrong: a request finds its session closed."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        with manager.use(spec()) as first:
            with manager.use(spec()):
                self.add_version(2)
                self.wait_for_states(
                    manager, {2: State.AVAILABLE, 1: State.UNLOADING}
                )
            # One user has left, one is still there.
            self.assertFalse(first.is_closed)
            self.assert_use_raises(
                manager,
                spec(version=1),
                tf.errors.NotFoundError,
                "Servable not found for request: Specific(m, 1)",
            )
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.assertTrue(first.is_closed)

    def test_error_in_a_request_leaves_no_user_behind(self):
        """Else an old version stays for ever."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        with self.assertRaises(ZeroDivisionError):
            with manager.use(spec()):
                raise ZeroDivisionError
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_policies(self):
        """latest, all, specific, and from one to the other by a reload."""
        for version in (1, 2, 3):
            self.add_version(version)
        manager = self.make_manager()
        manager.set_config(self.config("m", latest={"num_versions": 2}))
        self.wait_for_states(manager, {3: State.AVAILABLE, 2: State.AVAILABLE})
        # The highest first.
        self.assertEqual(self.load.calls, [("m", 3), ("m", 2)])
        manager.set_config(self.config("m", all={}))
        self.wait_for_states(manager, dict.fromkeys([1, 2, 3], State.AVAILABLE))
        manager.set_config(self.config("m", specific={"versions": [1]}))
        self.wait_for_states(
            manager, {3: State.END, 2: State.END, 1: State.AVAILABLE}
        )
        self.assertEqual(self.used_version(manager), 1)
        # Version 3 once more: loaded anew.
        manager.set_config(self.config("m"))
        self.wait_for_states(
            manager, {3: State.AVAILABLE, 2: State.END, 1: State.END}
        )

    def test_failed_load_keeps_the_old_version(self):
        """A bad export must not take a model off the air."""
        self.add_version(1)
        self.load.errors[2] = tf.errors.NotFoundError(None, None, "no graph")
        manager = self.make_manager(max_num_load_retries=2)
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        self.add_version(2)
        self.wait_for_states(manager, {2: State.END, 1: State.AVAILABLE})
        self.assertEqual(self.used_version(manager), 1)
        # The first attempt and two more; then it is left alone.
        self.let_it_look(manager)
        self.assertEqual(self.load.calls[1:], [("m", 2)] * 3)
        self.assertEqual(
            manager.statuses(spec(version=2)),
            [(2, State.END, tf.errors.NOT_FOUND, "no graph")],
        )
        self.assertIn(
            "Loading servable: {name: m version: 2} failed: NOT_FOUND: no "
            "graph",
            self.log.getvalue(),
        )
        # Taken away and put back it has another chance.
        shutil.rmtree(self.base_path / "2")
        self.let_it_look(manager)
        del self.load.errors[2]
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_retry_that_succeeds(self):
        self.add_version(1)
        self.load.errors[1] = OSError("disk is slow")
        manager = self.make_manager(max_num_load_retries=1000)
        manager.set_config(self.config("m"))
        self.wait_for(lambda: len(self.load.calls) >= 3)
        self.wait_for_states(manager, {1: State.LOADING})
        del self.load.errors[1]
        self.assertTrue(manager.wait_until_available())

    def test_newer_version_ends_the_retries_of_an_older_one(self):
        """Else a broken version is tried for minutes after its successor."""
        self.add_version(1)
        self.load.errors[1] = ValueError("broken")
        manager = self.make_manager(
            max_num_load_retries=5, load_retry_interval_seconds=3600
        )
        manager.set_config(self.config("m"))
        self.wait_for(lambda: self.load.calls)
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_waiting_retry_does_not_hold_up_other_models(self):
        """One broken model must not stop the updates of all."""
        (self.folder / "n").mkdir()
        self.add_version(1)
        self.add_version(2, self.folder / "n")
        self.load.errors[1] = ValueError("broken")
        manager = self.make_manager(
            max_num_load_retries=5, load_retry_interval_seconds=3600
        )
        manager.set_config(self.config("m", "n"))
        self.wait_for_states(manager, {2: State.AVAILABLE}, "n")
        self.assertFalse(manager.is_available())

    def test_all_versions_fail_at_the_start(self):
        """The text of a server that does not start."""
        self.add_version(1)
        self.load.errors[1] = tf.errors.InvalidArgumentError(
            None, None, "bad warm-up"
        )
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        self.assert_raises(
            tf.errors.UnknownError,
            "1 servable(s) did not become available: {{{name: m version: 1} "
            "due to error: INVALID_ARGUMENT: bad warm-up}, }",
            manager.wait_until_available,
        )

    def test_stop_ends_the_waiting(self):
        """SIGTERM while there is no version yet."""
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        stop = threading.Event()
        threading.Timer(0.05, stop.set).start()
        self.assertFalse(manager.wait_until_available(stop))
        self.assertIn(
            f"No versions of servable m found under base path "
            f"{self.base_path}. Did you forget",
            self.log.getvalue(),
        )

    def test_third_version_while_the_second_loads(self):
        """At most one version more than wanted stays in memory."""
        self.add_version(1)
        manager = self.make_manager(num_load_threads=2)
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        second = self.load.gates[2] = threading.Event()
        third = self.load.gates[3] = threading.Event()
        self.add_version(2)
        self.wait_for(lambda: ("m", 2) in self.load.calls)
        self.add_version(3)
        self.wait_for(lambda: ("m", 3) in self.load.calls)
        second.set()
        # Not wanted any more, but better than 1 until 3 is there.
        self.wait_for_states(
            manager,
            {3: State.LOADING, 2: State.AVAILABLE, 1: State.END},
        )
        third.set()
        self.wait_for_states(
            manager, {3: State.AVAILABLE, 2: State.END, 1: State.END}
        )

    def test_half_written_version_is_not_picked_up(self):
        """A copy in progress, as `cp -r` or an upload make it."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        (self.base_path / "2").mkdir()
        self.let_it_look(manager)
        whole = (self.base_path / "1" / "saved_model.pb").read_bytes()
        path = self.base_path / "2" / "saved_model.pb"
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            self.let_it_look(manager)
        self.assertEqual(self.load.calls, [("m", 1)])
        self.assertIn("is not loaded, it is not whole", self.log.getvalue())
        path.write_bytes(whole)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_version_that_never_becomes_whole(self):
        """An upload that broke off is told, and taken up when it goes on."""
        self.add_version(1)
        manager = self.make_manager(incomplete_version_seconds=0.2)
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        (self.base_path / "2").mkdir()
        self.wait_for_states(manager, {2: State.END, 1: State.AVAILABLE})
        [status, _] = manager.statuses(spec())
        self.assertEqual(status.error_code, tf.errors.FAILED_PRECONDITION)
        reason = (
            f"{self.base_path / '2'} is not whole: saved_model.pb is missing; "
            "nothing in it has changed for 0.2 seconds"
        )
        self.assertEqual(status.message, reason)
        self.let_it_look(manager)
        line = (
            "Loading servable: {name: m version: 2} is not waited for any "
            f"more: {reason}\n"
        )
        self.assertEqual(self.log.getvalue().count(line), 1)
        self.assertEqual(self.used_version(manager), 1)
        whole = self.base_path / "1" / "saved_model.pb"
        shutil.copyfile(whole, self.base_path / "2" / "saved_model.pb")
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_start_with_nothing_that_can_be_served(self):
        """A server that waits for ever looks like one that works."""
        other = self.folder / "other"
        (other / "3").mkdir(parents=True)
        (self.folder / "file").touch()
        saved_model = self.folder / "saved_model"
        saved_model.mkdir()
        (saved_model / "saved_model.pb").touch()
        for name, options, reason in (
            (
                "other",
                {"incomplete_version_seconds": 0.1},
                f"FAILED_PRECONDITION: {other / '3'} is not whole: "
                "saved_model.pb is missing; nothing in it has changed for 0.1 "
                "seconds",
            ),
            (
                "saved_model",
                {},
                f"NOT_FOUND: The base path {saved_model} is a SavedModel "
                "itself: give the folder above it, in which the name of each "
                "SavedModel is its version, a number",
            ),
            (
                "file",
                {},
                "INVALID_ARGUMENT: Could not find base path "
                f"{self.folder / 'file'} for servable file with error "
                "UNKNOWN: Not a directory",
            ),
            (
                "m",
                {"fail_if_no_model_versions_found": True},
                "NOT_FOUND: Unable to find a numerical version path for "
                f"servable m at: {self.base_path}",
            ),
            (
                "absent",
                {"fail_if_no_model_versions_found": True},
                "INVALID_ARGUMENT: Could not find base path "
                f"{self.folder / 'absent'} for servable absent with error "
                "NOT_FOUND: No such file or directory",
            ),
        ):
            with self.subTest(name=name):
                manager = self.make_manager(**options)
                manager.set_config(self.config(name))
                self.assert_raises(
                    tf.errors.UnknownError,
                    "1 servable(s) did not become available: "
                    f"{{{{{{name: {name}}} due to error: {reason}}}, }}",
                    manager.wait_until_available,
                )

    def test_emptied_base_path_keeps_what_is_loaded(self):
        """A cleaning job must not take a model off the air."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        shutil.rmtree(self.base_path / "1")
        self.let_it_look(manager)
        self.assertEqual(self.used_version(manager), 1)
        self.assertIn(
            "Refusing to unload all versions for Servable: m",
            self.log.getvalue(),
        )
        shutil.rmtree(self.base_path)
        self.let_it_look(manager)
        self.assertEqual(self.used_version(manager), 1)
        self.assertIn(
            f"Could not find base path {self.base_path} for servable m with "
            "error NOT_FOUND: ",
            self.log.getvalue(),
        )

    def test_emptied_base_path_unloads_if_asked(self):
        """TensorFlow Serving's own way."""
        self.add_version(1)
        manager = self.make_manager(unload_when_empty=True)
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        shutil.rmtree(self.base_path / "1")
        self.wait_for_states(manager, {1: State.END})
        self.assert_use_raises(
            manager,
            spec(),
            tf.errors.NotFoundError,
            "Servable not found for request: Latest(m)",
        )
        # Not one that never was: its text differs.
        self.assertEqual(len(manager.statuses(spec())), 1)

    def test_missing_base_path_of_one_model(self):
        """The other models go on being looked at."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("gone", "m"))
        self.wait_for_states(manager, {1: State.AVAILABLE})
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_single_look(self):
        """--file_system_poll_wait_seconds=0, and a reload that looks again."""
        self.add_version(1)
        manager = self.make_manager(file_system_poll_wait_seconds=0)
        manager.set_config(self.config("m"))
        self.assertTrue(manager.wait_until_available())
        self.add_version(2)
        manager.set_config(self.config("m"))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_wrong_arguments(self):
        for options in (
            {"file_system_poll_wait_seconds": -1},
            {"num_load_threads": 0},
            {"incomplete_version_seconds": -1},
        ):
            with self.assertRaisesRegex(ValueError, "Expected .* received"):
                model_manager.ModelManager(self.load, **options)

    def test_close(self):
        """A running load ends, and what it gives is closed as well."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        gate = self.load.gates[2] = threading.Event()
        self.add_version(2)
        self.wait_for(lambda: ("m", 2) in self.load.calls)
        threading.Timer(0.05, gate.set).start()
        manager.close()
        self.assertEqual(len(self.load.servables), 2)
        self.assertTrue(all(item.is_closed for item in self.load.servables))
        self.assert_raises(
            tf.errors.CancelledError,
            "The model manager is closed.",
            manager.set_config,
            self.config("m"),
        )


class ConfigTest(ModelManagerTestCase):
    """Wrong here: a reload takes the wrong models off the air."""

    def start(self, **options):
        """Model `m` with versions 1 and 2, both served."""
        self.add_version(1)
        self.add_version(2)
        manager = self.make_manager(**options)
        manager.set_config(self.config("m", all={}))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.AVAILABLE})
        return manager

    def test_add_and_remove_models(self):
        """A reload returns when the new model is there."""
        manager = self.start()
        (self.folder / "n").mkdir()
        self.add_version(7, self.folder / "n")
        manager.set_config(self.config("m", "n"))
        self.assertEqual(self.used_version(manager, name="n"), 7)
        self.assertEqual(manager.model_names(), ["m", "n"])
        manager.set_config(self.config("n"))
        self.wait_for_states(manager, {2: State.END, 1: State.END})
        self.assert_use_raises(
            manager,
            spec("m"),
            tf.errors.NotFoundError,
            "Servable not found for request: Latest(m)",
        )
        # An empty list is a list: all models go.
        manager.set_config(self.config())
        self.wait_for_states(manager, {7: State.END}, "n")

    def test_removed_and_added_again_while_in_use(self):
        """Old and new of one number must not be mixed up."""
        manager = self.start()
        with manager.use(spec(version=1)) as old:
            manager.set_config(self.config())
            self.wait_for_states(manager, {2: State.END, 1: State.UNLOADING})
            with self.assertRaises(tf.errors.DeadlineExceededError):
                manager.set_config(self.config("m"), timeout_seconds=0.05)
            self.assertFalse(old.is_closed)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.assertTrue(old.is_closed)

    def test_new_model_that_fails(self):
        manager = self.start()
        (self.folder / "n").mkdir()
        self.add_version(3, self.folder / "n")
        self.load.errors[3] = ValueError("broken")
        self.assert_raises(
            tf.errors.UnknownError,
            "1 model(s) did not become available: {{{name: n version: 3} due "
            "to error: INVALID_ARGUMENT: broken}, }",
            manager.set_config,
            self.config("m", "n"),
        )
        self.assertEqual(self.used_version(manager), 2)
        # Not for the load balancer to take the good model away.
        self.assertTrue(manager.is_available())

    def test_new_model_that_never_comes(self):
        """TensorFlow Serving waits for ever and blocks all later reloads."""
        manager = self.start()
        self.assert_raises(
            tf.errors.DeadlineExceededError,
            "Timed out waiting for notification",
            manager.set_config,
            self.config("m", "nowhere"),
            0.02,
        )
        manager.set_config(self.config("m"))

    def test_refused_configs_change_nothing(self):
        manager = self.start()
        twice = self.config("m", "m")
        relative = self.config("m")
        relative.model_config_list.config[0].base_path = "m"
        platform = self.config("m")
        platform.model_config_list.config[0].model_platform = "caffe"
        new_platform = self.config("n")
        new_platform.model_config_list.config[0].model_platform = "caffe"
        custom = model_server_config_pb2.ModelServerConfig()
        custom.custom_model_config.SetInParent()
        transition = (
            "Cannot transition to requested config. It is only legal to "
            "transition from one ModelConfigList to another."
        )
        for config, error_class, message in (
            (
                twice,
                tf.errors.InvalidArgumentError,
                "Illegal to list model m multiple times in config list",
            ),
            (
                relative,
                tf.errors.InvalidArgumentError,
                "Expected model m to have an absolute path or URI; got "
                "base_path()=m",
            ),
            (
                platform,
                tf.errors.InvalidArgumentError,
                "Illegal to change a model's platform. For model m platform "
                "was tensorflow and new platform requested is caffe",
            ),
            (
                new_platform,
                tf.errors.InvalidArgumentError,
                "Model n requests unsupported platform caffe",
            ),
            (custom, tf.errors.FailedPreconditionError, transition),
            (
                model_server_config_pb2.ModelServerConfig(),
                tf.errors.FailedPreconditionError,
                transition,
            ),
        ):
            self.assert_raises(error_class, message, manager.set_config, config)
        self.let_it_look(manager)
        self.assertEqual(manager.model_names(), ["m"])
        self.assertEqual(self.used_version(manager), 2)

    def test_empty_config_at_the_start(self):
        """Taken, and a real one later is as the first."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(model_server_config_pb2.ModelServerConfig())
        manager.set_config(self.config("m"))
        self.assertTrue(manager.wait_until_available())

    def test_later_change_of_the_callers_config(self):
        """A config is taken as it was."""
        self.add_version(1)
        manager = self.make_manager()
        config = self.config("m")
        manager.set_config(config)
        config.model_config_list.config[0].base_path = "/nowhere"
        self.assertTrue(manager.wait_until_available())

    def test_labels(self):
        """Given, moved, and gone with a config that has none."""
        manager = self.start()
        manager.set_config(
            self.config("m", all={}, labels={"stable": 1, "canary": 2})
        )
        self.assertEqual(self.used_version(manager, label="stable"), 1)
        self.assertEqual(self.used_version(manager, label="canary"), 2)
        manager.set_config(self.config("m", all={}, labels={"stable": 2}))
        self.assertEqual(self.used_version(manager, label="stable"), 2)
        manager.set_config(self.config("m", all={}))
        self.assert_use_raises(
            manager,
            spec(label="stable"),
            tf.errors.InvalidArgumentError,
            "Unrecognized servable version label: stable",
        )

    def test_label_of_a_version_that_is_not_available(self):
        """Refused, and the old labels stay."""
        manager = self.start()
        manager.set_config(self.config("m", all={}, labels={"a": 1}))
        self.assert_raises(
            tf.errors.FailedPreconditionError,
            "Request to assign label to version 7 of model m, which is not "
            "currently available for inference",
            manager.set_config,
            self.config("m", all={}, labels={"a": 7}),
        )
        self.assertEqual(self.used_version(manager, label="a"), 1)

    def test_labels_are_applied_before_models_load(self):
        """TensorFlow Serving's rule: no labels in a first config."""
        self.add_version(1)
        manager = self.make_manager()
        self.assert_raises(
            tf.errors.FailedPreconditionError,
            "Request to assign label to version 1 of model m, which is not "
            "currently available for inference",
            manager.set_config,
            self.config("m", labels={"a": 1}),
        )

    def test_labels_for_unavailable_models(self):
        """--allow_version_labels_for_unavailable_models, and its limit."""
        self.add_version(1)
        manager = self.make_manager(
            allow_version_labels_for_unavailable_models=True
        )
        manager.set_config(self.config("m", labels={"a": 1}))
        manager.wait_until_available()
        self.assertEqual(self.used_version(manager, label="a"), 1)
        manager.set_config(self.config("m", labels={"a": 1, "b": 9}))
        self.assert_use_raises(
            manager,
            spec(label="b"),
            tf.errors.NotFoundError,
            "Servable not found for request: Specific(m, 9)",
        )
        # A label in use moves only to a version that is there.
        self.assert_raises(
            tf.errors.FailedPreconditionError,
            "Request to assign label to version 8 of model m, which is not "
            "currently available for inference",
            manager.set_config,
            self.config("m", labels={"a": 8}),
        )

    def test_config_file(self):
        """Followed as it changes; a bad one is told of and changes nothing."""
        manager = self.start()
        path = self.folder / "models.config"
        manager.poll_config_file(path)
        path.write_text("model_config_list { confg")
        manager.poll_config_file(path)
        path.write_text(str(self.config("m", "m")))
        manager.poll_config_file(path)
        self.assertEqual(manager.model_names(), ["m"])
        for line in (
            f"Failed to read ModelServerConfig file: {path}; No such file or "
            "directory",
            f"Failed to read ModelServerConfig file: Invalid protobuf file: "
            f"'{path}'",
            "PollFilesystemAndReloadConfig failed to ReloadConfig: Illegal to "
            "list model m multiple times in config list",
        ):
            self.assertIn(line, self.log.getvalue())
        manager.watch_config_file(path, 0.02)
        path.write_text(str(self.config("m", latest={})))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        with self.assertRaisesRegex(ValueError, "Expected .* received 0"):
            manager.watch_config_file(path, 0)

    def test_label_and_version_in_one_file(self):
        """The label is refused until the version is there, then taken."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        path = self.folder / "models.config"
        path.write_text(str(self.config("m", labels={"new": 2})))
        manager.watch_config_file(path, 0.02)
        self.wait_for(lambda: "Request to assign label" in self.log.getvalue())
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.wait_for(lambda: (manager._labels or {}).get("m"))
        self.assertEqual(self.used_version(manager, label="new"), 2)


class SavedModelSwapTest(ModelManagerTestCase):
    """Wrong here: a swap breaks requests, or its memory stays."""

    def test_swaps_under_load(self):
        """Four threads, six versions: no error, no step back, all closed."""
        saved_model = serving_models.saved_model("half_plus_two")
        sessions = []

        def load(name, version, directory):
            servable = servable_lib.Servable(name, version, directory)
            sessions.append(weakref.ref(servable))
            return servable

        def add(version):
            shutil.copytree(saved_model, self.base_path / str(version))

        def ask():
            signature_name = "serving_default"
            last = 0
            while not done.is_set():
                with manager.use(spec()) as servable:
                    signature = servable.signatures[signature_name]
                    (feed,) = [info.name for info in signature.inputs.values()]
                    (fetch,) = [
                        info.name for info in signature.outputs.values()
                    ]
                    (answer,) = servable.run(
                        {feed: np.array([2.0, 4.0], np.float32)}, [fetch], None
                    )
                    version = servable.version
                np.testing.assert_array_equal(answer, [3.0, 4.0])
                self.assertGreaterEqual(version, last)
                last = version
                counts.append(version)

        def run():
            try:
                ask()
            except BaseException as error:
                errors.append(error)
                raise

        manager = self.make_manager(load)
        add(1)
        manager.set_config(self.config("m"))
        manager.wait_until_available()
        done = threading.Event()
        counts = []
        errors = []
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in range(2, 7):
            add(version)
            self.wait_for(lambda: version in counts[-50:] or errors)
        done.set()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(set(counts), {1, 2, 3, 4, 5, 6})
        self.wait_for_states(
            manager,
            {**dict.fromkeys(range(1, 6), State.END), 6: State.AVAILABLE},
        )
        gc.collect()
        self.assertEqual(
            [reference() is None for reference in sessions],
            [True] * 5 + [False],
        )


if __name__ == "__main__":
    unittest.main()
