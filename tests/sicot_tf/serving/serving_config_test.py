"""Tests of serving_config: TensorFlow Serving's files and its errors."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import serving_config


def model_list(text):
    return text_format.Parse(text, model_server_config_pb2.ModelConfigList())


class ServingConfigTest(unittest.TestCase):
    """Wrong here: a file of a stock server is not understood."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name, "config")

    def write(self, text):
        self.path.write_text(text, encoding="utf-8")
        return self.path

    def assert_raises(self, error_class, message, function, *arguments):
        """The class is the code; the text is compared whole."""
        with self.assertRaises(error_class) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.message, message)

    def test_model_config(self):
        """All that TensorFlow Serving's own example file has."""
        config = serving_config.read_model_config(
            self.write(
                """
                model_config_list {
                  config {  # A comment.
                    name: 'm' base_path: '/models/m'
                    model_platform: 'tensorflow'
                    model_version_policy {
                      specific { versions: 1 versions: 2 }
                    }
                    version_labels { key: 'stable' value: 1 }
                    version_labels { key: 'canary' value: 2 }
                  }
                  config { name: 'n' base_path: '/models/n'
                           model_platform: 'tensorflow'
                           model_version_policy: {
                             latest { num_versions: 2 } } }
                }"""
            )
        )
        first, second = config.model_config_list.config
        self.assertEqual(first.model_version_policy.specific.versions, [1, 2])
        self.assertEqual(first.version_labels, {"stable": 1, "canary": 2})
        self.assertEqual(second.model_version_policy.latest.num_versions, 2)

    def test_single_model(self):
        """What --model_name and --model_base_path mean."""
        config = serving_config.make_model_config("m", pathlib.Path("/b/m"))
        self.assertEqual(
            config.model_config_list,
            model_list(
                "config { name: 'm' base_path: '/b/m' "
                "model_platform: 'tensorflow' }"
            ),
        )

    def test_batching_parameters(self):
        """Numbers are wrapped, lists and one flag are not."""
        parameters = serving_config.read_batching_parameters(
            self.write(
                """
                max_batch_size { value: 16 }
                batch_timeout_micros { value: 0 }
                max_enqueued_batches { value: 100 }
                num_batch_threads { value: 4 }
                thread_pool_name { value: 'pool' }
                allowed_batch_sizes: 4 allowed_batch_sizes: 16
                pad_variable_length_inputs: true
                enable_large_batch_splitting { value: true }
                max_execution_batch_size { value: 8 }"""
            )
        )
        self.assertEqual(parameters.max_batch_size.value, 16)
        # Unset is the default, 0 is a setting.
        self.assertTrue(parameters.HasField("batch_timeout_micros"))
        self.assertEqual(parameters.thread_pool_name.value, "pool")
        self.assertEqual(parameters.allowed_batch_sizes, [4, 16])
        self.assertTrue(parameters.pad_variable_length_inputs)
        self.assertTrue(parameters.enable_large_batch_splitting.value)
        self.assertEqual(parameters.max_execution_batch_size.value, 8)
        empty = serving_config.read_batching_parameters(self.write(""))
        self.assertFalse(empty.HasField("max_batch_size"))

    def test_monitoring_config(self):
        config = serving_config.read_monitoring_config(
            self.write("prometheus_config { enable: true path: '/metrics' }")
        )
        self.assertTrue(config.prometheus_config.enable)
        self.assertEqual(config.prometheus_config.path, "/metrics")

    def test_ssl_config(self):
        r"""Keys stand in the file itself, with \n for line ends."""
        config = serving_config.read_ssl_config(
            self.write(
                r"server_key: '-----BEGIN\nk\n' server_cert: 'c' "
                "custom_ca: 'a' client_verify: true"
            )
        )
        self.assertEqual(config.server_key, "-----BEGIN\nk\n")
        self.assertEqual(config.server_cert, "c")
        self.assertEqual(config.custom_ca, "a")
        self.assertTrue(config.client_verify)

    def test_file_that_does_not_parse(self):
        """Start fails with this text; the log has the place."""
        for text in ("model_config_list { confg {} }", "{", "\x00"):
            with contextlib.redirect_stderr(io.StringIO()) as log:
                self.assert_raises(
                    tf.errors.InvalidArgumentError,
                    f"Invalid protobuf file: '{self.path}'",
                    serving_config.read_model_config,
                    self.write(text),
                )
            self.assertIn(
                "Error parsing text-format "
                "tensorflow.serving.ModelServerConfig: 1:",
                log.getvalue(),
            )
        self.path.write_bytes(b"\xff\xfe")
        for read, name in (
            (serving_config.read_ssl_config, "tensorflow.serving.SSLConfig"),
            (serving_config.read_session_config, "tensorflow.ConfigProto"),
        ):
            with contextlib.redirect_stderr(io.StringIO()) as log:
                self.assert_raises(
                    tf.errors.InvalidArgumentError,
                    f"Invalid protobuf file: '{self.path}'",
                    read,
                    self.path,
                )
            self.assertIn(f"Error parsing text-format {name}", log.getvalue())

    def test_missing_file(self):
        self.assert_raises(
            tf.errors.NotFoundError,
            f"{self.path}; No such file or directory",
            serving_config.read_model_config,
            self.path,
        )

    def test_model_listed_twice(self):
        self.assert_raises(
            tf.errors.InvalidArgumentError,
            "Illegal to list model m multiple times in config list",
            serving_config.check_model_list,
            model_list("config { name: 'm' } config { name: 'm' }"),
        )

    def test_model_without_a_name(self):
        self.assert_raises(
            tf.errors.InvalidArgumentError,
            "Expected a name for the model with base_path()=/m: no request "
            "could ask for it.",
            serving_config.check_model_list,
            model_list("config { base_path: '/m' }"),
        )

    def test_base_paths(self):
        """Relative ones depend on where a server happened to start."""
        for base_path in ("models/m", "", "./m"):
            self.assert_raises(
                tf.errors.InvalidArgumentError,
                "Expected model m to have an absolute path or URI; got "
                f"base_path()={base_path}",
                serving_config.check_model_list,
                model_list(f"config {{ name: 'm' base_path: '{base_path}' }}"),
            )
        self.assert_raises(
            tf.errors.InvalidArgumentError,
            "Expected model m to have a base_path in a mounted file system; "
            "got base_path()=gs://b/m. Mount the bucket, or copy the versions "
            "to a local folder.",
            serving_config.check_model_list,
            model_list("config { name: 'm' base_path: 'gs://b/m' }"),
        )
        serving_config.check_model_list(
            model_list("config { name: 'm' base_path: 'file:///b/m' }")
        )
        self.assertEqual(
            serving_config.local_path("file:///b/m"), pathlib.Path("/b/m")
        )

    def test_platforms(self):
        """Each text of GetPlatform and of a change of platform."""
        plain = model_list("config { name: 'm' model_platform: 'tensorflow' }")
        old_style = model_list("config { name: 'm' model_type: TENSORFLOW }")
        other = model_list("config { name: 'm' model_platform: 'caffe' }")
        serving_config.check_supported(plain)
        serving_config.check_supported(old_style)
        serving_config.check_platforms(plain, old_style)
        for models, message in (
            (
                model_list("config { name: 'm' }"),
                "Illegal setting neither ModelServerConfig::model_type "
                "(deprecated) nor ModelServerConfig::model_platform.",
            ),
            (
                model_list(
                    "config { model_type: TENSORFLOW model_platform: 'x' }"
                ),
                "Illegal setting both ModelServerConfig::model_type "
                "(deprecated) and ModelServerConfig::model_platform.",
            ),
            (
                model_list("config { model_type: OTHER }"),
                "ModelServerConfig::model_type choice 2 not supported.",
            ),
            (other, "Model m requests unsupported platform caffe"),
        ):
            self.assert_raises(
                tf.errors.InvalidArgumentError,
                message,
                serving_config.check_supported,
                models,
            )
        self.assert_raises(
            tf.errors.InvalidArgumentError,
            "Illegal to change a model's platform. For model m platform was "
            "tensorflow and new platform requested is caffe",
            serving_config.check_platforms,
            plain,
            other,
        )


if __name__ == "__main__":
    unittest.main()
