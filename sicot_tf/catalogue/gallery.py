"""Products of a live vector index: add, change, remove, find, hand over.

Changes go into the file of live changes beside the generations: whoever
searches the index has them within a second, the next build folds them in.
"""

import contextlib
import dataclasses
import json
import pathlib
import sqlite3
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import folded_products
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue.gallery_rows import RowError
from sicot_tf.data import generations

RECORDS = "changes.jsonl"
# Of which picture each vector of a generation is.
SOURCES = "sources.sqlite"
# Vectors of encoded pictures, `[n, dim]`; ValueError for a bad picture.
Embed = Callable[[Sequence[bytes]], np.ndarray]

_ENDINGS = {b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp"}


class Gallery:
    """The products of a vector index as they are now.

    Args:
        root: folder of the generations.
        catalogue: a product index, for what no live change has told; None:
            only ids are known of its products.
        image_root: folder of the catalogue's relative picture paths.

    Raises:
        ValueError: if one of them is none.
    """

    def __init__(
        self,
        root: pathlib.Path,
        catalogue: pathlib.Path | None = None,
        image_root: pathlib.Path | None = None,
    ):
        self.generation = generations.resolve_generation(root)
        manifest = files.read_json(self.generation / generations.MANIFEST)
        self.signature: str = manifest["signature"]
        self.saved_model_sha256: str = manifest["saved_model_sha256"]
        self.folded: int = manifest["folded_updates"]
        self._image_root = image_root
        self._folded_products = folded_products.read(self.generation)
        with contextlib.ExitStack() as opened:
            self.updates = opened.enter_context(
                vector_updates.VectorUpdates(self.generation.resolve().parent)
            )
            self._catalogue = catalogue and opened.enter_context(
                product_index.ProductIndex(catalogue)
            )
            uri = (self.generation / vector_rows.STORE).resolve().as_uri()
            self._rows = opened.enter_context(
                contextlib.closing(
                    sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
                )
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes all files."""
        self._opened.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def product(self, product_id: str) -> product_index.Product | None:
        """What is known of a product; None if there is none, or it is gone."""
        update = self.updates.find(product_id)
        if update is not None and update.sequence > self.folded:
            return update.product
        if product_id in self._folded_products:
            return self._folded_products[product_id]
        return self._catalogue and self._catalogue.product(product_id)

    def is_there(self, product_id: str) -> bool:
        """Whether a product is found, or known by the catalogue."""
        update = self.updates.find(product_id)
        if update is not None and update.sequence > self.folded:
            return update.product is not None
        if self.product(product_id) is not None:
            return True
        found = self._rows.execute(
            "SELECT 1 FROM vectors WHERE product_id = ? LIMIT 1", (product_id,)
        )
        return found.fetchone() is not None

    def add(self, fields: Mapping[str, Any], embed: Embed) -> int:
        """Adds a product by the fields of `gallery_rows.check`.

        Returns:
            The number of the change; all who look for later ones have it.

        Raises:
            RowError: if it is there already, or has no usable picture.
        """
        name = fields["product_id"]
        if self.is_there(name):
            raise RowError("already_there", f"{name} is there; change it.")
        product = product_index.Product(
            product_id=name,
            # What no classifier knows is a class of its own.
            sku_id=fields.get("sku_id", name),
            title=fields.get("title", ""),
            images=fields.get("images", []),
            tags=fields.get("tags", []),
            category=fields.get("category"),
            attributes=fields.get("attributes", {}),
            updated_at=time.time(),
        )
        return self._put(product, self._read(product.images), embed)

    def change(self, fields: Mapping[str, Any], embed: Embed) -> int:
        """Changes the fields that are given; other attributes stay.

        Pictures that are given replace those that were.

        Raises:
            RowError: if nothing is known of it, or it has no usable picture.
        """
        name = fields["product_id"]
        before = self.product(name)
        if before is None:
            raise RowError(
                "unknown_product",
                f"Nothing is known of {name}. Add it, or give the product "
                "index that has it.",
            )
        given = dict(fields)
        given["attributes"] = before.attributes | fields.get("attributes", {})
        product = dataclasses.replace(before, **given, updated_at=time.time())
        update = self.updates.find(name)
        if (
            update
            and update.product
            and update.product.images == (product.images)
        ):
            pictures = self.updates.pictures(update.sequence)
        else:
            pictures = self._read(product.images)
        return self._put(product, pictures, embed)

    def remove(self, product_id: str) -> int:
        """Takes a product out; raises RowError if it is not there."""
        if not self.is_there(product_id):
            raise RowError("unknown_product", f"{product_id} is not there.")
        return self.updates.delete(product_id)

    def changes(self) -> list[vector_updates.Update]:
        """The newest change of each product, the newest last."""
        newest: dict[str, vector_updates.Update] = {}
        for update in self.updates.since(0):
            newest.pop(update.product_id, None)
            newest[update.product_id] = update
        return list(newest.values())

    def titled(self, text: str, limit: int) -> list[product_index.Product]:
        """Products with a text in their title, changed ones first."""
        changes = self.changes()
        found = [
            each.product
            for each in reversed(changes)
            if each.product and text.lower() in each.product.title.lower()
        ]
        if self._catalogue:
            changed = {each.product_id for each in changes}
            found += [
                each
                for each in self._catalogue.titled(text, limit + len(changed))
                if each.product_id not in changed
            ]
        return found[:limit]

    def known_picture(self) -> tuple[bytes, np.ndarray] | None:
        """A picture that can be read, and its vector by the index's model."""
        for update in reversed(self.changes()):
            if update.saved_model_sha256 == self.saved_model_sha256:
                [data, *_] = self.updates.pictures(update.sequence)
                return data, update.vectors[0]
        path = self.generation / SOURCES
        if not path.is_file():
            return None
        with contextlib.closing(sqlite3.connect(path)) as sources:
            found = sources.execute(
                "SELECT source, product_id, picture FROM pictures "
                "WHERE content IS NOT NULL LIMIT 100"
            ).fetchall()
        rows = np.load(self.generation / vector_rows.ROWS, mmap_mode="r")
        for source, *name in found:
            [slot] = self._rows.execute(
                "SELECT slot FROM vectors WHERE product_id = ? AND picture = ?",
                name,
            ).fetchone()
            with contextlib.suppress(OSError):
                return pathlib.Path(source).read_bytes(), rows[slot]
        return None

    def export(self, folder: pathlib.Path) -> int:
        """Writes the changes as catalogue records, with their pictures.

        `beam_jobs.build_product_index --mode delta` takes them. Returns how
        many there are.
        """
        pictures = folder / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        changes = self.changes()
        lines = []
        for each in changes:
            record = {"product_id": each.product_id, "deleted": True}
            if each.product is not None:
                record = dataclasses.asdict(each.product)
                attributes = record.pop("attributes")
                record["images"] = []
                for place, data in enumerate(
                    self.updates.pictures(each.sequence)
                ):
                    ending = _ENDINGS.get(data[:4], ".jpg")
                    path = pictures / f"{each.sequence}-{place}{ending}"
                    files.write_bytes(path, data)
                    record["images"].append(f"{pictures.name}/{path.name}")
                record = attributes | record
            # As new as the change: the catalogue takes it over.
            record["updated_at"] = each.changed_at
            lines.append(json.dumps(record, ensure_ascii=False))
        files.write_lines(folder / RECORDS, lines)
        return len(lines)

    def _put(
        self,
        product: product_index.Product,
        pictures: Sequence[bytes],
        embed: Embed,
    ) -> int:
        if not pictures:
            raise RowError(
                "no_image", f"{product.product_id} has no picture to find."
            )
        try:
            vectors = np.asarray(embed(pictures), np.float64)
        except ValueError as error:
            raise RowError("decode_error", str(error)) from error
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 1e-6)).all():
            raise RowError(
                "bad_vector", "The model gives a vector without direction."
            )
        return self.updates.put(
            product,
            (vectors / lengths).astype(np.float32),
            pictures,
            self.saved_model_sha256,
        )

    def _read(self, images: Sequence[str]) -> list[bytes]:
        found = []
        for image in images:
            path = pathlib.Path(image)
            if self._image_root is not None:
                path = self._image_root / path
            try:
                found.append(path.read_bytes())
            except (OSError, ValueError) as error:
                raise RowError("missing_image", f"{path}: {error}") from error
        return found
