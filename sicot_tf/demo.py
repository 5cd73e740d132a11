"""The whole road on a generated shop, from raw records to a product.

Generates a shop with a long tail and noisy titles, trains with and without
titles, holds each gain against its control, and serves what is recommended.
Nothing in the shop is real but the drawings. Runs the commands an engineer
would run, one after the other, and prints each before it runs. What is
finished is not done again.
"""

import contextlib
import json
import logging
import pathlib
import random
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from sicot_tf import command_line
from sicot_tf import exit_codes

_EXAMPLES = """
examples:
  python -m sicot_tf.demo
  python -m sicot_tf.demo --quick
  python -m sicot_tf.demo --num_skus 1000 --directory demo-large
"""
_NUM_SKUS, _NUM_QUICK_SKUS = 300, 100
# The shop of docs/results.md: few types and brands, so that every word stands
# in many titles.
_SHOP = (
    *("--num_types", "36", "--num_brands", "12"),
    *("--val_pictures", "4", "--test_pictures", "6"),
    *("--num_scenes", "300", "--num_clicks", "2000"),
    *("--catalogue_pictures", "3"),
)
# Over the presets: two cores train the later layers in a minute.
_FULL = ("--frozen_until", "block5c_add", "--cached_views", "8")
# Over the presets. A frozen backbone needs a layer that can learn from words.
_QUICK = (
    *("--freeze_backbone", "--cached_views", "2", "--neck_dim", "256"),
    *("--epochs", "12", "--decay_epochs", "4", "--learning_rate", "0.01"),
)
_GENERATED = (
    "This shop is generated: no such product, brand or title exists. Figures "
    "of it\nsay how the methods compare, not how well they do on photos."
)
_NUM_PHOTOS = 12


class _Training(NamedTuple):
    """A run, and the one that it is held against."""

    name: str
    headline: str
    flags: tuple[str, ...]
    compared_to: str = ""


_TRAININGS = (
    _Training("visual", "the baseline, by pictures", ("--streams", "visual")),
    _Training("cotrain", "co-training, as in the paper", (), "visual"),
    # What is left of a gain here is not the titles' doing.
    _Training(
        "shuffled",
        "its control, with other records' titles",
        ("--shuffle_titles",),
        "cotrain",
    ),
    _Training(
        "recommended",
        "what is recommended",
        ("--preset", "recommended"),
        "visual",
    ),
)
_log = logging.getLogger(__name__)


class _Station(NamedTuple):
    """A command of the road."""

    headline: str
    module: str
    arguments: tuple[object, ...]


class _Road(NamedTuple):
    """Where the artefacts lie, and how much the commands say."""

    shop: pathlib.Path
    dataset: pathlib.Path
    statistics: pathlib.Path
    runs: pathlib.Path
    index: pathlib.Path
    model: pathlib.Path
    vectors: pathlib.Path
    features: pathlib.Path
    ranker: pathlib.Path
    settings: pathlib.Path
    releases: pathlib.Path
    # For every command.
    log_flags: tuple[str, ...] = ()

    def run(self, station: _Station) -> None:
        """Runs one command of the project and stops the road if it fails."""
        _headline(station.headline)
        started = time.monotonic()
        module, arguments = station.module, map(str, station.arguments)
        command = _show("-m", module, *arguments, *self.log_flags)
        _expect_success(module, subprocess.run(command, check=False).returncode)
        print(f"[{time.monotonic() - started:.0f} s]", flush=True)


