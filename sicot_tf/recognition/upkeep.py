"""What a running service does now and then, whether anybody asks or not."""

import asyncio
import logging
from collections.abc import Callable

from sicot_tf.recognition.releases import held_releases
from sicot_tf.recognition.releases import live_releases
from sicot_tf.recognition.visits import events

_log = logging.getLogger(__name__)
_UPDATE_SECONDS = 1.0
_ROTATE_SECONDS = 60.0


async def run(
    live: live_releases.LiveReleases, log: events.EventLog | None
) -> None:
    """Takes changes of the catalogue, ends files of events; until cancelled.

    What the gallery has changed is found a second later, and a file of events
    ends soon after its hour also where nobody comes.
    """

    def take_changes() -> None:
        for each in live.all():
            with each.acquire() as release:
                if release.vector_index is not None:
                    release.vector_index.apply_updates()

    works = [_again(take_changes, _UPDATE_SECONDS)]
    if log:
        works.append(_again(log.rotate, _ROTATE_SECONDS))
    await asyncio.gather(*works)


async def _again(work: Callable[[], None], seconds: float) -> None:
    last = ""
    while True:
        try:
            await asyncio.to_thread(work)
            last = ""
        except held_releases.NoReleaseError:
            pass  # There is none yet.
        except Exception as error:
            # A lasting fault shall not fill the log.
            if str(error) != last:
                _log.exception("The upkeep failed; it is tried again.")
            last = str(error)
        await asyncio.sleep(seconds)
