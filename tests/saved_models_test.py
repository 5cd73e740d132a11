"""The files of saved_models/: for TensorFlow Serving, tried on our server."""

import json
import pathlib
import re
import shutil
import tempfile
import unittest
import urllib.request

import kubernetes_validate
import yaml
from google.protobuf import text_format
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf import client
from sicot_tf.serving import serving_config
from tests.helpers import tiny_server

_FOLDER = pathlib.Path(__file__).parents[1] / "saved_models"
_PAGES = (_FOLDER / "README.md", _FOLDER.parent / "docs" / "serving.md")
_CONFIGS = ("models.config", "batching.config", "monitoring.config")


def _read_dockerfile():
    """Instruction to its argument; the last of a name counts."""
    text = (_FOLDER / "Dockerfile").read_text("utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = lines.replace("\\\n", " ").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line)


def _parse_flags(words):
    flags = dict(word.removeprefix("--").split("=") for word in words)
    return {
        name: pathlib.PurePath(value).name if name.endswith("file") else value
        for name, value in flags.items()
    }


class ConfigsTest(unittest.TestCase):
    def test_models(self):
        """Breaks if TensorFlow Serving does not start with the file."""
        config = serving_config.read(
            _FOLDER / "models.config", serving_config.ModelServerConfig
        )
        [model] = config.model_config_list.config
        self.assertEqual(model.name, "sicot")
        self.assertEqual(model.base_path, "/models/sicot")
        self.assertEqual(model.model_platform, "tensorflow")
        # It has no request logger; with this field it does not start.
        self.assertFalse(model.HasField("logging_config"))

    def test_batching(self):
        """Breaks if a load fails: the last size must be the largest batch."""
        parameters = serving_config.read(
            _FOLDER / "batching.config", serving_config.BatchingParameters
        )
        sizes = list(parameters.allowed_batch_sizes)
        self.assertEqual(sizes, sorted(set(sizes)))
        self.assertEqual(sizes[-1], parameters.max_batch_size.value)

    def test_monitoring(self):
        """Breaks if Prometheus looks elsewhere than the server says."""
        config = serving_config.read(
            _FOLDER / "monitoring.config", serving_config.MonitoringConfig
        ).prometheus_config
        self.assertTrue(config.enable)
        self.assertEqual(config.path, "/monitoring/prometheus/metrics")

    def test_examples_on_the_pages(self):
        """Breaks if a reader copies a config that does not parse."""
        num_found = 0
        for page in _PAGES:
            for block in re.findall(
                r"```\n(model_config_list .*?)```",
                page.read_text("utf-8"),
                re.DOTALL,
            ):
                text_format.Parse(
                    block, model_server_config_pb2.ModelServerConfig()
                )
                num_found += 1
        self.assertGreater(num_found, 0)


def _read_manifests():
    """Kind to manifest."""
    text = (_FOLDER / "kubernetes.yaml").read_text("utf-8")
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


class KubernetesTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.manifests = _read_manifests()
        self.config_map = self.manifests["ConfigMap"]
        self.service = self.manifests["Service"]
        self.budget = self.manifests["PodDisruptionBudget"]
        self.deployment = self.manifests["Deployment"]
        self.pod = self.deployment["spec"]["template"]["spec"]
        [self.server] = self.pod["containers"]
        self.flags = _parse_flags(self.server["args"])

    def test_schema(self):
        """Breaks if Kubernetes would refuse the manifest.

        Against the schemas of an old version, which knows all of its fields,
        and of the newest one.
        """
        versions = ("1.29", kubernetes_validate.latest_version())
        for manifest in self.manifests.values():
            for version in versions:
                kubernetes_validate.validate(manifest, version, strict=True)
        with self.assertRaises(kubernetes_validate.ValidationError):
            self.server["livenessProbe"]["grpc"]["port"] = "8500"
            kubernetes_validate.validate(
                self.deployment, versions[1], strict=True
            )

    def test_config_map_holds_the_files(self):
        """Breaks if only one of two copies was changed."""
        self.assertEqual(
            self.config_map["data"],
            {name: (_FOLDER / name).read_text("utf-8") for name in _CONFIGS},
        )

    def test_names_fit_together(self):
        """Breaks if a part looks for another one by a wrong name."""
        spec = self.deployment["spec"]
        labels = spec["template"]["metadata"]["labels"]
        for selector in (
            spec["selector"]["matchLabels"],
            self.budget["spec"]["selector"]["matchLabels"],
            self.service["spec"]["selector"],
        ):
            self.assertEqual(selector, labels)
        self.assertEqual(
            [volume["name"] for volume in self.pod["volumes"]],
            [mount["name"] for mount in self.server["volumeMounts"]],
        )
        self.assertEqual(
            self.pod["volumes"][1]["configMap"]["name"],
            self.config_map["metadata"]["name"],
        )
        models, configuration = self.server["volumeMounts"]
        [model] = serving_config.read(
            _FOLDER / "models.config", serving_config.ModelServerConfig
        ).model_config_list.config
        self.assertEqual(model.base_path, f"{models['mountPath']}/{model.name}")
        for argument in self.server["args"]:
            path = pathlib.PurePath(argument.partition("=")[2])
            if argument.partition("=")[0].endswith("_file"):
                self.assertEqual(str(path.parent), configuration["mountPath"])
                self.assertIn(path.name, self.config_map["data"])
        ports = {
            port["name"]: str(port["containerPort"])
            for port in self.server["ports"]
        }
        self.assertEqual(
            ports,
            {"grpc": self.flags["port"], "rest": self.flags["rest_api_port"]},
        )
        for port in self.service["spec"]["ports"]:
            self.assertEqual(str(port["port"]), ports[port["name"]])

    def test_stops_without_failed_requests(self):
        """The stock server dies of SIGTERM at once: all of the sleep before
        it has to fit into the time until Kubernetes kills."""
        command = self.server["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(command[0], "sleep")
        self.assertLess(
            int(command[1]), self.pod["terminationGracePeriodSeconds"]
        )
        self.assertEqual(
            self.deployment["spec"]["strategy"]["rollingUpdate"][
                "maxUnavailable"
            ],
            0,
        )

    def test_dockerfile_starts_the_same_server(self):
        """Breaks if image and manifest part company."""
        dockerfile = _read_dockerfile()
        self.assertEqual(
            _parse_flags(json.loads(dockerfile["CMD"])), self.flags
        )
        self.assertEqual(
            json.loads(dockerfile["ENTRYPOINT"]), self.server["command"]
        )
        self.assertEqual(dockerfile["COPY"], ". /models/")
        self.assertEqual(
            self.server["image"],
            "tensorflow/serving:" + dockerfile["ARG"].partition("=")[2],
        )


class OurServerTest(unittest.TestCase):
    """The same files and command line, with paths of this machine."""

    def test_serves(self):
        """Breaks if what works here needs a change for production."""
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in _CONFIGS:
            shutil.copy(_FOLDER / name, root)
        tiny_server.write_saved_model(root / "sicot" / "1")
        ports = [tiny_server.free_port(), tiny_server.free_port()]
        flags = []
        for word in json.loads(_read_dockerfile()["CMD"]):
            for old, new in (
                ("=8500", f"={ports[0]}"),
                ("=8501", f"={ports[1]}"),
                ("=/models/", f"={root}/"),
            ):
                word = word.replace(old, new)
            flags.append(word)
        config = root / "models.config"
        config.write_text(
            config.read_text("utf-8").replace('"/models/', f'"{root}/')
        )
        server = tiny_server.ServerProcess(root / "log", *flags)
        self.addCleanup(server.kill)
        channel = self.enterContext(server.connect(f"localhost:{ports[0]}"))

        with client.Client(f"localhost:{ports[0]}") as asked:
            [answers] = asked.recognize([tiny_server.make_jpeg(1)], top_k=3)
        self.assertEqual(len(answers), 3)
        # The probes of the manifest.
        template = _read_manifests()["Deployment"]["spec"]["template"]
        [container] = template["spec"]["containers"]
        path = container["readinessProbe"]["httpGet"]["path"]
        service = container["livenessProbe"]["grpc"]["service"]
        metrics = template["metadata"]["annotations"]["prometheus.io/path"]
        url = f"http://localhost:{ports[1]}"
        with urllib.request.urlopen(url + path) as response:
            [status] = json.load(response)["model_version_status"]
        self.assertEqual(status["state"], "AVAILABLE")
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service)
        )
        self.assertEqual(health.status, health_pb2.HealthCheckResponse.SERVING)
        with urllib.request.urlopen(url + metrics) as response:
            self.assertIn(b":tensorflow:serving:request_count", response.read())


if __name__ == "__main__":
    unittest.main()
