"""GET /v1/products and /v1/pictures."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import Annotated
from typing import Any
from typing import TypeVar

import fastapi
import pydantic
from fastapi import responses

from sicot_tf.recognition import answers
from sicot_tf.recognition import nearest_products
from sicot_tf.recognition import panel
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http.service import Service
from sicot_tf.recognition.releases import open_release

_MAX_PRODUCTS = 1000
_PICTURE_SECONDS = 3600
_Found = TypeVar("_Found")
_Variant = Annotated[
    str | None,
    fastapi.Query(description="Whose index comes first, for tools."),
]


class Products(pydantic.BaseModel):
    """All products of a SKU, the newest first."""

    sku_id: str
    products: list[answers.Product]
    index_generation: str


def add(app: fastapi.FastAPI, service: Service, guarded: list[Any]) -> None:
    """What the catalogue has, from the live indexes."""

    async def find(
        request: fastapi.Request,
        variant: str | None,
        look: Callable[[open_release.OpenRelease], _Found | None],
    ) -> _Found | None:
        """What is found first: in the visitor's release, then in others."""
        visitor = service.visitors.visitor(request)
        own = service.visitors.choose(visitor, variant)
        for live in service.live.all(own):
            with live.acquire() as release:
                if found := await asyncio.to_thread(look, release):
                    return found
        return None

    @app.get(
        "/v1/products/{sku_id:path}",
        dependencies=guarded,
        summary="All products of a SKU",
        responses=refusals.described(401, 404, 422, 429, 503),
    )
    async def products(
        request: fastapi.Request, sku_id: str, variant: _Variant = None
    ) -> Products:
        """The newest first, at most 1,000.

        From the index of the visitor's variant, or of another one.
        """

        def look(release: open_release.OpenRelease) -> Products | None:
            found = nearest_products.now(
                release.vector_index,
                release.index.products_of(sku_id, _MAX_PRODUCTS),
            )
            url = service.pictures_of(release).url
            return found and Products(
                sku_id=sku_id,
                products=[panel.to_product(each, url) for each in found],
                index_generation=release.index_generation,
            )

        if found := await find(request, variant, look):
            return found
        raise limits.refusal(
            404, f"The catalogue has no product of SKU {sku_id:.200}."
        )

    # No key: the id itself is signed, and a page's <img> sends no header.
    @app.get(
        "/v1/pictures/{identity}",
        summary="A picture of the catalogue",
        response_class=fastapi.Response,
        responses=refusals.described(404, 422, 503),
    )
    async def picture(
        request: fastapi.Request, identity: str
    ) -> fastapi.Response:
        """The file that an answer's picture URL means."""

        def look(
            release: open_release.OpenRelease,
        ) -> tuple[pathlib.Path | bytes, str] | None:
            return service.pictures_of(release).find(identity, release.index)

        found = await find(request, None, look)
        if found is None:
            raise limits.refusal(404, "There is no such picture.")
        content, content_type = found
        kind = fastapi.Response
        if isinstance(content, pathlib.Path):
            kind = responses.FileResponse
        return kind(
            content,
            media_type=content_type,
            headers={"Cache-Control": f"public, max-age={_PICTURE_SECONDS}"},
        )
