"""Where a folder or a file is: a path, or the URL of an object store."""

import pathlib
import posixpath
import re

# A path of this machine, or a URL such as s3://bucket/folder as text:
# `pathlib.Path` would make one slash of two.
Location = pathlib.Path | str

# Stores that outputs can go to; inputs may also be what else Beam reads.
SCHEMES = ("s3", "gs")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def location(text: str) -> Location:
    """What a flag names: a URL stays text, anything else is a path."""
    return text.rstrip("/") if _URL.match(text) else pathlib.Path(text)


def scheme(place: Location) -> str:
    """`s3`, `gs`, ... of a URL; "" of a path."""
    found = _URL.match(place) if isinstance(place, str) else None
    return found[1] if found else ""


def is_remote(place: Location) -> bool:
    """Whether it is a URL rather than a path of this machine."""
    return bool(scheme(place))


def join(place: Location, *names: str) -> Location:
    """A folder or file inside of `place`."""
    if is_remote(place):
        return "/".join([place.rstrip("/"), *names])
    return pathlib.Path(place).joinpath(*names)


def name(place: Location) -> str:
    """The last part of it."""
    return posixpath.basename(str(place).rstrip("/"))


def parent(place: Location) -> Location:
    """What it lies in."""
    if is_remote(place):
        return posixpath.dirname(place.rstrip("/"))
    return pathlib.Path(place).parent
