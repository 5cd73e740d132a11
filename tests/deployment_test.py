"""The container file and the manifest of the recognition service."""

import contextlib
import importlib.util
import io
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import kubernetes_validate
import yaml

import sicot_tf

_ROOT = pathlib.Path(__file__).parents[1]
_MANIFEST = _ROOT / "kubernetes" / "recognize.yaml"


def _read_dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, in order."""
    text = (_ROOT / "Dockerfile").read_text("utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = lines.replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def _flags_of(module: str) -> set[str]:
    """What `--help` of a command tells."""
    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [module, "--help"]),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    return set(re.findall(r"--\w+", output.getvalue()))


class CommandTestCase(unittest.TestCase):
    def check_command(self, words):
        """Fails if the project has no such command, or it no such flag."""
        self.assertEqual(words[:2], ["python", "-m"])
        self.assertIsNotNone(importlib.util.find_spec(words[2]))
        flags = {each.partition("=")[0] for each in words[3:]}
        self.assertLessEqual(flags, _flags_of(words[2]))


class DockerfileTest(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.instructions = _read_dockerfile()

    def _copies(self):
        """What is copied from the project."""
        return [
            name
            for instruction, argument in self.instructions
            if instruction == "COPY" and not argument.startswith("--from")
            for name in argument.split()[:-1]
        ]

    def test_command(self):
        """Breaks if the container starts nothing that is there."""
        [command] = [each for name, each in self.instructions if name == "CMD"]
        self.check_command(json.loads(command))

    def test_copies(self):
        """Breaks if the build misses a file, by COPY or by .dockerignore."""
        ignore = (_ROOT / ".dockerignore").read_text().splitlines()
        for name in self._copies():
            self.assertTrue((_ROOT / name).exists(), name)
            self.assertIn(f"!{name}", ignore)

    def test_what_is_installed(self):
        """Breaks if a page, script or template is not in the package: then
        every command starts, and fails where it needs the file."""
        with tempfile.TemporaryDirectory() as folder:
            for name in self._copies():
                source, target = _ROOT / name, pathlib.Path(folder, name)
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", ".*")
                    shutil.copytree(source, target, ignore=ignored)
                else:
                    shutil.copy(source, target)
            build = [sys.executable, "setup.py", "-q", "build"]
            subprocess.run(
                [*build, "--build-lib", "installed"],
                cwd=folder,
                check=True,
                capture_output=True,
            )
            for package in ("sicot_tf", "beam_jobs"):
                path = pathlib.Path(folder, "installed", package)
                self.assertEqual(_files(path), _files(_ROOT / package))

    def test_does_not_run_as_root(self):
        """Breaks if a hole in the service is one in the machine."""
        stages = [name for name, _ in self.instructions]
        self.assertIn(
            "USER", stages[len(stages) - stages[::-1].index("FROM") :]
        )
        [user] = [each for name, each in self.instructions if name == "USER"]
        pod = _manifest("Deployment")["spec"]["template"]["spec"]
        self.assertEqual(user, "65534:65534")
        self.assertEqual(pod["securityContext"]["runAsUser"], 65534)


def _files(package: pathlib.Path) -> set[str]:
    return {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _manifest(kind: str) -> dict:
    [found] = [
        each
        for each in yaml.safe_load_all(_MANIFEST.read_text("utf-8"))
        if each["kind"] == kind
    ]
    return found


class KubernetesTest(CommandTestCase):
    def setUp(self):
        super().setUp()
        self.deployment = _manifest("Deployment")
        self.pod = self.deployment["spec"]["template"]["spec"]
        [self.container] = self.pod["containers"]
        job = _manifest("CronJob")["spec"]["jobTemplate"]["spec"]
        self.job_pod = job["template"]["spec"]
        self.containers = [
            self.container,
            *self.job_pod["initContainers"],
            *self.job_pod["containers"],
        ]

    def test_schema(self):
        """Breaks if Kubernetes would refuse the manifest.

        Against the schemas of an old version, which knows all of its fields,
        and of the newest one.
        """
        versions = ("1.29", kubernetes_validate.latest_version())
        for manifest in yaml.safe_load_all(_MANIFEST.read_text("utf-8")):
            for version in versions:
                kubernetes_validate.validate(manifest, version, strict=True)
        with self.assertRaises(kubernetes_validate.ValidationError):
            self.container["readinessProbe"]["httpGet"]["path"] = 8
            kubernetes_validate.validate(
                self.deployment, versions[1], strict=True
            )

    def test_commands(self):
        """Breaks if a command does not know what the manifest asks for."""
        for each in self.containers:
            self.check_command([*each["command"], *each["args"]])

    def test_image(self):
        """Breaks if a container runs another version than this one."""
        images = {each["image"] for each in self.containers}
        [image] = images
        name, _, version = image.rpartition(":")
        self.assertEqual(version, sicot_tf.__version__)
        for path in ("Dockerfile", "kubernetes/train.yaml"):
            self.assertIn(image, (_ROOT / path).read_text("utf-8"))

    def test_names_fit_together(self):
        """Breaks if a part looks for another one by a wrong name."""
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        for selector in (
            self.deployment["spec"]["selector"]["matchLabels"],
            _manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            _manifest("Service")["spec"]["selector"],
        ):
            self.assertEqual(selector, labels)
        [port] = self.container["ports"]
        [service_port] = _manifest("Service")["spec"]["ports"]
        self.assertEqual(service_port["targetPort"], port["name"])
        self.assertIn(f"--port={port['containerPort']}", self.container["args"])
        for pod in (self.pod, self.job_pod):
            volumes = {each["name"] for each in pod["volumes"]}
            for each in [*pod.get("initContainers", []), *pod["containers"]]:
                mounts = {mount["name"] for mount in each["volumeMounts"]}
                self.assertEqual(mounts, volumes)
        # Model and index of a release are found by their absolute paths.
        paths = {
            mount["mountPath"]
            for each in self.containers
            for mount in each["volumeMounts"]
            if mount["name"] == "storage"
        }
        self.assertEqual(paths, {"/storage"})

    def test_only_tmp_can_be_written(self):
        """Breaks if a stranger's photo may change a file."""
        for each in self.containers:
            context = each["securityContext"]
            self.assertTrue(context["readOnlyRootFilesystem"])
            self.assertFalse(context["allowPrivilegeEscalation"])
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
        writable = [
            mount["mountPath"]
            for mount in self.container["volumeMounts"]
            if not mount.get("readOnly")
        ]
        self.assertEqual(writable, ["/tmp"])

    def test_stops_without_failed_requests(self):
        """Breaks if Kubernetes kills a pod before its requests have ended:
        it takes some for `drain_seconds`, each has `timeout_seconds`."""
        flags = dict(
            each.removeprefix("--").split("=")
            for each in self.container["args"]
        )
        longest = int(flags["drain_seconds"]) + int(flags["timeout_seconds"])
        self.assertLess(longest, self.pod["terminationGracePeriodSeconds"])
        probe = self.container["readinessProbe"]
        # Three failures take it out of the Service.
        self.assertLess(3 * probe["periodSeconds"], int(flags["drain_seconds"]))
        update = self.deployment["spec"]["strategy"]["rollingUpdate"]
        self.assertEqual(update["maxUnavailable"], 0)


if __name__ == "__main__":
    unittest.main()
