"""How right the running recognition service is on pictures it has not seen.

Asks it over HTTP for every picture of a split, and for every scene of it, and
compares with the labels: how many are recognised (the score reaches the
model's threshold), how many of those are right, how many answers are right at
all; the category by the model, by the search and by both; and on scenes where
the boxes are, and whether localisation pays. Intervals are Wilson's, of 95 %;
pictures of one SKU resemble each other, so they are rather too narrow.

examples:
  python -m benchmarks.recognition.held_out --split val
  python -m benchmarks.recognition.held_out --split test \\
      --settings settings.json --output held_out.json
  python -m benchmarks.recognition.held_out --url http://127.0.0.1:8080
"""

import argparse
import contextlib
import glob
import pathlib
import tempfile
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import httpx
import tqdm

from benchmarks import flags
from benchmarks.recognition import measures
from benchmarks.recognition import shop
from sicot_tf import files
from sicot_tf.recognition import answers

# With two of them the service is never idle.
_NUM_CLIENTS = 2
_TIMEOUT = 120


def main(argv: list[str] | None = None) -> None:
    """Prints the tables; writes them, too, if asked to."""
    arguments = _parse_arguments(argv)
    with (
        _serve(arguments) as url,
        httpx.Client(base_url=url, timeout=_TIMEOUT) as http,
    ):
        found = {"split": arguments.split}
        ask = _Asker(http, {"top_k": 1, "similar": False})
        pictures = shop.pictures(arguments.records, arguments.split)
        pictures = pictures[:: arguments.every]
        groups = [("pictures", pictures, measures.of_pictures)]
        if glob.glob(arguments.scenes):
            scenes = shop.pictures(arguments.scenes, arguments.split)
            groups.append(("scenes", scenes, measures.of_scenes))
        for name, rows, measure in groups:
            for way, localize in (("whole photo", False), ("all stages", True)):
                title = f"{name}, {way}"
                answered = _each(ask, rows, title, localize=localize)
                found[title] = measure(answered)
                print(f"\n{title}")
                for key, value in found[title].items():
                    print(f"  {key:44} {measures.format_value(value)}")
    print(f"\n{arguments.split}, {ask.versions}")
    found |= ask.versions
    if arguments.output:
        files.write_json(arguments.output, found)


class _Asker:
    """Asks and keeps which versions have answered.

    Attributes:
        versions: of model and index.
    """

    def __init__(self, http: httpx.Client, parameters: dict[str, Any]):
        self._http = http
        self._parameters = parameters
        self.versions: dict[str, Any] = {}

    def __call__(self, path: pathlib.Path, localize: bool) -> answers.Answer:
        response = self._http.post(
            "/v1/recognize",
            content=path.read_bytes(),
            params=self._parameters | {"localize": localize},
        )
        response.raise_for_status()
        answer = answers.Answer.model_validate_json(response.content)
        self.versions = {
            "model_version": answer.model_version,
            "index_generation": answer.index_generation,
        }
        return answer


def _each(
    ask: Callable[..., answers.Answer],
    pictures: Sequence[tuple[pathlib.Path, dict[str, Any]]],
    title: str,
    *,
    localize: bool,
) -> list[tuple[dict[str, Any], answers.Answer]]:
    """Row and answer of each picture."""
    with futures.ThreadPoolExecutor(_NUM_CLIENTS) as clients:
        found = clients.map(lambda each: ask(each[0], localize), pictures)
        progress = tqdm.tqdm(
            found, total=len(pictures), desc=title, disable=None
        )
        return list(zip((row for _, row in pictures), progress))


@contextlib.contextmanager
def _serve(arguments: argparse.Namespace) -> Iterator[str]:
    """The service that runs already, or one of its own."""
    if arguments.url:
        yield arguments.url
        return
    # Loads TensorFlow, which asking a service does not need.
    from tests.helpers import tiny_recognizer

    flags = ["--model", arguments.model]
    flags += ["--product_index", arguments.product_index]
    flags += ["--catalogue_root", arguments.catalogue_root]
    if arguments.settings:
        flags += ["--settings", arguments.settings]
    with tempfile.TemporaryDirectory() as folder:
        recognizer = tiny_recognizer.RecognizerProcess(
            pathlib.Path(folder), *flags
        )
        try:
            yield recognizer.url
        finally:
            recognizer.kill()


def _parse_url(text: str) -> str:
    if urllib.parse.urlsplit(text).scheme not in ("http", "https"):
        raise argparse.ArgumentTypeError(f"expected http://..., got {text}")
    return text


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    shop.add_flags(parser)
    parser.add_argument(
        "--scenes",
        default="demo/shop/scenes-*.jsonl",
        help="pattern of the files of scenes; there may be none (%(default)s)",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="of the pictures each Nth only, of the scenes all (1)",
    )
    parser.add_argument(
        "--settings",
        type=pathlib.Path,
        help="what sicot_tf.tune_recognition wrote",
    )
    parser.add_argument(
        "--url", type=_parse_url, help="of a service that runs already"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, help="JSON file for the tables"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
