"""GET /v1/products and /v1/pictures."""

import asyncio
from typing import Any

import fastapi
import pydantic
from fastapi import responses

from sicot_tf.recognition import answers
from sicot_tf.recognition import limits
from sicot_tf.recognition import panel
from sicot_tf.recognition import refusals
from sicot_tf.recognition.service import Service

_MAX_PRODUCTS = 1000
_PICTURE_SECONDS = 3600


class Products(pydantic.BaseModel):
    """All products of a SKU, the newest first."""

    sku_id: str
    products: list[answers.Product]
    index_generation: str


def add(app: fastapi.FastAPI, service: Service, guarded: list[Any]) -> None:
    """What the catalogue has, from the live index."""

    @app.get(
        "/v1/products/{sku_id:path}",
        dependencies=guarded,
        summary="All products of a SKU",
        responses=refusals.described(401, 404, 422, 429, 503),
    )
    async def products(sku_id: str) -> Products:
        """The newest first, at most 1,000."""
        with service.live.acquire() as release:
            found = await asyncio.to_thread(
                release.index.products_of, sku_id, _MAX_PRODUCTS
            )
            if not found:
                raise limits.refusal(
                    404, f"The catalogue has no product of SKU {sku_id:.200}."
                )
            return Products(
                sku_id=sku_id,
                products=[
                    panel.to_product(each, service.pictures.url)
                    for each in found
                ],
                index_generation=release.index_generation,
            )

    # No key: the id itself is signed, and a page's <img> sends no header.
    @app.get(
        "/v1/pictures/{identity}",
        summary="A picture of the catalogue",
        response_class=fastapi.Response,
        responses=refusals.described(404, 422, 503),
    )
    async def picture(identity: str) -> fastapi.Response:
        """The file that an answer's picture URL means."""
        with service.live.acquire() as release:
            found = await asyncio.to_thread(
                service.pictures.find, identity, release.index
            )
        if found is None:
            raise limits.refusal(404, "There is no such picture.")
        path, content_type = found
        return responses.FileResponse(
            path,
            media_type=content_type,
            headers={"Cache-Control": f"public, max-age={_PICTURE_SECONDS}"},
        )
