"""What all requests of the recognition service share."""

import dataclasses

from sicot_tf.recognition import limits
from sicot_tf.recognition import live_release
from sicot_tf.recognition import metrics
from sicot_tf.recognition import model_server
from sicot_tf.recognition import photos
from sicot_tf.recognition import pictures
from sicot_tf.recognition import visitors


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
        live: the release in use.
        is_draining: the process ends; load balancers send others elsewhere.
    """

    live: live_release.LiveRelease
    server: model_server.ModelServer
    pictures: pictures.Pictures
    keys: limits.ApiKeys
    limits: Limits
    queue: limits.Queue
    counters: metrics.Metrics
    visitors: visitors.Visitors
    is_draining: bool = False