def _stations(road: _Road, *, num_skus: int, quick: bool) -> Iterator[_Station]:
    """From drawings to what is served.

    Args:
        num_skus: how many products to tell apart.
        quick: trains with a frozen backbone, otherwise with a half of it.
    """
    recommended = road.runs / "recommended"
    yield _Station(
        "1. A generated shop: raw records and a catalogue",
        "beam_jobs.shop_records",
        ("--output", road.shop, "--num_skus", num_skus, *_SHOP),
    )
    yield _Station(
        "2. Raw records to TFRecords",
        "beam_jobs.build_dataset",
        ("--input", road.shop / "records-*.jsonl", "--output", road.dataset),
    )
    yield _Station(
        "2b. Look at the data",
        "beam_jobs.dataset_statistics",
        ("--dataset", road.dataset, "--output", road.statistics),
    )
    for letter, each in zip("abcd", _TRAININGS, strict=True):
        flags = ("--dataset", road.dataset, "--run_dir", road.runs / each.name)
        yield _Station(
            f"3{letter}. Train {each.headline}"
            + (" (quick: the backbone is frozen)" if quick else ""),
            "sicot_tf.train",
            (*flags, *each.flags, *(_QUICK if quick else _FULL)),
        )
    for letter, each in zip("abc", _TRAININGS[1:], strict=True):
        other = road.runs / each.compared_to
        yield _Station(
            f"4{letter}. Evaluate on artists that training never saw: "
            f"{each.name} against {each.compared_to}",
            "sicot_tf.evaluate",
            ("--run_dir", road.runs / each.name, "--compare_to", other),
        )
    noise_words = road.shop / "noise_words.txt"
    yield _Station(
        "5. Explain: which words the attention trusts, promotion in red",
        "sicot_tf.explain",
        ("--run_dir", road.runs / "cotrain", "--noise_words", noise_words),
    )
    yield _Station(
        "6. Calibrate: scores that are probabilities, and a threshold",
        "sicot_tf.calibrate",
        ("--run_dir", recommended, "--precision", "0.9"),
    )
    yield _Station(
        "6b. Export the visual stream",
        "sicot_tf.export",
        ("--run_dir", recommended, "--output", road.model, "--words"),
    )
    yield _Station(
        "7. The catalogue as an index from classes to products",
        "beam_jobs.build_product_index",
        (
            *("--input", road.shop / "catalogue-*.jsonl"),
            *("--output", road.index),
            *("--labels", recommended / "classes.jsonl"),
            *("--saved_model", road.model),
        ),
    )
    yield _Station(
        "7b. Its pictures as an index of vectors: what looks alike",
        "beam_jobs.build_vector_index",
        ("--product_index", road.index, "--output", road.vectors),
    )
    clicks = road.shop / "clicks-*.jsonl"
    yield _Station(
        "7c. What makes a product appeal: pictures, sales, price, clicks",
        "beam_jobs.product_features",
        (
            *("--input", road.shop / "catalogue-*.jsonl"),
            *("--clicks", clicks, "--output", road.features),
        ),
    )
    yield _Station(
        "7d. Learn the order of what looks alike from clicks",
        "sicot_tf.train_ranker",
        (
            *("--clicks", clicks, "--features", road.features),
            *("--vector_index", road.vectors, "--saved_model", road.model),
            *("--output", road.ranker),
        ),
    )
    together = ("--model", road.model, "--product_index", road.index)
    yield _Station(
        "7e. Choose how photos are read, on validation pictures and scenes",
        "sicot_tf.tune_recognition",
        (
            *together,
            *("--records", road.shop / "records-*.jsonl"),
            *("--scenes", road.shop / "scenes-*.jsonl"),
            *("--output", road.settings),
        ),
    )
    yield _Station(
        "7f. Model, indexes and order go live together",
        "sicot_tf.release",
        (
            *("--releases", road.releases, *together),
            *("--vector_index", road.vectors, "--ranker", road.ranker),
            *("--settings", road.settings),
        ),
    )


def _print_outcome(road: _Road) -> None:
    """The accuracies of all runs, and where everything lies."""
    # Reports are written beside what needs it.
    command_line.import_tensorflow()
    from sicot_tf.evaluation import report

    _headline("What came of it")
    print(f"{_GENERATED}\n")
    tables, sentences = {}, []
    for each in _TRAININGS[1:]:
        path = road.runs / each.name / "evaluation-test" / "metrics.json"
        metrics = json.loads(path.read_text("utf-8"))
        tables |= metrics["runs"]
        sentences += report.headline(metrics["runs"], metrics["comparison"])
    print(_format_accuracies(tables))
    print("\n" + "\n".join(sentences) + "\n")
    cotrain, recommended = road.runs / "cotrain", road.runs / "recommended"
    print(f"The shop        {road.shop / 'contact_sheet.html'}")
    print(f"The data        {road.statistics / 'statistics.html'}")
    print(f"Report          {recommended / 'evaluation-test/report.html'}")
    print(f"Attention page  {cotrain / 'attention.html'}")
    print(f"Calibration     {recommended / 'calibration.html'}")
    print(f"TensorBoard     tensorboard --logdir {road.runs}")
    print(f"SavedModel      {road.model}")
    print(f"Product index   {road.index}")
    print(f"Vector index    {road.vectors}")
    print(f"Ranker          {road.ranker}")
    print(f"Licences        {road.shop / 'LICENSES.md'}")
    print(
        "\nPoint a camera at it: python -m sicot_tf.recognize "
        f"--releases {road.releases}"
    )


