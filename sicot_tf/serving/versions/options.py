"""How versions are looked for and loaded."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Options:
    """Raises ValueError if a time is negative."""

    # Between two looks for versions; 0 looks only when a config is set.
    file_system_poll_wait_seconds: float = 1.0
    # Further attempts after a failed load, and the time between two.
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    # Versions that are loaded at the same time.
    num_load_threads: int = 1
    # Whether a label not in use may be given to a version that isn't loaded.
    allow_version_labels_for_unavailable_models: bool = False
    # Whether a base path without versions unloads the model.
    unload_when_empty: bool = False
    # A version that is not whole, and in which nothing has changed for so
    # long, is told as ended; it is loaded all the same if it becomes whole.
    incomplete_version_seconds: float = math.inf
    # Whether no version at all is an error, rather than waited for.
    fail_if_no_model_versions_found: bool = False

    def __post_init__(self):
        for name in (
            "file_system_poll_wait_seconds",
            "incomplete_version_seconds",
        ):
            seconds = getattr(self, name)
            if not seconds >= 0:
                raise ValueError(
                    f"Expected {name} of 0 or more, received {seconds}."
                )
