"""The HTTP interface of the recognition service, put together."""

import fastapi

import sicot_tf
from sicot_tf.recognition.http import catalogue_paths
from sicot_tf.recognition.http import front
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import operation_paths
from sicot_tf.recognition.http import recognition_paths
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http import search_paths
from sicot_tf.recognition.http.service import Service


def make(service: Service) -> fastapi.FastAPI:
    """The application; who runs it starts and ends what it needs."""
    app = fastapi.FastAPI(
        title="Product recognition",
        version=sicot_tf.__version__,
        description="From a photo to the products of the catalogue on it.",
        # Their pages load scripts of another host.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(front.Front, counters=service.counters)
    refusals.add_handlers(app)

    async def guard(request: fastapi.Request) -> None:
        service_keys = service.keys.check(request)
        rate.check(request, service_keys)

    rate = limits.RateLimit(service.limits.requests_per_minute)
    guarded = [fastapi.Depends(guard)]
    recognition_paths.add(app, service, guarded)
    search_paths.add(app, service, guarded)
    catalogue_paths.add(app, service, guarded)
    if service.visitors.log:
        recognition_paths.add_events(app, service, guarded)
    operation_paths.add(app, service)
    operation_paths.add_pages(app, service)
    return app
