"""Which folders under a model's base path are versions to serve.

Names and policies are those of TensorFlow Serving's
file_system_storage_path_source.cc.
"""

import logging
import pathlib
import re
import time
from collections.abc import Container
from typing import Any
from typing import NamedTuple

from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import serving_config
from sicot_tf.serving.versions import whole_versions
from sicot_tf.serving.versions.options import Options

_log = logging.getLogger(__name__)

# Between two looks at a version that is not yet whole, if else there is one.
SETTLE_SECONDS = 1.0
# A line that comes at every look is written at most this often.
_REPEAT_LOG_SECONDS = 60.0
# What absl::SimpleAtoi accepts; int() would take 1_000 too.
_VERSION_NAME = re.compile(r"[+-]?[0-9]+", re.ASCII)


def list_versions(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Children of `base_path` that are versions: names that are integers.

    As in TensorFlow Serving `0007` is version 7, and of two names of the same
    version the alphabetically later one counts. Raises OSError if the folder
    can't be read.
    """
    versions = {}
    for child in sorted(base_path.iterdir()):
        if _VERSION_NAME.fullmatch(child.name):
            version = int(child.name)
            if -(2**63) <= version < 2**63:
                versions[version] = child
    return versions


class Look(NamedTuple):
    """What one look at a base path has found."""

    # Versions to serve, highest first; None: not known.
    versions: dict[int, pathlib.Path] | None
    # False if a version was seen that is not yet whole.
    is_done: bool
    # Why versions that have rested for too long are not whole.
    given_up: dict[int, str]
    # Code and text of why there is no version, nor will be; or empty.
    fault: str


class VersionFinder:
    """Looks again and again which versions of the models to serve."""

    def __init__(self, options: Options):
        self._options = options
        seconds = options.file_system_poll_wait_seconds or SETTLE_SECONDS
        # A little less than the time between two looks.
        self._wholeness = whole_versions.WholenessCheck(0.9 * seconds)
        self._logged: dict[str, float] = {}

    def look(
        self,
        config: model_server_config_pb2.ModelConfig,
        known: Container[int],
    ) -> Look:
        """Finds the versions of one model; what is odd goes to the log.

        Args:
            config: the model. A latest version that is not whole leaves its
                place to the one before.
            known: versions that have been found before; they need not be
                whole any more.
        """
        base_path = serving_config.local_path(config.base_path)
        try:
            folders = list_versions(base_path)
        except OSError as error:
            text = (
                f"Could not find base path {config.base_path} for servable "
                f"{config.name}: {error.strerror}"
            )
            self.log(text)
            # A folder that is not there may still be mounted; no file becomes
            # a folder.
            may_come = not isinstance(error, NotADirectoryError)
            if may_come and not self._options.fail_if_no_model_versions_found:
                return Look(None, True, {}, "")
            return Look(None, True, {}, f"INVALID_ARGUMENT: {text}")
        candidates, most = self._candidates(config, folders)
        versions = {}
        given_up = {}
        is_done = True
        most_seconds = self._options.incomplete_version_seconds
        for version in candidates:
            if len(versions) == most:
                break
            folder = folders[version]
            fault = ""
            if version not in known:
                fault, seconds = self._wholeness.find_fault(folder)
            if not fault:
                versions[version] = folder
            elif seconds >= most_seconds:
                given_up[version] = (
                    f"{folder} is not whole: {fault}; nothing in it has "
                    f"changed for {most_seconds:g} seconds"
                )
            else:
                is_done = False
                self.log(
                    f"Version {version} of servable {config.name} is not "
                    f"loaded, it is not whole: {folder}: {fault}"
                )
        fault = ""
        if not versions and is_done:
            fault = self._explain_none(config.name, base_path, given_up)
        return Look(versions, is_done, given_up, fault)

    def _candidates(
        self,
        config: model_server_config_pb2.ModelConfig,
        folders: dict[int, pathlib.Path],
    ) -> tuple[list[int], int]:
        """Versions by the model's policy, highest first, and how many."""
        policy: Any = config.model_version_policy
        versions = sorted(folders, reverse=True)
        choice = policy.WhichOneof("policy_choice")
        if choice == "all":
            return versions, len(versions)
        if choice != "specific":
            return versions, max(policy.latest.num_versions, 1)
        wanted = set(policy.specific.versions)
        for version in sorted(wanted - set(folders)):
            self.log(
                f"Version {version} of servable {config.name}, a 'specific' "
                "version of its policy, was not found in the file system"
            )
        return sorted(wanted & set(folders), reverse=True), len(wanted)

    def _explain_none(
        self, name: str, base_path: pathlib.Path, given_up: dict[int, str]
    ) -> str:
        """Logs that there is no version; returns why there can't be any."""
        if given_up:
            return f"FAILED_PRECONDITION: {given_up[max(given_up)]}"
        is_mistake = any(
            (base_path / name).exists()
            for name in ("saved_model.pb", "saved_model.pbtxt")
        )
        text = (
            f"No versions of servable {name} found under base path "
            f"{base_path}. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?"
        )
        if is_mistake:
            text = (
                f"The base path {base_path} is a SavedModel itself: give the "
                "folder above it, in which the name of each SavedModel is its "
                "version, a number"
            )
        self.log(text)
        if is_mistake or self._options.fail_if_no_model_versions_found:
            return f"NOT_FOUND: {text}"
        return ""

    def log(self, text: str) -> None:
        """Logs what comes at every look once a minute."""
        now = time.monotonic()
        self._logged = {
            line: last
            for line, last in self._logged.items()
            if now - last < _REPEAT_LOG_SECONDS
        }
        if text not in self._logged:
            self._logged[text] = now
            _log.warning("%s", text)
