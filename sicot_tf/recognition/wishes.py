"""What a request may ask for beside its photo."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Literal
from typing import TypeVar

import pydantic

from sicot_tf.recognition import answers
from sicot_tf.recognition.stages import photos


class Results(pydantic.BaseModel, extra="forbid"):
    """Which page of the results, and how they are filtered and ordered."""

    page: int = pydantic.Field(
        default=1, ge=1, le=10_000, description="Page of the results, from 1."
    )
    page_size: int = pydantic.Field(
        default=20, ge=1, le=100, description="Results of a page."
    )
    category_filter: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Only results of this category and, in the panel, only "
        "SKUs that have products of it.",
    )
    min_price: float | None = pydantic.Field(
        default=None,
        allow_inf_nan=False,
        description="Only results that cost at least so much.",
    )
    max_price: float | None = pydantic.Field(
        default=None,
        allow_inf_nan=False,
        description="Only results that cost at most so much.",
    )
    tags: str | None = pydantic.Field(
        default=None,
        max_length=500,
        description="Only results that have all of these tags: red,cotton.",
    )
    ordered_by: Literal["similarity", "quality"] = pydantic.Field(
        default="quality",
        description="Order of the results; by similarity alone where the "
        "release has no ranker.",
    )
    variant: str | None = pydantic.Field(
        default=None,
        description="Variant of an A/B test, for tools: otherwise the "
        "visitor's.",
    )

    @property
    def wanted_tags(self) -> set[str]:
        """All tags that a result has to have."""
        parts = (self.tags or "").split(",")
        return {part.strip() for part in parts} - {""}


class PhotoSearch(Results):
    """What a request for results may ask for beside the photo."""

    localize: bool = pydantic.Field(
        default=True, description="Look for the objects on the photo."
    )
    box: str | None = pydantic.Field(
        default=None,
        pattern=r"^[0-9]{1,9}(,[0-9]{1,9}){3}$",
        description="x_min,y_min,x_max,y_max in pixels of the photo as one "
        "sees it: only this part is recognised and looked for.",
    )

    def box_in(self, photo: photos.Photo) -> answers.Box | None:
        """The box, cut to the photo.

        Raises:
            photos.PhotoError: 422 if nothing of it lies in the photo.
        """
        if self.box is None:
            return None
        left, top, right, bottom = map(int, self.box.split(","))
        box = left, top, min(right, photo.width), min(bottom, photo.height)
        if box[0] >= box[2] or box[1] >= box[3]:
            raise photos.PhotoError(
                422,
                "Expected a box x_min,y_min,x_max,y_max inside of the photo "
                f"of {photo.width} x {photo.height} pixels, received "
                f"{self.box}.",
            )
        return box


class Wishes(PhotoSearch):
    """What a request may ask for beside the photo."""

    category: bool = pydantic.Field(
        default=True, description="Tell the category of the photo."
    )
    similar: bool = pydantic.Field(
        default=True, description="Show similar pictures of the catalogue."
    )
    search: bool = pydantic.Field(
        default=True,
        description="Show results: the products that look alike.",
    )
    top_k: int = pydantic.Field(
        default=5, ge=1, le=100, description="SKUs for each object."
    )


class QuerySearch(Results):
    """What a request for results may ask for without photo."""

    query: str = pydantic.Field(
        min_length=1, description="What an answer's search.query says."
    )


_Kind = TypeVar("_Kind", bound=Results)


def read(
    query: Sequence[tuple[str, str]],
    form: Mapping[str, str],
    kind: type[_Kind] = Wishes,
) -> _Kind:
    """What the query and the form say.

    Args:
        kind: which wishes there are.

    Raises:
        photos.PhotoError: 422 for what is unknown, out of range or there twice.
    """
    given = dict(form)
    for name, value in query:
        if name in given:
            raise photos.PhotoError(
                422, f"Expected {name:.60} once, received it twice."
            )
        given[name] = value
    try:
        found = kind.model_validate(given)
    except pydantic.ValidationError as error:
        raise photos.PhotoError(422, sentence(error.errors(), kind)) from error
    low, high = found.min_price, found.max_price
    if low is not None and high is not None and low > high:
        raise photos.PhotoError(
            422,
            f"Expected min_price up to max_price, received {low:g} and "
            f"{high:g}.",
        )
    return found


def described(kind: type[Results] = Wishes) -> list[dict[str, Any]]:
    """All of them as parameters of an OpenAPI description."""
    schema = kind.model_json_schema()
    properties, required = schema["properties"], schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required}
        | {"schema": schema, "description": schema["description"]}
        for name, schema in properties.items()
    ]


def sentence(
    errors: Sequence[Mapping[str, Any]], kind: type[Results] = Wishes
) -> str:
    """The first of pydantic's errors in a sentence."""
    error = errors[0]
    name = str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return f"Expected parameters {known}; received {name[:60]!r}."
    if error["type"] == "missing":
        return f"Expected {name}, received none."
    return (
        f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, received "
        f"{str(error['input'])[:60]!r}."
    )
