"""What all requests of the recognition service share."""

import dataclasses

from starlette import requests

from sicot_tf.recognition import model_server
from sicot_tf.recognition import pipeline
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
        by_quality: whether a release's ranker orders results.
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
    by_quality: bool = True
    is_draining: bool = False

    def request_of(
        self,
        request: requests.Request,
        release: open_release.OpenRelease,
        variant: str,
    ) -> pipeline.Request:
        """What an answer is made for and from."""
        return pipeline.Request(
            release=release,
            server=self.server,
            picture_url=self.pictures_of(release).url,
            request_id=request.state.request_id,
            variant=variant,
            settings=self.visitors.settings.get(variant),
            by_quality=self.by_quality,
            max_bytes=self.limits.max_bytes,
            max_pixels=self.limits.max_pixels,
        )

    def pictures_of(
        self, release: open_release.OpenRelease
    ) -> pictures.Pictures:
        """Pictures of a release's catalogue, or in the folder given for all."""
        root = None if self.pictures.has_root else release.catalogue_root
        return self.pictures.within(root, release.vector_index)
