"""Tests of serving_config: TensorFlow Serving's files and its errors."""

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
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(folder, "config")

    def write(self, text):
        self.path.write_text(text, encoding="utf-8")
        return self.path

    def assert_raises(self, error_class, message, function, *arguments):
        """The class is the code."""
        with self.assertRaises(error_class) as caught:
            function(*arguments)
        self.assertIn(message, caught.exception.message)

    def test_batching_parameters(self):
        """Numbers are wrapped, lists and one flag are not."""
        parameters = serving_config.read(
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
            ),
            serving_config.BatchingParameters,
        )
        self.assertEqual(parameters.max_batch_size.value, 16)
        # Unset is the default, 0 is a setting.
        self.assertTrue(parameters.HasField("batch_timeout_micros"))
        self.assertEqual(parameters.thread_pool_name.value, "pool")
        self.assertEqual(parameters.allowed_batch_sizes, [4, 16])
        self.assertTrue(parameters.pad_variable_length_inputs)
        self.assertTrue(parameters.enable_large_batch_splitting.value)
        self.assertEqual(parameters.max_execution_batch_size.value, 8)
        empty = serving_config.read(
            self.write(""), serving_config.BatchingParameters
        )
        self.assertFalse(empty.HasField("max_batch_size"))

    def test_monitoring_and_tls(self):
        r"""Keys stand in the file itself, with \n for line ends."""
        config = serving_config.read(
            self.write("prometheus_config { enable: true path: '/metrics' }"),
            serving_config.MonitoringConfig,
        )
        self.assertTrue(config.prometheus_config.enable)
        self.assertEqual(config.prometheus_config.path, "/metrics")
        config = serving_config.read(
            self.write(
                r"server_key: '-----BEGIN\nk\n' server_cert: 'c' "
                "custom_ca: 'a' client_verify: true"
            ),
            serving_config.SSLConfig,
        )
        self.assertEqual(config.server_key, "-----BEGIN\nk\n")
        self.assertEqual(config.server_cert, "c")
        self.assertEqual(config.custom_ca, "a")
        self.assertTrue(config.client_verify)

    def test_files_that_can_not_be_read(self):
        """Breaks if a server starts without what its file should say."""
        for text in ("model_config_list { confg {} }", "{", "\x00"):
            self.assert_raises(
                tf.errors.InvalidArgumentError,
                f"Invalid protobuf file: '{self.path}': expected the text form "
                "of tensorflow.serving.ModelServerConfig: 1:",
                serving_config.read,
                self.write(text),
                serving_config.ModelServerConfig,
            )
        self.path.write_bytes(b"\xff\xfe")
        for message_class, name in (
            (serving_config.SSLConfig, "tensorflow.serving.SSLConfig"),
            (tf.compat.v1.ConfigProto, "tensorflow.ConfigProto"),
        ):
            self.assert_raises(
                tf.errors.InvalidArgumentError,
                name,
                serving_config.read,
                self.path,
                message_class,
            )
        self.path.unlink()
        self.assert_raises(
            tf.errors.NotFoundError,
            f"{self.path}; No such file or directory",
            serving_config.read,
            self.path,
            serving_config.ModelServerConfig,
        )

    def test_lists_of_models(self):
        """Breaks if a list is taken of which some model can't be served."""
        for text, message in (
            (
                2 * "config { name: 'm' base_path: '/m' model_type: 1 }",
                "Illegal to list model m multiple times in config list",
            ),
            ("config { base_path: '/m' }", "Expected a name for the model"),
            *(
                (f"config {{ name: 'm' base_path: '/m' {platform} }}", message)
                for platform, message in (
                    ("", "Illegal setting of neither: expected model_platf"),
                    (
                        "model_type: TENSORFLOW model_platform: 'x'",
                        "Illegal setting of x and tensorflow: expected model_p",
                    ),
                    ("model_type: OTHER", "requests unsupported platform ot"),
                    ("model_platform: 'a'", "Model m requests unsupported"),
                )
            ),
            *(
                (
                    f"config {{ name: 'm' base_path: '{path}' }}",
                    "Expected model m to have an absolute path or URI; got "
                    f"base_path()={path}",
                )
                # Where does a server start?
                for path in ("models/m", "", "./m")
            ),
            (
                "config { name: 'm' base_path: 'gs://b/m' }",
                "Expected model m to have a base_path in a mounted file "
                "system; got base_path()=gs://b/m. Mount the bucket",
            ),
        ):
            self.assert_raises(
                tf.errors.InvalidArgumentError,
                message,
                serving_config.check_model_list,
                model_list(text),
            )
        for platform in ("model_platform: 'tensorflow'", "model_type: 1"):
            serving_config.check_model_list(
                model_list(
                    "config { name: 'm' base_path: 'file:///b/m' "
                    f"{platform} }}"
                )
            )
        self.assertEqual(
            serving_config.local_path("file:///b/m"), pathlib.Path("/b/m")
        )


if __name__ == "__main__":
    unittest.main()
