"""Health, metrics, the documentation and the page."""

import functools
import pathlib
from typing import Any

import fastapi
import starlette.exceptions
from fastapi import responses

from sicot_tf.recognition.http import api_page
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http.service import Service

_WEB = pathlib.Path(__file__).parents[1] / "web"


def add(app: fastapi.FastAPI, service: Service) -> None:
    """What runs and watches the service asks."""

    @app.get("/healthz", summary="Whether the process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Whether photos are answered",
        responses=refusals.described(503),
    )
    async def readyz() -> dict[str, Any]:
        """503 before there is a release, without model server, at the end."""
        if service.is_draining:
            raise limits.refusal(503, "The service ends.")
        found = {}
        for variant in sorted(service.visitors.shares):
            with service.live.of(variant).acquire() as release:
                name, version = release.model_name, release.model_version
                generation = release.index_generation
            if version not in await service.server.versions(name):
                raise limits.refusal(
                    503, f"The model server has no version {version} of {name}."
                )
            found[variant] = {
                "model_version": version,
                "index_generation": generation,
            }
        # Without an A/B test there is one.
        first = next(iter(found.values()))
        return {"status": "ready", **first, "variants": found}

    @app.get("/metrics", response_class=responses.PlainTextResponse)
    async def read_metrics() -> fastapi.Response:
        """Numbers for Prometheus."""
        return fastapi.Response(
            service.counters.text(),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )


def add_pages(app: fastapi.FastAPI, service: Service) -> None:
    """The page and its files, by name."""
    # By name: what a request says is never made a path.
    files = {path.name: path for path in _WEB.glob("*.*") if path.is_file()}

    @functools.cache
    def render_docs() -> str:
        return api_page.render(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> fastapi.Response:
        return responses.HTMLResponse(
            render_docs(),
            headers={"Content-Security-Policy": api_page.POLICY},
        )

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(
        request: fastapi.Request, name: str = "index.html"
    ) -> fastapi.Response:
        if name not in files:
            raise starlette.exceptions.HTTPException(404)
        response = responses.FileResponse(
            files[name], headers={"Cache-Control": "no-cache"}
        )
        if name == "index.html":
            visitor = service.visitors.visitor(request)
            service.visitors.remember(request, response, visitor)
        return response
