"""What all requests of the recognition service share."""

import dataclasses

from sicot_tf.recognition import model_server
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.http import visitors
from sicot_tf.recognition.releases import live_releases
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.stages import photos
from sicot_tf.recognition.stages import pictures


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, and when one gives up."""

    max_bytes: int = photos.MAX_BYTES
    max_pixels: int = photos.MAX_PIXELS
    max_queue: int = 64
    timeout_seconds: float = 30.0
    requests_per_minute: int = 0


@dataclasses.dataclass
class Service:
    """What requests share.

    Attributes:
        live: the release in use, of each variant of `visitors`.
        is_draining: the process ends; load balancers send others elsewhere.
    """

    live: live_releases.LiveReleases
    server: model_server.ModelServer
    pictures: pictures.Pictures
    keys: limits.ApiKeys
    limits: Limits
    queue: limits.Queue
    counters: metrics.Metrics
    visitors: visitors.Visitors
    is_draining: bool = False

    def pictures_of(
        self, release: open_release.OpenRelease
    ) -> pictures.Pictures:
        """Pictures of a release's catalogue, unless a folder was given."""
        if self.pictures.has_root:
            return self.pictures
        return self.pictures.within(release.catalogue_root)
