"""Search on a Milvus server, where one machine's memory ends.

Needs `pymilvus` (pip install 'sicot_tf[milvus]'), which nothing else imports.
"""

import json
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vectors as contract

COLLECTION = "sicot_pictures"
# IVF_RABITQ, measured with FAISS, whose class it is: refined by the float
# vectors it loses nothing. Ten candidates for each of 60 results are 600.
INDEX_PARAMETERS = {"refine": True, "refine_type": "FP32"}
SEARCH_PARAMETERS = {"nprobe": 64, "rbq_query_bits": 4, "refine_k": 10}

_MAX_ID = 512
# Rows of one request.
_BATCH = 1000


def schema() -> dict[str, Any]:
    """Fields of the collection and of exported files, for any client."""
    return {
        "fields": {
            "id": f"VARCHAR({_MAX_ID + 16}), primary key: product_id/picture",
            "product_id": f"VARCHAR({_MAX_ID})",
            "picture": "INT32",
            "category": f"VARCHAR({_MAX_ID}), partition key; '' without one",
            "vector": "FLOAT_VECTOR(dim), of length 1",
        },
        "index": {
            "field": "vector",
            "index_type": "IVF_RABITQ",
            "metric_type": "IP",
            "params": INDEX_PARAMETERS,
        },
        "search": SEARCH_PARAMETERS,
    }


def num_lists(num_vectors: int) -> int:
    """`nlist`: about twice the root, at least 39 vectors for each."""
    return max(1, min(2 * round(num_vectors**0.5), num_vectors // 39, 65_536))


def identity(row: contract.VectorRow) -> str:
    """The primary key of a picture."""
    return f"{row.product_id}/{row.picture}"


class MilvusSearch:
    """A `vectors.VectorSearch` in a Milvus collection.

    Args:
        uri: `http://host:19530`, or a file for Milvus Lite.
        dim: of the vectors.
        num_vectors: how many are expected; for `nlist` of a new collection.
        index_type: `IVF_RABITQ`; Milvus Lite has `FLAT` and few others.
        token: `user:password`.

    Raises:
        ValueError: if the collection has vectors of another size.
    """

    def __init__(
        self,
        uri: str,
        dim: int,
        *,
        num_vectors: int = 1_000_000,
        index_type: str = "IVF_RABITQ",
        collection: str = COLLECTION,
        token: str = "",
    ):
        # Not a dependency: only who has a server needs it.
        import pymilvus

        self.dim = dim
        self._collection = collection
        self._search = SEARCH_PARAMETERS if index_type == "IVF_RABITQ" else {}
        self._client = pymilvus.MilvusClient(uri, token=token)
        if not self._client.has_collection(collection):
            _create(
                self._client,
                collection,
                dim,
                index_type,
                num_lists(num_vectors),
            )
        found = self._client.describe_collection(collection)["fields"]
        [size] = [
            each["params"]["dim"] for each in found if each["name"] == "vector"
        ]
        if int(size) != dim:
            raise ValueError(
                f"Expected vectors of {dim} numbers in {collection} of {uri}, "
                f"found {size}. Name another collection for another model."
            )
        self._client.load_collection(collection)

    @property
    def num_vectors(self) -> int:
        """How many can be found."""
        [row] = self._client.query(
            self._collection,
            filter="",
            output_fields=["count(*)"],
            consistency_level="Strong",
        )
        return row["count(*)"]

    def add(
        self, rows: Sequence[contract.VectorRow], vectors: np.ndarray
    ) -> None:
        """As `vectors.VectorSearch.add`."""
        vector_rows.check_vectors(vectors, len(rows), self.dim)
        for start in range(0, len(rows), _BATCH):
            chunk = rows[start : start + _BATCH]
            self._client.upsert(
                self._collection,
                [
                    {
                        "id": identity(row),
                        "product_id": row.product_id,
                        "picture": row.picture,
                        "category": row.category or "",
                        "vector": vector.tolist(),
                    }
                    for row, vector in zip(chunk, vectors[start:])
                ],
            )

    def delete(self, product_ids: Iterable[str]) -> int:
        """As `vectors.VectorSearch.delete`."""
        num_deleted = 0
        names = list(product_ids)
        for start in range(0, len(names), _BATCH):
            chosen = f"product_id in {_quoted(names[start : start + _BATCH])}"
            found = self._client.query(
                self._collection,
                filter=chosen,
                output_fields=["id"],
                consistency_level="Strong",
            )
            if found:
                self._client.delete(
                    self._collection, ids=[each["id"] for each in found]
                )
            num_deleted += len(found)
        return num_deleted

    def search(
        self, vectors: np.ndarray, k: int, *, category: str | None = None
    ) -> list[list[contract.Hit]]:
        """As `vectors.VectorSearch.search`."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(
                f"Expected vectors of shape (n, {self.dim}), received "
                f"{vectors.shape}."
            )
        hits: list[list[contract.Hit]] = [[] for _ in vectors]
        good = np.flatnonzero(
            np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
        )
        if not len(good):
            return hits
        chosen = "" if category is None else f"category == {_quote(category)}"
        found = self._client.search(
            self._collection,
            data=vectors[good].tolist(),
            anns_field="vector",
            limit=k,
            filter=chosen,
            output_fields=["product_id", "picture"],
            search_params={"metric_type": "IP", "params": dict(self._search)},
            consistency_level="Strong",
        )
        for place, each in zip(good, found):
            hits[place] = [
                contract.Hit(
                    hit["entity"]["product_id"],
                    hit["entity"]["picture"],
                    float(hit["distance"]),
                )
                for hit in each
            ]
        return hits

    def snapshot(self, folder: pathlib.Path) -> None:
        """Names the collection; its own backup is the server's.

        Milvus keeps what was written; `milvus-backup` copies it.
        """
        folder.mkdir()
        files.write_json(
            folder / "milvus.json",
            {"collection": self._collection, "num_vectors": self.num_vectors},
        )

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _create(
    client: Any, collection: str, dim: int, index_type: str, lists: int
) -> None:
    from pymilvus import DataType

    fields = client.create_schema(auto_id=False)
    text: Mapping[str, Any] = {"datatype": DataType.VARCHAR}
    fields.add_field("id", **text, max_length=_MAX_ID + 16, is_primary=True)
    fields.add_field("product_id", **text, max_length=_MAX_ID)
    fields.add_field("picture", DataType.INT32)
    fields.add_field(
        "category", **text, max_length=_MAX_ID, is_partition_key=True
    )
    fields.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    parameters = {}
    if index_type == "IVF_RABITQ":
        parameters = INDEX_PARAMETERS | {"nlist": lists}
    index = client.prepare_index_params()
    index.add_index(
        "vector", index_type=index_type, metric_type="IP", params=parameters
    )
    client.create_collection(collection, schema=fields, index_params=index)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _quoted(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quote, texts))}]"
