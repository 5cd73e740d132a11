"""What the recognition service answers: the panel as JSON.

The OpenAPI page is made of these classes, so their fields and the sentences
behind them are the documentation of the API. Fields are added, never renamed.
"""

from typing import Annotated
from typing import Any
from typing import Literal

import pydantic

# `[x_min, y_min, x_max, y_max]`, the last two exclusive.
Box = Annotated[
    tuple[int, int, int, int],
    pydantic.Field(
        description="[x_min, y_min, x_max, y_max] in pixels of the photo as "
        "one sees it, after its EXIF orientation is applied."
    ),
]


class Product(pydantic.BaseModel):
    """A product of the catalogue, as its owner describes it."""

    product_id: str
    sku_id: str
    title: str
    pictures: list[str] = pydantic.Field(
        description="URLs of this service, the main picture first."
    )
    tags: list[str]
    category: str | None
    price: float | str | None = None
    attributes: dict[str, Any]


class Alternative(pydantic.BaseModel):
    """Another SKU that comes into question."""

    sku_id: str
    score: float
    product: Product | None


class SimilarPicture(pydantic.BaseModel):
    """A catalogue picture that looks alike: a reason for the answer."""

    product_id: str
    sku_id: str
    picture: str = pydantic.Field(description="URL of this service.")
    distance: float = pydantic.Field(
        description="Squared distance of the unit embeddings, 0 to 4."
    )


class SeenWord(pydantic.BaseModel):
    """A word that the model sees in the picture."""

    word: str
    probability: float


class RecognisedObject(pydantic.BaseModel):
    """One object on the photo, and the SKU that it seems to be."""

    box: Box
    box_from: Literal["localisation", "user", "photo"] = pydantic.Field(
        description="Who drew the box; `photo`: it is the whole photo."
    )
    sku_id: str
    score: float = pydantic.Field(
        description="Calibrated probability, 0 to 1, that the SKU is right."
    )
    recognised: bool = pydantic.Field(
        description="Whether the score reaches the model's threshold."
    )
    product: Product | None = pydantic.Field(
        description="None if the catalogue has no product of this SKU."
    )
    note: str | None = pydantic.Field(
        default=None,
        description="One sentence if something is missing, for example a "
        "SKU without product or a product without picture.",
    )
    alternatives: list[Alternative]
    similar_pictures: list[SimilarPicture]
    words: list[SeenWord]


class Category(pydantic.BaseModel):
    """The category of the photo, and who voted for it."""

    name: str
    score: float
    by_model: dict[str, float] = pydantic.Field(
        description="Share of the classifier's probability, best five."
    )
    by_search: dict[str, float] = pydantic.Field(
        description="Share of the votes of the nearest pictures, best five."
    )


class SearchResult(pydantic.BaseModel):
    """A product of the catalogue that looks alike."""

    product: Product
    picture: str | None = pydantic.Field(
        description="URL of the picture of it that looks most alike; null if "
        "it can't be shown here."
    )
    similarity: float = pydantic.Field(
        description="Inner product of the unit embeddings, -1 to 1."
    )


class Facets(pydantic.BaseModel):
    """What the results could be narrowed to, with numbers of products."""

    categories: dict[str, int]
    tags: dict[str, int] = pydantic.Field(description="Most frequent twenty.")
    min_price: float | None
    max_price: float | None


class Search(pydantic.BaseModel):
    """A page of the products that look alike."""

    query: str = pydantic.Field(
        description="What was looked for; GET /v1/search takes it for other "
        "pages and filters without the photo."
    )
    box: Box | None = pydantic.Field(
        description="Part of the photo that was looked for; null for a query "
        "without photo."
    )
    box_from: Literal["search", "localisation", "user", "photo"] | None = (
        pydantic.Field(
            description="Who drew the box; null for a query without photo."
        )
    )
    total: int = pydantic.Field(description="Products of all pages together.")
    page: int = pydantic.Field(description="From 1.")
    page_size: int
    results: list[SearchResult]
    facets: Facets = pydantic.Field(description="Of all that was found.")
    ordered_by: Literal["similarity", "quality"]
    vector_index_generation: str


class SearchAnswer(pydantic.BaseModel):
    """The products that look alike, without the panel."""

    request_id: str
    search: Search
    model_version: int
    index_generation: str
    variant: str
    milliseconds: dict[str, float] = pydantic.Field(
        description="Time of each stage, and `total`."
    )


class Photo(pydantic.BaseModel):
    """Size of the photo as one sees it, in pixels."""

    width: int
    height: int


class Answer(pydantic.BaseModel):
    """The panel of a photo."""

    request_id: str
    recognised: bool = pydantic.Field(
        description="Whether any object was recognised. Otherwise the objects "
        "are guesses, and to be shown as such."
    )
    photo: Photo
    category: Category | None
    objects: list[RecognisedObject] = pydantic.Field(
        description="The main one first."
    )
    search: Search | None = pydantic.Field(
        default=None,
        description="First page of the products that look alike; null without "
        "a vector index.",
    )
    model_version: int
    index_generation: str
    variant: str
    milliseconds: dict[str, float] = pydantic.Field(
        description="Time of each stage, and `total`."
    )


class Refusal(pydantic.BaseModel):
    """Why a request is not answered."""

    error: str = pydantic.Field(description="One sentence.")
    request_id: str
