"""Tests of model_manager: which versions are served, and how they change."""

import gc
import io
import logging
import pathlib
import shutil
import tempfile
import threading
import time
import unittest
import weakref
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving.inference import servable
from sicot_tf.serving.versions import loaded_versions
from sicot_tf.serving.versions import model_manager
from sicot_tf.serving.versions import version_folders
from tests.helpers import serving_models

State = loaded_versions.State
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
        logger = logging.getLogger("sicot_tf.serving.versions")
        handler = logging.StreamHandler(self.log)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        level = logger.level
        logger.setLevel("INFO")
        self.addCleanup(logger.setLevel, level)

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

    def start(self, version, **options):
        """Model `m` with one version, served."""
        self.add_version(version)
        manager = self.make_manager(**options)
        manager.set_config(self.config("m"))
        self.assertTrue(manager.wait_until_available())
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
        finder = manager._watcher._finder
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

    def assert_use_raises(self, manager, model_spec, error_class, text):
        with self.assertRaisesRegex(error_class, text):
            with manager.use(model_spec):
                self.fail("No error")

    def used_version(self, manager, **choice):
        with manager.use(spec(**choice)) as servable:
            self.assertFalse(servable.is_closed)
            return servable.version


class VersionsTest(ModelManagerTestCase):
    """Breaks if requests meet the wrong version, or none."""

    def test_start_and_swap(self):
        """New before old goes; GetModelStatus tells of both."""
        manager = self.make_manager()
        first = self.load.gates[1] = threading.Event()
        self.add_version(1)
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
        numbers = [status.version for status in manager.statuses(spec())]
        self.assertEqual(numbers, [2, 1])
        [status] = manager.statuses(spec(version=1))
        self.assertEqual(status.version, 1)

    def test_requests_that_lead_nowhere(self):
        """Each kind of mistake has its code."""
        manager = self.start(1)
        invalid = tf.errors.InvalidArgumentError
        not_found = tf.errors.NotFoundError
        for model_spec, error_class, text in (
            (model_pb2.ModelSpec(), invalid, "no name"),
            (spec("foo"), not_found, "foo"),
            (spec("m", version=99), not_found, "m, 99"),
            (spec("m", label="x"), invalid, "label: x"),
            (spec("foo", label="x"), invalid, "label: x"),
        ):
            self.assert_use_raises(manager, model_spec, error_class, text)
        for model_spec in (spec(version=9), spec("foo")):
            with self.assertRaisesRegex(not_found, model_spec.name):
                manager.statuses(model_spec)
        # GetModelStatus ignores a label.
        self.assertEqual(len(manager.statuses(spec(label="x"))), 1)

    def test_used_version_is_closed_after_its_last_request(self):
        """Breaks if a request finds its session closed, or it stays open."""
        manager = self.start(1)
        with self.assertRaises(ZeroDivisionError):
            with manager.use(spec()):
                raise ZeroDivisionError
        with manager.use(spec()) as first:
            with manager.use(spec()):
                self.add_version(2)
                self.wait_for_states(
                    manager, {2: State.AVAILABLE, 1: State.UNLOADING}
                )
            # One user has left, one is still there.
            self.assertFalse(first.is_closed)
            self.assert_use_raises(
                manager, spec(version=1), tf.errors.NotFoundError, "m, 1"
            )
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.assertTrue(first.is_closed)

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
        self.load.errors[2] = tf.errors.NotFoundError(None, None, "no graph")
        manager = self.start(1, max_num_load_retries=2)
        self.add_version(2)
        self.wait_for_states(manager, {2: State.END, 1: State.AVAILABLE})
        self.assertEqual(self.used_version(manager), 1)
        # The first attempt and two more; then it is left alone.
        self.let_it_look(manager)
        self.assertEqual(self.load.calls[1:], [("m", 2)] * 3)
        [status] = manager.statuses(spec(version=2))
        self.assertEqual(status.status.error_code, tf.errors.NOT_FOUND)
        self.assertEqual(status.status.error_message, "no graph")
        self.assertIn("failed: NOT_FOUND: no graph", self.log.getvalue())
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

    def test_waiting_retry_holds_up_nothing(self):
        """A broken version must not stop other models, nor its successor."""
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
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_stop_ends_the_waiting(self):
        """SIGTERM while there is no version yet."""
        manager = self.make_manager()
        manager.set_config(self.config("m"))
        stop = threading.Event()
        threading.Timer(0.05, stop.set).start()
        self.assertFalse(manager.wait_until_available(stop))
        self.assertIn("No versions of servable m", self.log.getvalue())

    def test_third_version_while_the_second_loads(self):
        """At most one version more than wanted stays in memory."""
        manager = self.start(1, num_load_threads=2)
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
        manager = self.start(1)
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
        manager = self.start(1, incomplete_version_seconds=0.2)
        (self.base_path / "2").mkdir()
        self.wait_for_states(manager, {2: State.END, 1: State.AVAILABLE})
        status = manager.statuses(spec())[0].status
        self.assertEqual(status.error_code, tf.errors.FAILED_PRECONDITION)
        self.assertRegex(
            status.error_message, "2 is not whole: .* for 0.2 seconds"
        )
        self.let_it_look(manager)
        # Told once.
        line = "version: 2} is not waited for any more"
        self.assertEqual(self.log.getvalue().count(line), 1)
        self.assertEqual(self.used_version(manager), 1)
        whole = self.base_path / "1" / "saved_model.pb"
        shutil.copyfile(whole, self.base_path / "2" / "saved_model.pb")
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_start_with_nothing_that_can_be_served(self):
        """A server that waits for ever looks like one that works."""
        (self.folder / "half" / "3").mkdir(parents=True)
        (self.folder / "file").touch()
        (self.folder / "saved_model").mkdir()
        (self.folder / "saved_model" / "saved_model.pb").touch()
        (self.folder / "broken").mkdir()
        self.add_version(1, self.folder / "broken")
        self.load.errors[1] = tf.errors.InvalidArgumentError(
            None, None, "bad warm-up"
        )
        for name, options, reason in (
            (
                "half",
                {"incomplete_version_seconds": 0.1},
                "FAILED_PRECONDITION: .*half/3 is not whole",
            ),
            ("saved_model", {}, "NOT_FOUND: .* is a SavedModel itself: give"),
            ("file", {}, "INVALID_ARGUMENT: .*/file .*Not a directory"),
            (
                "m",
                {"fail_if_no_model_versions_found": True},
                "NOT_FOUND: No versions of servable m",
            ),
            (
                "absent",
                {"fail_if_no_model_versions_found": True},
                "INVALID_ARGUMENT: .*/absent .*No such file or directory",
            ),
            ("broken", {}, "version: 1}.* INVALID_ARGUMENT: bad warm-up"),
        ):
            with self.subTest(name=name):
                manager = self.make_manager(**options)
                manager.set_config(self.config(name))
                with self.assertRaisesRegex(
                    tf.errors.UnknownError,
                    rf"1 servable\(s\) did .* {{name: {name}.*{reason}",
                ):
                    manager.wait_until_available()

    def test_emptied_base_path_keeps_what_is_loaded(self):
        """A cleaning job must not take a model off the air."""
        manager = self.start(1)
        shutil.rmtree(self.base_path / "1")
        self.let_it_look(manager)
        self.assertEqual(self.used_version(manager), 1)
        self.assertIn("Refusing to unload", self.log.getvalue())
        shutil.rmtree(self.base_path)
        self.let_it_look(manager)
        self.assertEqual(self.used_version(manager), 1)

    def test_emptied_base_path_unloads_if_asked(self):
        """TensorFlow Serving's own way."""
        manager = self.start(1, unload_when_empty=True)
        shutil.rmtree(self.base_path / "1")
        self.wait_for_states(manager, {1: State.END})
        self.assert_use_raises(manager, spec(), tf.errors.NotFoundError, "m")
        # Not one that never was.
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
        settle = mock.patch.object(
            version_folders, "SETTLE_SECONDS", _POLL_SECONDS
        )
        self.enterContext(settle)
        manager = self.start(1, file_system_poll_wait_seconds=0)
        self.add_version(2)
        manager.set_config(self.config("m"))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_wrong_arguments(self):
        for options in (
            {"file_system_poll_wait_seconds": -1},
            {"incomplete_version_seconds": -1},
        ):
            with self.assertRaisesRegex(ValueError, "Expected .* received"):
                model_manager.ModelManager(self.load, **options)

    def test_close(self):
        """A running load ends, and what it gives is closed as well."""
        manager = self.start(1)
        gate = self.load.gates[2] = threading.Event()
        self.add_version(2)
        self.wait_for(lambda: ("m", 2) in self.load.calls)
        threading.Timer(0.05, gate.set).start()
        manager.close()
        self.assertEqual(len(self.load.servables), 2)
        self.assertTrue(all(item.is_closed for item in self.load.servables))
        with self.assertRaises(tf.errors.CancelledError):
            manager.set_config(self.config("m"))


