"""What a request may ask for beside its photo."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import pydantic

from sicot_tf.recognition import answers
from sicot_tf.recognition.stages import photos


class Wishes(pydantic.BaseModel, extra="forbid"):
    """What a request may ask for beside the photo."""

    localize: bool = pydantic.Field(
        default=True, description="Look for the objects on the photo."
    )
    category: bool = pydantic.Field(
        default=True, description="Tell the category of the photo."
    )
    similar: bool = pydantic.Field(
        default=True, description="Show similar pictures of the catalogue."
    )
    top_k: int = pydantic.Field(
        default=5, ge=1, le=100, description="SKUs for each object."
    )
    box: str | None = pydantic.Field(
        default=None,
        pattern=r"^[0-9]{1,9}(,[0-9]{1,9}){3}$",
        description="x_min,y_min,x_max,y_max in pixels of the photo as one "
        "sees it: only this part is recognised.",
    )
    category_filter: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Only SKUs that have products of this category.",
    )
    variant: str | None = pydantic.Field(
        default=None,
        description="Variant of an A/B test, for tools: otherwise the "
        "visitor's.",
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


def read(query: Sequence[tuple[str, str]], form: Mapping[str, str]) -> Wishes:
    """What the query and the form say.

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
        return Wishes.model_validate(given)
    except pydantic.ValidationError as error:
        raise photos.PhotoError(422, sentence(error.errors())) from error


def described() -> list[dict[str, Any]]:
    """All of them as parameters of an OpenAPI description."""
    properties = Wishes.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False}
        | {"schema": schema, "description": schema["description"]}
        for name, schema in properties.items()
    ]


def sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's errors in a sentence."""
    error = errors[0]
    name = str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        known = ", ".join(Wishes.model_fields)
        return f"Expected parameters {known}; received {name[:60]!r}."
    return (
        f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, received "
        f"{str(error['input'])[:60]!r}."
    )
