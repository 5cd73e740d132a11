"""What pages fill in: numbers as people read them, and pictures.

Templates have each function as a filter of its name.
"""

import base64
import pathlib

_MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def number(value: float | None) -> str:
    """A number as people read it; `-` for None."""
    if value is None:
        return "-"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """A fraction as percent; `-` for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def count(number: int, name: str, plural: str = "s") -> str:
    """A number with its noun."""
    return f"{number:,} {name}{plural if number != 1 else ''}"


def data_uri(picture: pathlib.Path | bytes | str) -> str:
    """A picture as an address that holds it.

    Inside `<img>` even an SVG runs no script.

    Args:
        picture: a plot's file, the bytes of a JPEG, or such an address.

    Raises:
        ValueError: if the picture would have to be loaded from elsewhere, or
            a plot is neither SVG nor PNG.
    """
    if isinstance(picture, str):
        if not picture.startswith("data:image/"):
            raise ValueError(
                "Expected a picture as data:image/ URI, as the page loads "
                f"nothing, received {picture[:40]!r}."
            )
        return picture
    media_type = "image/jpeg"
    if isinstance(picture, pathlib.Path):
        if picture.suffix not in _MEDIA_TYPES:
            raise ValueError(
                f"Expected a plot that ends in {' or '.join(_MEDIA_TYPES)}, "
                f"received {picture}."
            )
        media_type = _MEDIA_TYPES[picture.suffix]
        picture = picture.read_bytes()
    return f"data:{media_type};base64,{base64.b64encode(picture).decode()}"


FILTERS = (count, data_uri, number, percent)
