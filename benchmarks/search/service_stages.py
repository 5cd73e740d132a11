"""How long the stages of an answer take, by the size of the vector index.

Makes up vectors and a product for each, builds the product index and the
vector index of them, and asks the recogniser's own pipeline, in this process,
for the panel with results of a photo, and for another page of these. The model
is left out: it answers at once with made-up embeddings, so `recognise` and
`embed` say nothing here. `search` is the vector index (candidates and exact
distances), `products` looks up what was found, `results` are order, filters,
facets and the page. On a busy machine the times are those of waiting; the last
line tells the processor's.

examples:
  python -m benchmarks.search.service_stages --num 100000
  python -m benchmarks.search.service_stages --folder /tmp/stages
"""

import argparse
import asyncio
import collections
import contextlib
import io
import json
import pathlib
import sqlite3
import tempfile
import time

import numpy as np
import PIL.Image
import tqdm

from benchmarks import flags
from benchmarks.search import synthetic_vectors
from benchmarks.search import vector_folders
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vectors as contract
from sicot_tf.data import generations
from sicot_tf.recognition import model_server
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import wishes
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings

_QUANTILES = (0.5, 0.95, 0.99)
_SKUS_A_CATEGORY = 1000
_QUERIES = "queries.npy"
_WARM_UP = 10


class Instant:
    """A model server that knows all answers."""

    def __init__(self, queries: np.ndarray):
        self._queries = queries
        self._next = 0

    async def localise(self, *_: object) -> None:
        """No heat map: the box is that of the branch."""
        return None

    async def recognise(
        self, name: str, version: int, pictures: list[bytes]
    ) -> list[model_server.Recognition]:
        """Five SKUs, of which the first may be right."""
        skus = [f"sku-{self._next % _SKUS_A_CATEGORY + i}" for i in range(5)]
        scores = [0.5, 0.2, 0.1, 0.05, 0.01]
        return [
            model_server.Recognition(skus, scores, True, None, [])
            for _ in pictures
        ]

    async def embed(
        self, name: str, version: int, pictures: list[bytes]
    ) -> list[model_server.Embedded]:
        """The next query."""
        self._next += 1
        vector = self._queries[self._next % len(self._queries)]
        return [
            model_server.Embedded(vector, (0.1, 0.1, 0.9, 0.9))
            for _ in pictures
        ]


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    arguments = _parse_arguments(argv)
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory())
        )
        if not (folder / _QUERIES).exists():
            _build(folder, arguments.num, arguments.dim)
        release = open_release.OpenRelease(
            releases.unpublished(
                generations.resolve_generation(folder / "index"),
                model_base_path=folder,
                model_version=1,
                settings=RecognitionSettings(
                    search_certainty=0.5, sku_search_weight=0.5
                ),
                vector_index_generation=generations.resolve_generation(
                    folder / "vectors"
                ),
            )
        )
        stack.callback(release.close)
        queries = np.load(folder / _QUERIES)
        started = time.process_time()
        found = asyncio.run(_ask(release, queries, arguments.requests))
        spent = time.process_time() - started
        print(
            f"{release.vector_index.num_vectors:,} vectors of "
            f"{release.vector_index.dim}, {arguments.requests} requests one by "
            "one; milliseconds p50, p95, p99"
        )
    spent *= 1000 / (arguments.requests + _WARM_UP)
    for name, values in found.items():
        numbers = np.quantile(values, _QUANTILES)
        print(f"  {name:28}" + "".join(f"{each:9.2f}" for each in numbers))
    print(f"  processor, all three together {spent:10.2f}")


async def _ask(
    release: open_release.OpenRelease, queries: np.ndarray, num_requests: int
) -> dict[str, list[float]]:
    """Milliseconds of each stage of each request."""
    photo = io.BytesIO()
    PIL.Image.new("RGB", (256, 256), "grey").save(photo, "JPEG")
    request = pipeline.Request(
        release=release,
        server=Instant(queries),
        picture_url=lambda product_id, place, image: image,
        request_id="",
        variant="",
    )
    found = collections.defaultdict(list)
    for number in tqdm.tqdm(range(num_requests + _WARM_UP), disable=None):
        panel = await pipeline.recognise(
            photo.getvalue(), wishes.Wishes(), request
        )
        more = wishes.QuerySearch(query=panel.search.query, page=2)
        page = await pipeline.search_query(more, request)
        filtered = await pipeline.search_query(
            more.model_copy(update={"page": 1, "max_price": 50.0}), request
        )
        if number < _WARM_UP:
            continue  # Pages of files come in.
        for kind, answer in (
            ("photo", panel),
            ("query, page 2", page),
            ("query, by price", filtered),
        ):
            for stage, spent in answer.milliseconds.items():
                found[f"{kind}: {stage}"].append(spent)
    return found


def _build(folder: pathlib.Path, num: int, dim: int) -> None:
    """Product index and vector index of made-up products."""
    folder.mkdir(parents=True, exist_ok=True)
    made = synthetic_vectors.make(folder / "made.npy", num, dim, 1000)
    categories = [f"category {each}" for each in made.categories]
    generation = folder / "index" / "2026-01-01-aa"
    generation.mkdir(parents=True)
    store = sqlite3.connect(generation / product_index.STORE)
    store.executescript(product_index.SCHEMA)
    store.executemany(
        "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                *(row + 1, f"shop/{row}", f"sku-{row // 3}"),
                f"A made-up product with number {row}",
                json.dumps([f"https://img.example/{row}.jpg"]),
                json.dumps([f"tag {row % 50}", f"tag {row % 7}"]),
                category,
                json.dumps({"price": row % 100, "colour": "red"}),
                None,
            )
            for row, category in enumerate(categories)
        ),
    )
    store.executescript(product_index.INDEXES)
    store.commit()
    store.close()
    files.write_json(generation / generations.MANIFEST, {})
    generations.point_latest(generation)
    work = folder / "vectors" / ".work"
    work.mkdir(parents=True)
    rows = [
        contract.VectorRow(f"shop/{row}", 0, category)
        for row, category in enumerate(categories)
    ]
    written = vector_index.build(work, rows, made.vectors)
    vector_folders.publish(work, "2026-01-01-vv", written, 0)
    np.save(folder / _QUERIES, made.queries)


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        help="keeps what was built, and takes what is there",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
