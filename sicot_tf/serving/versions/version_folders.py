"""Which folders under a model's base path are versions to serve.

Names, policies and texts are those of TensorFlow Serving's
file_system_storage_path_source.cc.
"""

import math
import pathlib
import re
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import serving_config
from sicot_tf.serving.versions import whole_versions

# A line that comes at every look is written at most this often.
_REPEAT_LOG_SECONDS = 60.0
_VERSION_NAME = re.compile(r"\s*[+-]?[0-9]{1,30}\s*", re.ASCII)


def list_versions(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Children of `base_path` that are versions: names that are integers.

    As in TensorFlow Serving `0007` is version 7, and of two names of the same
    version the alphabetically later one counts.

    Raises:
        OSError: if the folder can't be read.
    """
    return {
        version: children[-1]
        for version, children in children_by_version(base_path).items()
    }


def children_by_version(
    base_path: pathlib.Path,
) -> dict[int, list[pathlib.Path]]:
    """All children of each version, in the order of their names.

    Raises:
        OSError: if the folder can't be read.
    """
    versions: dict[int, list[pathlib.Path]] = {}
    for child in sorted(base_path.iterdir()):
        # What absl::SimpleAtoi accepts; int() would take 1_000 too.
        if _VERSION_NAME.fullmatch(child.name):
            version = int(child.name)
            if -(2**63) <= version < 2**63:
                versions.setdefault(version, []).append(child)
    return versions


def select_versions(
    policy: Any,
    folders: Mapping[int, pathlib.Path],
    is_whole: Callable[[int], bool],
) -> dict[int, pathlib.Path]:
    """The versions that a `model_version_policy` wants to be served.

    Args:
        policy: a `ServableVersionPolicy`; unset is the latest version.
        folders: all versions there are.
        is_whole: whether a version may be served; a latest version that may
            not leaves its place to the one before.

    Returns:
        Chosen versions and their folders, highest first.
    """
    versions = sorted(folders, reverse=True)
    num_versions = len(versions)
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        wanted = set(policy.specific.versions)
        versions = [version for version in versions if version in wanted]
    elif choice != "all":
        num_versions = max(policy.latest.num_versions, 1)
    selected = {}
    for version in versions:
        if len(selected) == num_versions:
            break
        if is_whole(version):
            selected[version] = folders[version]
    return selected


class Look(NamedTuple):
    """What one look at a base path has found."""

    # Versions to serve, highest first.
    versions: dict[int, pathlib.Path]
    # False if a version was seen that is not yet whole.
    is_done: bool
    # Why versions that have rested for too long are not whole.
    faults: dict[int, str]
    # Why no version can be found; empty if some are, or may still come.
    mistake: str


class VersionFinder:
    """Looks again and again which versions of the models to serve.

    Args:
        poll_wait_seconds: time between two looks.
        incomplete_seconds: a version that is not whole, and in which nothing
            has changed for so long, is no longer waited for.
    """

    def __init__(
        self, poll_wait_seconds: float, incomplete_seconds: float = math.inf
    ):
        self._incomplete_seconds = incomplete_seconds
        # A little less than the time between two looks.
        self._wholeness = whole_versions.WholenessCheck(0.9 * poll_wait_seconds)
        self._logged: dict[str, float] = {}

    def look(
        self,
        config: model_server_config_pb2.ModelConfig,
        known: Mapping[int, pathlib.Path],
    ) -> Look:
        """Finds the versions of one model; what is odd goes to the log.

        Args:
            config: the model.
            known: versions that have been found before; they need not be
                whole any more.

        Raises:
            OSError: if the base path can't be read.
        """
        name = config.name
        base_path = serving_config.local_path(config.base_path)
        children = children_by_version(base_path)
        folders = {}
        for version, folder in children.items():
            folders[version] = folder[-1]
            for ignored in folder[:-1]:
                self.log(
                    "Duplicate version directories detected. Version "
                    f"{version} will be loaded from {folder[-1].name}, "
                    f"{ignored.name} will be ignored."
                )
        is_done = True
        faults = {}

        def is_whole(version: int) -> bool:
            nonlocal is_done
            if version in known:
                return True
            fault = self._wholeness.find_fault(folders[version])
            if not fault:
                return True
            seconds = self._wholeness.seconds_unchanged(folders[version])
            if (
                fault != whole_versions.STILL_CHANGING
                and seconds >= self._incomplete_seconds
            ):
                faults[version] = (
                    f"{folders[version]} is not whole: {fault}; nothing in it "
                    f"has changed for {self._incomplete_seconds:g} seconds"
                )
            else:
                is_done = False
                self.log(
                    f"Version {version} of servable {name} is not loaded, it "
                    f"is not whole: {folders[version]}: {fault}"
                )
            return False

        policy = config.model_version_policy
        versions = select_versions(policy, folders, is_whole)
        for version, directory in versions.items():
            if directory != known.get(version, directory):
                self.log(
                    f"Version {version} of servable {name} stays loaded from "
                    f"{known[version]}; {directory} is ignored."
                )
        for version in sorted(set(policy.specific.versions) - set(folders)):
            self.log(
                f"Version {version} of servable {name}, which was requested to "
                "be served as a 'specific' version in the servable's version "
                "policy, was not found in the file system"
            )
        mistake = ""
        if not versions and is_done and not faults:
            text = (
                f"No versions of servable {name} found under base path "
                f"{base_path}. Did you forget to name your leaf directory as "
                "a number (eg. '/1/')?"
            )
            if whole_versions.is_saved_model(base_path):
                mistake = text = (
                    f"The base path {base_path} is a SavedModel itself: give "
                    "the folder above it, in which the name of each SavedModel "
                    "is its version, a number"
                )
            self.log(text)
        return Look(versions, is_done, faults, mistake)

    def log(self, text: str) -> None:
        """Writes a line that comes at every look once a minute."""
        now = time.monotonic()
        self._logged = {
            line: last
            for line, last in self._logged.items()
            if now - last < _REPEAT_LOG_SECONDS
        }
        if text not in self._logged:
            self._logged[text] = now
            print(text, file=sys.stderr, flush=True)
