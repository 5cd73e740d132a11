"""One model of the config: which of its versions to load, and to unload.

A new version is loaded and warm before the old one goes, and one that fails to
load leaves the old one in place.
"""

import pathlib
import time

from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.versions import loaded_versions
from sicot_tf.serving.versions import version_folders

_State = loaded_versions.State


class Model:
    """A model and its versions; guarded by `LoadedVersions.changed`.

    Args:
        config: its part of the server's config.
        is_first: whether it came with the server's first config.

    Attributes:
        is_removed: whether it stands in the config no more.
        versions: those that are not yet gone, by number.
        fault: code and text of why there is none, nor will be; or empty.
    """

    def __init__(
        self, config: model_server_config_pb2.ModelConfig, is_first: bool
    ):
        self.config = config
        self.is_first = is_first
        self.is_removed = False
        self.versions: dict[int, loaded_versions.Version] = {}
        self.fault = ""
        # Versions that are to be served; None before the first look.
        self._aspired: dict[int, pathlib.Path] | None = None

    def remove(self) -> None:
        """All its versions are to go."""
        self.is_removed = True
        self._aspired = {}

    def take(
        self,
        look: version_folders.Look,
        *,
        may_unload_all: bool,
        must_have_versions: bool,
    ) -> bool:
        """Has the versions served that a look has found.

        Args:
            look: at the model's base path.
            may_unload_all: whether none found means none served.
            must_have_versions: whether none found is a fault.

        Returns:
            False if none was found, and what is loaded stays.
        """
        stays = not look.versions and bool(self._aspired) and not may_unload_all
        if not stays:
            self._aspired = look.versions
        self.fault = ""
        if not look.versions and look.is_done:
            if look.faults:
                fault = look.faults[max(look.faults)]
                self.fault = f"FAILED_PRECONDITION: {fault}"
            elif look.mistake:
                self.fault = f"NOT_FOUND: {look.mistake}"
            elif must_have_versions:
                self.fault = (
                    "NOT_FOUND: Unable to find a numerical version path for "
                    f"servable {self.config.name} at: {self.config.base_path}"
                )
        return not stays

    def act(self, loaded: loaded_versions.LoadedVersions) -> float:
        """Starts the loads and unloads that are due; time of the next one."""
        if self._aspired is None:
            return float("inf")
        self._forget(loaded)
        for number in sorted(self._aspired, reverse=True):
            if number in self.versions:
                self.versions[number].is_wanted = True
            else:
                self.versions[number] = loaded.add(
                    self.config.name, number, self._aspired[number]
                )
        self._unload(loaded)
        next_retry = float("inf")
        for version in self.versions.values():
            if version.retry_time is None:
                continue
            if version.retry_time <= time.monotonic():
                loaded.retry(version)
            else:
                next_retry = min(next_retry, version.retry_time)
        return next_retry

    def _forget(self, loaded: loaded_versions.LoadedVersions) -> None:
        """Lets go of versions that are unwanted or gone."""
        for number, version in list(self.versions.items()):
            if number not in self._aspired:
                loaded.give_up(version)
            # One that failed is not tried again as long as it is wanted.
            if version.state == _State.END and (
                number not in self._aspired or not version.error_code
            ):
                del self.versions[number]

    def _unload(self, loaded: loaded_versions.LoadedVersions) -> None:
        """Unloads unwanted versions.

        Until a wanted one serves, the highest of the others does.
        """
        available = [
            version
            for _, version in sorted(self.versions.items())
            if version.state == _State.AVAILABLE
        ]
        unwanted = [
            version
            for version in available
            if version.number not in self._aspired
        ]
        if self._aspired and len(unwanted) == len(available):
            unwanted = unwanted[:-1]
        for version in unwanted:
            loaded.unload(version)

    def is_ready(self) -> bool:
        """Whether a version takes requests."""
        return any(
            version.state == _State.AVAILABLE
            for version in self.versions.values()
        )

    def is_settled(self) -> bool:
        """Whether waiting for it can end: ready, failed, or removed."""
        if self.is_removed or self.is_ready():
            return True
        if not self.versions:
            return bool(self.fault) and not self._aspired
        return all(
            version.state == _State.END for version in self.versions.values()
        )

    def describe_failure(self) -> str:
        """Which model or version is not ready, and why."""
        if not self.versions:
            reason = f" due to error: {self.fault}" if self.fault else ""
            return f"{{name: {self.config.name}}}{reason}"
        version = self.versions[max(self.versions)]
        if not version.error_code:
            return f"{version}"
        code = errors.code_name(version.error_code)
        return f"{version} due to error: {code}: {version.message}"
