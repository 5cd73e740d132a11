"""Tests that the Beam jobs run outside of FnApiRunner.

Flink, Spark and Prism themselves: benchmarks/jobs/portable_runners.py.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from unittest import mock

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners import runner as beam_runner
from apache_beam.runners.portability import flink_runner
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability import spark_runner
from apache_beam.runners.portability import stager
from apache_beam.transforms import environments

from beam_jobs.pipelines import runners
from benchmarks.jobs import dataflow_graph

_ROOT = pathlib.Path(__file__).parents[3]
_EMBEDDED = ("--job_endpoint=embed", "--environment_type=LOOPBACK")
_CONTAINER = ["--sdk_container_image=registry/sicot:1"]
_DATAFLOW = (
    "--project=my-project",
    "--region=europe-west1",
    "--temp_location=gs://my-bucket/temporary",
    "--setup_file=./setup.py",
    "--max_num_workers=200",
    *_CONTAINER,
)


class _CountFn(beam.DoFn):
    """Passes even numbers on, fails at 13."""

    def __init__(self):
        self._counter = beam.metrics.Metrics.counter(
            runners.METRICS_NAMESPACE, "even"
        )

    def process(self, number):
        if number == 13:
            raise ArithmeticError("thirteen")
        self._counter.inc(number % 2 == 0)
        yield number


class EmbeddedJobServiceTest(unittest.TestCase):
    """The portable path, as Flink and Spark take it, in this process."""

    def test_same_bytes_as_fn_api_runner(self):
        """The command on a job service: every file and counter is equal.

        A failure: the jobs use something that only FnApiRunner can do, or
        their output depends on the order in which parts are finished.
        """
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.jobs.portable_runners"]
            + ["--runner", "embedded", "--records", "60"],
            cwd=_ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(0, finished.returncode, finished.stderr)
        self.assertRegex(finished.stdout, r"train-00000-of-\d+.tfrecord")
        # 60 records, one without picture, one repeated.
        self.assertRegex(finished.stdout, r"records_read +62 +62")
        self.assertRegex(finished.stdout, r"rejected_missing_image +1 +1")
        self.assertNotIn("DIFFERENT", finished.stdout)

    def test_counters_of_java_job_servers(self):
        """Flink and Spark report attempted counters, never committed ones."""
        answer = local_job_service.LocalJobServicer.GetJobMetrics

        def as_java_does(self, request, context=None):
            response = answer(self, request, context)
            metrics = response.metrics
            metrics.attempted.extend(metrics.committed)
            del metrics.committed[:]
            return response

        with mock.patch.object(
            local_job_service.LocalJobServicer, "GetJobMetrics", as_java_does
        ):
            counters = runners.run(
                runners.make_pipeline_options(
                    "PortableRunner", beam_flags=_EMBEDDED
                ),
                range(5),
                beam.ParDo(_CountFn()),
            )
        self.assertEqual({"even": 3}, dict(counters))

    def test_error_names_step_and_cause(self):
        """Who reads the error of a remote worker has only this text."""
        options = runners.make_pipeline_options(
            "PortableRunner", beam_flags=_EMBEDDED
        )
        with self.assertRaisesRegex(RuntimeError, "(?s)thirteen.*_CountFn"):
            runners.run(options, [13], "_CountFn" >> beam.ParDo(_CountFn()))


class RunnerFlagsTest(unittest.TestCase):
    """Flags reach the runner that they are for."""

    def test_flink_on_this_machine(self):
        """Without a cluster's address the workers are this process."""
        options = runners.make_pipeline_options(
            "FlinkRunner",
            beam_flags=["--flink_master=[local]", "--parallelism=2"],
        )
        runner = beam_runner.create_runner("FlinkRunner")
        self.assertIsInstance(runner, flink_runner.FlinkRunner)
        environment = runner.default_environment(options)
        self.assertIsInstance(
            environment, environments.PythonLoopbackEnvironment
        )
        self.assertEqual(2, options.get_all_options()["parallelism"])

    def test_flink_cluster(self):
        """A cluster's workers are containers; the job server gets the rest."""
        with tempfile.NamedTemporaryFile(suffix=".jar") as jar:
            options = runners.make_pipeline_options(
                "FlinkRunner",
                beam_flags=[
                    "--flink_master=flink:8081",
                    f"--flink_job_server_jar={jar.name}",
                    "--environment_type=DOCKER",
                    "--environment_config=registry/sicot:1",
                ],
            )
            runner = flink_runner.FlinkRunner()
            environment = runner.default_environment(options)
            self.assertEqual("registry/sicot:1", environment.container_image)
            server = flink_runner.FlinkJarJobServer(options)
            command, _ = server.subprocess_cmd_and_endpoint()
        self.assertEqual(["java", "-jar", jar.name], command[:3])
        place = command.index("--flink-master")
        self.assertEqual("flink:8081", command[place + 1])

    def test_spark(self):
        """Java 17 needs packages opened to Spark; Beam has to add that."""
        with tempfile.NamedTemporaryFile(suffix=".jar") as jar:
            options = runners.make_pipeline_options(
                "SparkRunner",
                beam_flags=[
                    "--spark_master_url=local[2]",
                    f"--spark_job_server_jar={jar.name}",
                ],
            )
            environment = spark_runner.SparkRunner().default_environment(
                options
            )
            server = spark_runner.SparkJarJobServer(options)
            command, _ = server.subprocess_cmd_and_endpoint()
        self.assertIsInstance(
            environment, environments.PythonLoopbackEnvironment
        )
        self.assertIn("--add-opens=java.base/java.nio=ALL-UNNAMED", command)
        self.assertIn("local[2]", command)

    def test_misspelled_flag(self):
        """Beam itself would only warn, and run with the default."""
        with self.assertRaisesRegex(ValueError, "--flink_mastre"):
            runners.make_pipeline_options(
                "FlinkRunner", beam_flags=["--flink_mastre=flink:8081"]
            )


