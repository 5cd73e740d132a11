"""Vectors of all sources, checked, of length 1, and in one array."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from beam_jobs.records import raw_records
from beam_jobs.vectors import embedding
from beam_jobs.vectors import wanted
from beam_jobs.vectors.live_changes import LiveChanges
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue.vectors import VectorRow

REJECTS = "rejects.jsonl"
# In the work folder: vectors of live changes, and pictures of some.
_LIVE = "live.vectors"
_PICTURES = "live"
_ASSEMBLED = "assembled.vectors"
# Shorter ones have no direction.
_MIN_LENGTH = 1e-6


def note_live(
    work: pathlib.Path,
    root: pathlib.Path,
    changes: LiveChanges,
    identity: dict[str, Any],
    *,
    can_compare: bool,
    can_embed: bool,
) -> None:
    """Takes the vectors of live changes, or their pictures to embed them.

    Args:
        root: folder of the vector index.
        can_compare: whether vectors of the same model are of the signature
            that the new ones are of.
        can_embed: whether there is a model for those of another one.

    Raises:
        ValueError: if a change is by another model, and none is given.
    """
    vectors = []
    num_rows = 0
    put = [each for each in changes.folded.values() if each.product]
    if not put:
        (work / _LIVE).write_bytes(b"")
        return
    (work / _PICTURES).mkdir(exist_ok=True)
    with (
        vector_updates.VectorUpdates(root) as updates,
        wanted.opened(work / wanted.FILE) as listed,
    ):
        for update in put:
            pictures = updates.pictures(update.sequence)
            is_ours = (
                can_compare
                and update.saved_model_sha256 == identity["saved_model_sha256"]
                and update.vectors.shape[1] == identity["dim"]
            )
            if not is_ours and not can_embed:
                raise ValueError(
                    f"{update.product_id} was changed live by another model "
                    "than that of the product index's embeddings. Give "
                    "--saved_model, to embed its pictures anew."
                )
            for place, data in enumerate(pictures):
                name = update.product_id, place
                if is_ours:
                    digest = hashlib.sha256(data).hexdigest()
                    # Those of a base stay.
                    listed.execute(
                        "UPDATE wanted SET file = ?, place = ?, content = ? "
                        "WHERE product_id = ? AND picture = ? AND "
                        "file IS NULL",
                        (wanted.LIVE, num_rows + place, digest, *name),
                    )
                    continue
                path = work / _PICTURES / f"{update.sequence}-{place}"
                path.write_bytes(data)
                listed.execute(
                    "UPDATE wanted SET path = ? WHERE product_id = ? AND "
                    "picture = ?",
                    (str(path), *name),
                )
            if is_ours:
                vectors.append(update.vectors)
                num_rows += len(update.vectors)
    with (work / _LIVE).open("wb") as file:
        for each in vectors:
            file.write(each.astype("<f4").tobytes())


def note_stored(work: pathlib.Path, index_generation: pathlib.Path) -> None:
    """Takes the embeddings that the product index has."""
    stored = np.load(index_generation / product_index.EMBEDDINGS, mmap_mode="r")
    with wanted.opened(work / wanted.FILE) as listed:
        listed.execute(
            "UPDATE wanted SET file = NULL, reason = 'no_embedding', message = "
            "'The product index has none: see its rejects.jsonl.' "
            "WHERE sequence IS NULL AND stored IS NULL"
        )
        rows = listed.execute(
            "SELECT row, stored FROM wanted WHERE stored IS NOT NULL"
        ).fetchall()
        listed.executemany(
            "UPDATE wanted SET file = ?, place = stored, content = ? "
            "WHERE row = ?",
            (
                (
                    wanted.STORED,
                    hashlib.sha256(stored[place].tobytes()).hexdigest(),
                    row,
                )
                for row, place in rows
            ),
        )


class Vectors:
    """Vectors by the file and place that the list of wanted pictures names.

    Args:
        base: a generation of the vector index, or None.
    """

    def __init__(
        self,
        work: pathlib.Path,
        dim: int,
        index_generation: pathlib.Path,
        base: pathlib.Path | None,
    ):
        self._work = work
        self._dim = dim
        self._arrays = {wanted.EMBEDDED: embedding.read_vectors(work, dim)}
        live = np.fromfile(work / _LIVE, "<f4").reshape(-1, dim)
        self._arrays[wanted.LIVE] = live
        stored = index_generation / product_index.EMBEDDINGS
        if stored.is_file():
            self._arrays[wanted.STORED] = np.load(stored, mmap_mode="r")
        if base is not None:
            rows = np.load(base / vector_rows.ROWS, mmap_mode="r")
            self._arrays[wanted.BASE] = rows

    def reject_bad(self) -> None:
        """Notes vectors that have no direction: nothing finds them."""
        with wanted.opened(self._work / wanted.FILE) as listed:
            bad = []
            rows = listed.execute(
                "SELECT row, file, place FROM wanted WHERE file IN (?, ?)",
                (wanted.EMBEDDED, wanted.STORED),
            )
            while chunk := rows.fetchmany(wanted.CHUNK):
                found = self._of([each[1:] for each in chunk])
                lengths = np.linalg.norm(found.astype(np.float64), axis=1)
                good = np.isfinite(lengths) & (lengths > _MIN_LENGTH)
                bad += [(chunk[i][0],) for i in np.flatnonzero(~good)]
            listed.executemany(
                "UPDATE wanted SET file = NULL, reason = 'bad_vector', message "
                "= 'The model gives a vector that is zero or not finite.' "
                "WHERE row = ?",
                bad,
            )

    def assemble(
        self, products: set[str] | None = None
    ) -> tuple[list[VectorRow], np.ndarray]:
        """Rows and their unit vectors, `[n, dim]` float32, mapped.

        Args:
            products: only pictures of these; None: all.
        """
        rows = []
        path = self._work / _ASSEMBLED
        with (
            wanted.opened(self._work / wanted.FILE) as listed,
            path.open("wb") as file,
        ):
            found = listed.execute(
                "SELECT product_id, picture, category, file, place FROM wanted "
                "WHERE file IS NOT NULL ORDER BY row"
            )
            while chunk := found.fetchmany(wanted.CHUNK):
                if products is not None:
                    chunk = [each for each in chunk if each[0] in products]
                rows += [VectorRow(*each[:3]) for each in chunk]
                vectors = self._of([each[3:] for each in chunk])
                lengths = np.linalg.norm(
                    vectors.astype(np.float64), axis=1, keepdims=True
                )
                file.write((vectors / lengths).astype("<f4").tobytes())
        if not rows:
            return [], np.empty((0, self._dim), np.float32)
        return rows, np.memmap(path, "<f4", "r").reshape(-1, self._dim)

    def _of(self, places: list[tuple[int, int]]) -> np.ndarray:
        found = np.empty((len(places), self._dim), np.float32)
        for row, (file, place) in enumerate(places):
            found[row] = self._arrays[file][place]
        return found


def write_rejects(work: pathlib.Path, generation: pathlib.Path) -> dict:
    """Pictures without vector, a line each; how many of each reason."""
    counts: dict[str, int] = {}

    def lines():
        for reason, message, product_id, picture, path in rejected:
            counts[reason] = counts.get(reason, 0) + 1
            yield raw_records.to_json(
                {
                    "reason": reason,
                    "message": message,
                    "product_id": product_id,
                    "picture": picture,
                    "image": path,
                }
            )

    with wanted.opened(work / wanted.FILE) as listed:
        rejected = listed.execute(
            "SELECT reason, message, product_id, picture, "
            "coalesce(path, source) FROM wanted WHERE file IS NULL ORDER BY row"
        )
        files.write_lines(generation / REJECTS, lines())
    return counts