def _format_accuracies(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Macro top-1 of runs as aligned text, percent with 95 % intervals."""
    from sicot_tf.evaluation import metrics

    lines = [
        f"{'macro top-1, %':<14}" + "".join(f"{g:>22}" for g in metrics.GROUPS)
    ]
    groups = tables[_TRAININGS[0].name]["groups"]
    counts = [groups[group]["num_classes"] for group in metrics.GROUPS]
    lines.append(f"{'classes':<14}" + "".join(f"{n:>22,}" for n in counts))
    for training in _TRAININGS:
        line = f"{training.name:<14}"
        for group in metrics.GROUPS:
            cell = tables[training.name]["groups"][group]["top1"]["macro"]
            value, low, high = (
                100 * cell[name] for name in ("value", "low", "high")
            )
            line += f"{f'{value:.1f} [{low:4.1f}, {high:4.1f}]':>22}"
        lines.append(line)
    return "\n".join(lines)


def _headline(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _show(*words: str) -> list[str]:
    """Prints a command; returns it for `subprocess`."""
    print("$ python " + shlex.join(words), flush=True)
    return [sys.executable, *words]


def _expect_success(module: str, code: int) -> None:
    """Ends the road with a command that failed."""
    if code == exit_codes.BAD_INPUT:
        # It has said what to do.
        raise SystemExit(code)
    if code:
        _log.error("%s failed; see its message above.", module)
        raise SystemExit(1)


def _held_out_photos(
    shop: pathlib.Path, dataset: pathlib.Path
) -> list[dict[str, str]]:
    """Some test records at random, the same ones each time."""
    generation = dataset / (dataset / "LATEST").read_text("utf-8").strip()
    known = {each["sku_id"] for each in _rows(generation / "classes.jsonl")}
    rows = [
        row
        for path in sorted(shop.glob("records-*.jsonl"))
        for row in _rows(path)
        if row["split"] == "test" and row["sku_id"] in known
    ]
    rows = random.Random(0).sample(rows, min(_NUM_PHOTOS, len(rows)))
    return [{**row, "image": str(shop / row["image"])} for row in rows]


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def _server(road: _Road) -> Iterator[str]:
    """The embedded server as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = _show(
        *("-m", "sicot_tf.serve", "--model_name", road.model.name),
        *("--model_base_path", str(road.model.resolve())),
        # The photos are all it is asked for.
        *("--port", str(port), "--drain_seconds", "0", *road.log_flags),
    )
    with subprocess.Popen(command) as process:
        try:
            yield f"localhost:{port}"
        finally:
            process.terminate()


def _recognize(photos: list[dict[str, str]], address: str, road: _Road) -> None:
    """Prints the product that is found for each photo."""
    words = ["-m", "sicot_tf.client", *[photo["image"] for photo in photos]]
    words += ["--server", address, "--model_name", road.model.name]
    names = road.runs / "recommended" / "classes.jsonl"
    words += ["--product_names", str(names)]
    words += ["--product_index", str(road.index)]
    # The server loads the model and warms it up first.
    words += ["--top_k", "1", "--timeout", "120", *road.log_flags]
    finished = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, check=False
    )
    _expect_success("sicot_tf.client", finished.returncode)
    shown = shlex.join(words[:3] + words[2 + len(photos) :])
    print(f"$ python {shown}   # and {len(photos) - 1} more photos\n")
    num_right = 0
    answers = _read_answers(finished.stdout.decode())
    for photo, (path, answer, *products) in zip(photos, answers, strict=True):
        score, sku_id, name = answer.split(None, 2)
        # Behind the path stands what speaks against the answer.
        doubt = path.removeprefix(photo["image"]).partition(";")[0].lstrip(":")
        right = sku_id == photo["sku_id"]
        num_right += right
        print(f"{photo['record_id']}: {photo['sku_name']}")
        verdict = "right" if right else "wrong"
        print(f"  {score:>6} {name}, {verdict}{doubt and f',{doubt}'}")
        for product in products:
            print(f"         {product}")
    print(f"{num_right} of {len(photos)} right", flush=True)


def _read_answers(output: str) -> list[list[str]]:
    """What the client printed of each photo, its path first."""
    answers = []
    for line in output.splitlines():
        if line.startswith(" "):
            answers[-1].append(line.strip())
        else:
            answers.append([line])
    return answers


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.demo", __doc__, _EXAMPLES)
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        default=pathlib.Path("demo"),
        help="where the road's artefacts lie (default: %(default)s)",
    )
    parser.add_argument(
        "--saved_models",
        type=pathlib.Path,
        default=pathlib.Path("saved_models"),
        help="where the SavedModel goes (default: %(default)s)",
    )
    parser.add_argument(
        "--num_skus",
        type=int,
        help="products of the shop, 100 or more "
        f"(default: {_NUM_SKUS}; quick: {_NUM_QUICK_SKUS})",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about 3 minutes: fewer products, frozen backbone",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.demo`."""
    arguments = _make_parser().parse_args(argv)
    started = time.monotonic()
    end = "-quick" if arguments.quick else ""
    directory = arguments.directory
    default = _NUM_QUICK_SKUS if arguments.quick else _NUM_SKUS
    road = _Road(
        shop=directory / f"shop{end}",
        dataset=directory / f"dataset{end}",
        statistics=directory / f"statistics{end}",
        runs=directory / f"runs{end}",
        index=directory / f"index{end}",
        model=arguments.saved_models / f"sicot{end}",
        vectors=directory / f"vectors{end}",
        features=directory / f"features{end}",
        ranker=directory / f"ranker{end}",
        settings=directory / f"recognition{end}.json",
        releases=directory / f"releases{end}",
        log_flags=(
            ()
            if arguments.verbosity == "info"
            else ("--verbosity", arguments.verbosity)
        ),
    )
    print(_GENERATED)
    for station in _stations(
        road, num_skus=arguments.num_skus or default, quick=arguments.quick
    ):
        road.run(station)
    photos = _held_out_photos(road.shop, road.dataset)
    _headline("8. Serve, and find the product of held-out pictures over gRPC")
    with _server(road) as address:
        _recognize(photos, address, road)
    _print_outcome(road)
    print(f"The road took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