class DataflowTest(unittest.TestCase):
    """What is sent to Dataflow; nothing of Google is installed or called."""

    def setUp(self):
        super().setUp()
        self._options = runners.make_pipeline_options(
            "DataflowRunner", beam_flags=_DATAFLOW
        )

    def test_flags(self):
        """Every flag of the documented command is understood."""
        google = self._options.view_as(beam_options.GoogleCloudOptions)
        self.assertEqual("my-project", google.project)
        self.assertEqual("gs://my-bucket/temporary", google.temp_location)
        workers = self._options.view_as(beam_options.WorkerOptions)
        self.assertEqual(200, workers.max_num_workers)
        setup = self._options.view_as(beam_options.SetupOptions)
        self.assertEqual("./setup.py", setup.setup_file)

    def test_graphs(self):
        """Inputs are spread over workers, and every step can be pickled."""
        for name, inputs, transform in dataflow_graph.pipelines():
            with self.subTest(name):
                self._check(dataflow_graph.graph(_CONTAINER, inputs, transform))

    def _check(self, proto):
        transforms = proto.components.transforms.values()
        urns = [each.spec.urn for each in transforms]
        # Else one worker would do every part.
        self.assertIn(common_urns.composites.RESHUFFLE.urn, urns)
        # Splittable functions run on no Spark, state and timers slow Flink.
        for each in transforms:
            if each.spec.urn == common_urns.primitives.PAR_DO.urn:
                payload = beam_runner_api_pb2.ParDoPayload.FromString(
                    each.spec.payload
                )
                self.assertEqual("", payload.restriction_coder_id)
                self.assertFalse(payload.state_specs)
                self.assertFalse(payload.timer_family_specs)
        (environment,) = proto.components.environments.values()
        self.assertEqual(common_urns.environments.DOCKER.urn, environment.urn)
        self.assertIn(b"registry/sicot:1", environment.payload)

    def test_setup_file_ships_both_packages(self):
        """The source archive that Beam makes for workers has all modules."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            checkout = folder / "checkout"
            checkout.mkdir()
            for each in ("setup.py", "README.md", "pyproject.toml"):
                shutil.copy(_ROOT / each, checkout)
            for each in ("sicot_tf", "beam_jobs"):
                shutil.copytree(
                    _ROOT / each,
                    checkout / each,
                    ignore=shutil.ignore_patterns("__pycache__"),
                )
            options = runners.make_pipeline_options(
                "DataflowRunner",
                beam_flags=[f"--setup_file={checkout / 'setup.py'}"],
            )
            artifacts = stager.Stager.create_job_resources(
                options, str(folder), log_submission_env_dependencies=False
            )
            (archive,) = folder.glob("*.tar.gz")
            self.assertTrue(artifacts)
            with tarfile.open(archive) as tar:
                shipped = {
                    re.sub("^[^/]+/", "", each) for each in tar.getnames()
                }
            expected = {
                path.relative_to(_ROOT).as_posix()
                for package in ("sicot_tf", "beam_jobs")
                for path in (_ROOT / package).rglob("*.py")
            }
            self.assertEqual(set(), expected - shipped)
            self.assertIn("README.md", shipped)


if __name__ == "__main__":
    unittest.main()
