"""URLs of the catalogue's pictures, and the files behind them.

An id names a product and the place of a picture in its list, never a file: the
live index says which file that is. It is signed together with what the index
said, so that a page can show the pictures of an answer without an API key,
nobody can ask for others, and another index never shows another picture.
"""

import base64
import binascii
import copy
import hashlib
import hmac
import logging
import pathlib
import urllib.parse
from typing import Protocol

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.recognition.stages import photos

_log = logging.getLogger(__name__)
_SIGNATURE_BYTES = 9
_MAX_ID = 2000


class Changes(Protocol):
    """Products that were changed since the index was built."""

    def product(
        self, product_id: str
    ) -> tuple[bool, product_index.Product | None]:
        """Whether a product was changed, and what it is now."""

    def picture(self, product_id: str, place: int) -> bytes | None:
        """A picture of a product that was changed."""


class Pictures:
    """Pictures of products whose catalogue gave local paths or URLs."""

    def __init__(
        self,
        root: pathlib.Path | None,
        secret: bytes = b"",
        prefix: str = "/v1/pictures/",
    ):
        """Nothing is read yet.

        Args:
            root: where relative paths start, and all files have to lie; None:
                no file is shown.
            secret: signs the ids.
            prefix: of the URLs of this service.
        """
        self._root = root.resolve() if root else None
        self._secret = secret
        self._prefix = prefix
        self._changes: Changes | None = None
        # Shared by copies.
        self._warned: set[str] = set()

    def within(
        self, root: pathlib.Path | None, changes: Changes | None = None
    ) -> "Pictures":
        """The same with another root, unless it has one, and with changes.

        Args:
            changes: knows products that were changed, and their pictures.
        """
        if changes is None and (self._root or not root):
            return self
        found = copy.copy(self)
        if root and not self._root:
            found._root = root.resolve()
        found._changes = changes
        return found

    @property
    def has_root(self) -> bool:
        """Whether relative paths start at a folder that was given."""
        return self._root is not None

    def url(self, product_id: str, place: int, image: str) -> str | None:
        """Where a picture is seen; None if it can't be.

        Args:
            place: in the product's list of images.
            image: path or URI, as the catalogue gave it.
        """
        scheme = _scheme(image)
        if scheme in ("http", "https"):
            # Seen at its own place; nothing is fetched from here.
            return image
        is_changed, _ = self._changed(product_id)
        if not is_changed and scheme:
            return None
        if not is_changed and self._root is None:
            if not self._warned:
                self._warned.add(image)
                _log.warning(
                    "The index has pictures by relative paths, such as %s, "
                    "which are not shown: give --catalogue_root.",
                    image,
                )
            return None
        text = f"{place}:{product_id}".encode("utf-8", "surrogatepass")
        identity = base64.urlsafe_b64encode(self._sign(text, image) + text)
        return self._prefix + identity.decode("ascii").rstrip("=")

    def find(
        self, identity: str, index: product_index.ProductIndex
    ) -> tuple[pathlib.Path | bytes, str] | None:
        """File, or bytes, and content type of a picture; None for none.

        Args:
            identity: what follows the prefix in a URL.
        """
        if len(identity) > _MAX_ID:
            return None
        try:
            # With all the signs that were cut off, or more.
            data = base64.b64decode(f"{identity}===", b"-_", validate=False)
            signature, text = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
            place, _, product_id = text.decode(
                "utf-8", "surrogatepass"
            ).partition(":")
            is_changed, product = self._changed(product_id)
            if not is_changed:
                product = index.product(product_id)
            if product is None:
                return None
            image = product.images[int(place)]
        except (binascii.Error, IndexError, ValueError):
            return None
        if not hmac.compare_digest(signature, self._sign(text, image)):
            return None
        if is_changed:
            return self._find_bytes(product_id, int(place))
        return self._find_file(image)

    def _changed(
        self, product_id: str
    ) -> tuple[bool, product_index.Product | None]:
        if self._changes is None:
            return False, None
        return self._changes.product(product_id)

    def _find_bytes(
        self, product_id: str, place: int
    ) -> tuple[bytes, str] | None:
        content = self._changes.picture(product_id, place)
        kind = photos.sniff(content[:16]) if content else None
        return (content, photos.CONTENT_TYPES[kind]) if kind else None

    def _find_file(self, image: str) -> tuple[pathlib.Path, str] | None:
        if _scheme(image) or self._root is None:
            return None
        try:
            # Links are followed first: what they lead to has to be inside.
            path = (self._root / image).resolve(strict=True)
            if not path.is_relative_to(self._root) or not path.is_file():
                return None
            with path.open("rb") as file:
                kind = photos.sniff(file.read(16))
        except (OSError, ValueError):  # Also NUL in the name.
            return None
        return (path, photos.CONTENT_TYPES[kind]) if kind else None

    def _sign(self, text: bytes, image: str) -> bytes:
        signed = text + b"\0" + image.encode("utf-8", "surrogatepass")
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        return digest[:_SIGNATURE_BYTES]


def find_root(generation: pathlib.Path) -> pathlib.Path | None:
    """The folder of the catalogue's files, if it lies near the index.

    The manifest names them without their folder, but with their SHA-256:
    beside the index, or in a folder beside it, the very file is looked for.
    """
    inputs = files.read_json(generation / generations.MANIFEST).get("inputs")
    if not inputs:
        return None
    first = inputs[0]
    nearby = generation.resolve().parent.parent
    for path in sorted((*nearby.glob("*/"), nearby)):
        # Names may have folders of their own.
        file = path / first["name"]
        try:
            if file.is_file() and files.sha256(file) == first["sha256"]:
                return file.parent
        except OSError:
            continue  # Nobody has to be able to read all that is there.
    return None


def _scheme(image: str) -> str:
    """http, s3 and so on; "" for a path."""
    try:
        return urllib.parse.urlsplit(image).scheme if "://" in image else ""
    except ValueError:
        return "?"
