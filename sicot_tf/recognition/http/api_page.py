"""The documentation of the HTTP API as a plain page.

FastAPI's own loads scripts from another host; this one needs none.
"""

import dataclasses
import pathlib
from typing import Any

from sicot_tf.pages import page

# Of the page only: it has its style inside.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_TEMPLATE = pathlib.Path(__file__).with_suffix(".html.jinja")


@dataclasses.dataclass(frozen=True)
class _Operation:
    """A path and a method."""

    name: str
    summary: str
    description: str
    parameters: list[list[str]]
    responses: list[list[str]]


def render(openapi: dict[str, Any]) -> str:
    """The page of an OpenAPI document, as FastAPI makes it."""
    operations = [
        _Operation(
            name=f"{method.upper()} {path}",
            summary=operation.get("summary", ""),
            description=operation.get("description", ""),
            parameters=[
                [
                    each["name"],
                    _kind(each["schema"]),
                    "required"
                    if each.get("required")
                    else str(each["schema"].get("default", "")),
                    each.get("description")
                    or each["schema"].get("description", ""),
                ]
                for each in operation.get("parameters", [])
            ],
            responses=[
                [code, _kind(_schema_of(each)), each.get("description", "")]
                for code, each in operation["responses"].items()
            ],
        )
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = [
        (
            name,
            schema.get("description", ""),
            [
                [field, _kind(each), each.get("description", "")]
                for field, each in schema["properties"].items()
            ],
        )
        for name, schema in openapi["components"]["schemas"].items()
        if "properties" in schema
        # FastAPI's own error, which this service never gives.
        and "ValidationError" not in name
    ]
    return page.render(
        _TEMPLATE,
        title=openapi["info"]["title"],
        version=openapi["info"]["version"],
        operations=operations,
        schemas=schemas,
    )


def _schema_of(response: dict[str, Any]) -> dict[str, Any]:
    for content in response.get("content", {}).values():
        return content.get("schema", {})
    return {}


def _kind(schema: dict[str, Any]) -> str:
    """The type of a value, in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        if "items" in schema:
            return f"list of {_kind(schema['items'])}"
        return f"list of {len(schema.get('prefixItems', []))} numbers"
    return schema.get("type", "")