class ConfigTest(ModelManagerTestCase):
    """Breaks if a reload takes the wrong models off the air."""

    def start_two(self):
        """Model `m` with versions 1 and 2, both served."""
        self.add_version(1)
        self.add_version(2)
        manager = self.make_manager()
        manager.set_config(self.config("m", all={}))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.AVAILABLE})
        return manager

    def test_add_and_remove_models(self):
        """A reload returns when the new model is there."""
        manager = self.start_two()
        (self.folder / "n").mkdir()
        self.add_version(7, self.folder / "n")
        manager.set_config(self.config("m", "n"))
        self.assertEqual(self.used_version(manager, name="n"), 7)
        self.assertEqual(manager.model_names(), ["m", "n"])
        manager.set_config(self.config("n"))
        self.wait_for_states(manager, {2: State.END, 1: State.END})
        self.assert_use_raises(manager, spec(), tf.errors.NotFoundError, "m")
        # An empty list is a list: all models go.
        manager.set_config(self.config())
        self.wait_for_states(manager, {7: State.END}, "n")

    def test_removed_and_added_again_while_in_use(self):
        """Old and new of one number must not be mixed up."""
        manager = self.start_two()
        with manager.use(spec(version=1)) as old:
            manager.set_config(self.config())
            self.wait_for_states(manager, {2: State.END, 1: State.UNLOADING})
            with self.assertRaises(tf.errors.DeadlineExceededError):
                manager.set_config(self.config("m"), timeout_seconds=0.05)
            self.assertFalse(old.is_closed)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.assertTrue(old.is_closed)

    def test_new_model_that_fails_or_never_comes(self):
        """The good ones go on; later reloads are not blocked."""
        manager = self.start_two()
        (self.folder / "n").mkdir()
        self.add_version(3, self.folder / "n")
        self.load.errors[3] = ValueError("broken")
        with self.assertRaisesRegex(
            tf.errors.UnknownError, "n version: 3.* INVALID_ARGUMENT: broken"
        ):
            manager.set_config(self.config("m", "n"))
        self.assertEqual(self.used_version(manager), 2)
        # Not for the load balancer to take the good model away.
        self.assertTrue(manager.is_available())
        with self.assertRaises(tf.errors.DeadlineExceededError):
            manager.set_config(self.config("m", "nowhere"), 0.02)
        manager.set_config(self.config("m"))

    def test_refused_configs_change_nothing(self):
        """Each is named, and what was served is served."""
        manager = self.start_two()
        relative = self.config("m")
        relative.model_config_list.config[0].base_path = "m"
        platform = self.config("m")
        platform.model_config_list.config[0].model_platform = "caffe"
        new_platform = self.config("n")
        new_platform.model_config_list.config[0].model_platform = "caffe"
        custom = model_server_config_pb2.ModelServerConfig()
        custom.custom_model_config.SetInParent()
        for config, text in (
            (self.config("m", "m"), "m multiple times"),
            (relative, "absolute"),
            (platform, "platform"),
            (new_platform, "caffe"),
            (custom, "received custom_model_config"),
            (model_server_config_pb2.ModelServerConfig(), "received none"),
        ):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, text):
                manager.set_config(config)
        self.let_it_look(manager)
        self.assertEqual(manager.model_names(), ["m"])
        self.assertEqual(self.used_version(manager), 2)

    def test_empty_config_at_the_start(self):
        """Taken; a real one later is as the first, and taken as it was."""
        self.add_version(1)
        manager = self.make_manager()
        manager.set_config(model_server_config_pb2.ModelServerConfig())
        config = self.config("m")
        manager.set_config(config)
        config.model_config_list.config[0].base_path = "/nowhere"
        self.assertTrue(manager.wait_until_available())

    def test_labels(self):
        """Given, moved, and gone with a config that has none."""
        manager = self.start_two()
        manager.set_config(
            self.config("m", all={}, labels={"stable": 1, "canary": 2})
        )
        self.assertEqual(self.used_version(manager, label="stable"), 1)
        self.assertEqual(self.used_version(manager, label="canary"), 2)
        manager.set_config(self.config("m", all={}, labels={"stable": 2}))
        # Refused as long as version 7 is not available; the old ones stay.
        with self.assertRaisesRegex(
            tf.errors.FailedPreconditionError, "version 7 of model m"
        ):
            manager.set_config(self.config("m", all={}, labels={"stable": 7}))
        self.assertEqual(self.used_version(manager, label="stable"), 2)
        manager.set_config(self.config("m", all={}))
        self.assert_use_raises(
            manager,
            spec(label="stable"),
            tf.errors.InvalidArgumentError,
            "stable",
        )

    def test_labels_for_unavailable_models(self):
        """--allow_version_labels_for_unavailable_models, and its limit."""
        self.add_version(1)
        first = self.config("m", labels={"a": 1})
        # TensorFlow Serving's rule: no labels in a first config.
        with self.assertRaises(tf.errors.FailedPreconditionError):
            self.make_manager().set_config(first)
        manager = self.make_manager(
            allow_version_labels_for_unavailable_models=True
        )
        manager.set_config(first)
        manager.wait_until_available()
        self.assertEqual(self.used_version(manager, label="a"), 1)
        manager.set_config(self.config("m", labels={"a": 1, "b": 9}))
        self.assert_use_raises(
            manager, spec(label="b"), tf.errors.NotFoundError, "m, 9"
        )
        # A label in use moves only to a version that is there.
        with self.assertRaises(tf.errors.FailedPreconditionError):
            manager.set_config(self.config("m", labels={"a": 8}))

    def test_config_file(self):
        """Followed as it changes; a bad one is told of and changes nothing."""
        manager = self.start_two()
        path = self.folder / "models.config"
        manager.watch_config_file(path, 0.02)
        for text, reason in (
            (None, "No such file"),
            ("model_config_list { confg", "Invalid protobuf file"),
            (str(self.config("m", "m")), "m multiple times"),
        ):
            if text is not None:
                path.write_text(text)
            self.wait_for(lambda reason=reason: reason in self.log.getvalue())
        self.assertEqual(manager.model_names(), ["m"])
        path.write_text(str(self.config("m", latest={})))
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})

    def test_label_and_version_in_one_file(self):
        """The label is refused until the version is there, then taken."""
        manager = self.start(1)
        path = self.folder / "models.config"
        path.write_text(str(self.config("m", labels={"new": 2})))
        manager.watch_config_file(path, 0.02)
        self.wait_for(lambda: "Request to assign label" in self.log.getvalue())
        self.add_version(2)
        self.wait_for_states(manager, {2: State.AVAILABLE, 1: State.END})
        self.wait_for(lambda: manager._labels.get("m"))
        self.assertEqual(self.used_version(manager, label="new"), 2)


class SavedModelSwapTest(ModelManagerTestCase):
    """Breaks if a swap breaks requests, or its memory stays."""

    def test_swaps_under_load(self):
        """Four threads, six versions: no error, no step back, all closed."""
        saved_model = serving_models.saved_model("half_plus_two")
        sessions = []

        def load(name, version, directory):
            model = servable.Servable(name, version, directory)
            sessions.append(weakref.ref(model))
            return model

        def add(version):
            shutil.copytree(saved_model, self.base_path / str(version))

        def ask():
            signature_name = "serving_default"
            last = 0
            while not done.is_set():
                with manager.use(spec()) as model:
                    signature = model.signatures[signature_name]
                    (feed,) = [info.name for info in signature.inputs.values()]
                    (fetch,) = [
                        info.name for info in signature.outputs.values()
                    ]
                    (answer,) = model.run(
                        {feed: np.array([2.0, 4.0], np.float32)}, [fetch], None
                    )
                    version = model.version
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
