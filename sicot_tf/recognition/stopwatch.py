"""How long the stages of an answer take."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Milliseconds of each stage, and `total`."""

    def __init__(self):
        self._start = time.perf_counter()
        self.milliseconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = 1000 * (time.perf_counter() - start)
            self.milliseconds[name] = round(
                self.milliseconds.get(name, 0.0) + spent, 3
            )

    def stop(self) -> dict[str, float]:
        """All of them, for an answer."""
        total = 1000 * (time.perf_counter() - self._start)
        return self.milliseconds | {"total": round(total, 3)}
