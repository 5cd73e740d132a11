"""One model of the config: which of its versions to load, and to unload.

A new version is loaded and warm before the old one goes, and one that fails to
load leaves the old one in place.
"""

import pathlib

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

    def take(self, look: version_folders.Look, may_unload_all: bool) -> bool:
        """Has the versions served that a look has found.

        False if it has found none, and what is loaded stays.
        """
        self.fault = look.fault
        if look.versions is None:
            return True
        if not look.versions and self._aspired and not may_unload_all:
            return False
        self._aspired = look.versions
        return True

    def act(self, loaded: loaded_versions.LoadedVersions) -> None:
        """Starts the loads and unloads that are due."""
        if self._aspired is None:
            return
        for number, version in list(self.versions.items()):
            if number not in self._aspired:
                loaded.give_up(version)
            # One that failed is not tried again as long as it is wanted.
            if version.state == _State.END and (
                number not in self._aspired or not version.error_code
            ):
                del self.versions[number]
        for number in sorted(self._aspired, reverse=True):
            if number in self.versions:
                self.versions[number].is_wanted = True
            else:
                self.versions[number] = loaded.add(
                    self.config.name, number, self._aspired[number]
                )
        self._unload(loaded)

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
