"""Makes an exported model and the indexes built for it live together.

Prints first how they fit: classes of the model without product, SKUs of the
index without class, and whether the vectors are of this model and index. A
running recognition service takes the new release within seconds, and keeps the
old one if the new one can't be opened.
"""

import argparse
import pathlib
import typing

from sicot_tf import command_line
from sicot_tf.stores import locations

if typing.TYPE_CHECKING:
    from sicot_tf.recognition.releases import release_check
    from sicot_tf.recognition.releases import releases

_EXAMPLES = """
examples:
  python -m sicot_tf.release --model saved_models/sicot \\
      --product_index demo/index
  python -m sicot_tf.release --model saved_models/sicot/2 \\
      --product_index demo/index --settings recognition.json --check

  # With visual search, and the order of what it finds:
  python -m sicot_tf.release --model saved_models/sicot/2 \\
      --product_index index --vector_index vectors --ranker ranker

  python -m sicot_tf.release --list
  python -m sicot_tf.release --rollback

  # Every day:
  python -m beam_jobs.build_product_index --input 'catalogue/*.parquet' \\
      --output index --saved_model saved_models/sicot/2 && \\
      python -m sicot_tf.release --model saved_models/sicot/2 \\
      --product_index index

exit codes: 0 live, or checked; 2 refused (the pair does not fit, the vectors
are of another model or product index, a folder is missing, someone else
publishes); 1 another error. What is live stays so unless the code is 0.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.release", __doc__, _EXAMPLES)
    parser.add_argument(
        "--releases",
        type=command_line.local_path,
        default=pathlib.Path("releases"),
        metavar="DIR",
        help="folder of the releases; DIR/LIVE names the one in use (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--model",
        type=command_line.local_path,
        help="exported model, saved_models/sicot (its newest version) or "
        "saved_models/sicot/2",
    )
    parser.add_argument(
        "--product_index",
        type=locations.location,
        metavar="INDEX",
        help="index (the generation that its LATEST names) or a generation",
    )
    parser.add_argument(
        "--vector_index",
        type=command_line.local_path,
        metavar="VECTORS",
        help="folder of beam_jobs.build_vector_index, or a generation: visual "
        "search (default: none)",
    )
    parser.add_argument(
        "--ranker",
        type=locations.location,
        metavar="DIR",
        help="folder of sicot_tf.train_ranker, or a generation: the order of "
        "what search finds (default: the most similar first)",
    )
    parser.add_argument(
        "--settings",
        type=command_line.local_path,
        metavar="FILE",
        help="what sicot_tf.tune_recognition has chosen (default: as in the "
        "release that is live)",
    )
    parser.add_argument(
        "--max_missing_percent",
        type=float,
        default=5.0,
        help="refuse if more of the classes have no product, or more of the "
        "index's SKUs no class (default: %(default)g)",
    )
    parser.add_argument(
        "--force", action="store_true", help="take the pair as it is"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--check", action="store_true", help="only tell how the pair fits"
    )
    action.add_argument("--list", action="store_true", help="show the releases")
    action.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="NAME",
        help="make an earlier release live (default: the one live before)",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.release`."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.max_missing_percent <= 100:
        parser.error(
            "--max_missing_percent: expected 0 to 100, received "
            f"{arguments.max_missing_percent}"
        )
    pair = (arguments.model, arguments.product_index)
    beside = (arguments.vector_index, arguments.ranker)
    if arguments.list or arguments.rollback is not None:
        if any((*pair, *beside)):
            parser.error(
                "--list and --rollback take no --model, --product_index, "
                "--vector_index and --ranker"
            )
        # `only_builder` would make the folder.
        if not arguments.releases.is_dir():
            parser.error(f"--releases: there is no folder {arguments.releases}")
    elif not all(pair):
        parser.error("--model and --product_index are needed")
    elif arguments.ranker and not arguments.vector_index:
        parser.error("--ranker orders what --vector_index finds: give both")
    from sicot_tf.recognition.releases import releases

    if arguments.list:
        _print_list(arguments.releases)
    elif arguments.rollback is not None:
        _print_live(
            releases.roll_back(arguments.releases, arguments.rollback or None),
            arguments.releases,
        )
    else:
        _publish(arguments)


def _publish(arguments: argparse.Namespace) -> None:
    from sicot_tf.data import generation_cache
    from sicot_tf.data import generations
    from sicot_tf.recognition import settings
    from sicot_tf.recognition.releases import release_check
    from sicot_tf.recognition.releases import releases
    from sicot_tf.recognition.releases import search_check

    model = release_check.newest_version(arguments.model)
    # A release lives as long as what it names; a check changes nothing.
    kept = None if arguments.check else arguments.releases / "generations"
    index = generation_cache.local_generation(
        arguments.product_index, cache=kept
    )
    chosen, origin = settings.RecognitionSettings(), "defaults"
    if arguments.settings:
        chosen, origin = settings.read(arguments.settings), arguments.settings
    elif before := releases.live_name(arguments.releases):
        # So that the daily line keeps what was tuned once.
        chosen = releases.read(arguments.releases, before).settings
        origin = f"as in {before}"
    found = release_check.check(model, index)
    print(f"Model          {model}")
    print(f"Product index  {index}")
    print(f"Settings       {origin}")
    _print_check(found)
    vectors = ranker = None
    if arguments.vector_index:
        vectors = generations.resolve_generation(arguments.vector_index)
        # Not even with --force: what is found would be wrong.
        fault = search_check.find_mismatch(vectors, model, index)
        if fault:
            raise ValueError(f"{fault} What is live stays so.")
        _print_vectors(vectors)
    if arguments.ranker:
        ranker = generation_cache.local_generation(arguments.ranker, cache=kept)
        search_check.identity(ranker)
        print(f"{'ranker':20} {ranker}", flush=True)
    faults = found.faults(arguments.max_missing_percent)
    if faults:
        if not arguments.force:
            raise ValueError(
                f"{' '.join(faults)} What is live stays so. If the pair is "
                "meant so, add --force."
            )
        print(f"Taken all the same: {' '.join(faults)}")
    if arguments.check:
        print("Checked only, nothing was changed. Next: leave --check out.")
        return
    _print_live(
        releases.publish(
            *(arguments.releases, model, index, chosen, found),
            vector_index_generation=vectors,
            ranker=ranker,
        ),
        arguments.releases,
    )


def _print_check(found: "release_check.Check") -> None:
    print(f"{'':20} {'count':>12} {'share':>8}  for example")
    for title, count, share, sample in (
        ("classes", found.num_classes, None, ()),
        (
            "  without product",
            found.classes_without_product,
            found.percent_without_product,
            found.sample_classes,
        ),
        ("SKUs of the index", found.num_skus, None, ()),
        (
            "  without class",
            found.skus_without_class,
            found.percent_without_class,
            found.sample_skus,
        ),
    ):
        shown = "" if share is None else f"{share:.1f} %"
        line = f"{title:20} {count:12,} {shown:>8}  {', '.join(sample)}"
        print(line.rstrip())
    # Before anything changes, also where stdout is a pipe.
    print(f"{'embeddings':20} {found.embeddings:>12}", flush=True)


def _print_vectors(vectors: pathlib.Path) -> None:
    from sicot_tf import files
    from sicot_tf.data import generations

    manifest = files.read_json(vectors / generations.MANIFEST)
    print(
        f"{'vectors':20} {manifest['num_vectors']:12,} {'':>8}  of this model "
        f"and index, {vectors.name}, by signature {manifest['signature']}",
        flush=True,
    )


def _print_list(folder: pathlib.Path) -> None:
    from sicot_tf.recognition.releases import releases

    try:
        live = releases.live_name(folder)
    except ValueError as error:
        live = None
        print(f"{folder / releases.LIVE} is damaged: {error}")
    for name, release, fault in releases.history(folder):
        pair = ""
        if release:
            pair = (
                f"  {release.model_name} {release.model_version}  "
                f"{release.index_generation.name}"
            )
            for title, path in (
                ("vectors", release.vector_index_generation),
                ("ranker", release.ranker),
            ):
                pair += f"  {title} {path.name}" if path else ""
        mark = "  <- LIVE" if name == live else ""
        print(f"{name}{pair}{mark}")
        if fault:
            print(f"  can't be used: {fault}")


def _print_live(release: "releases.Release", folder: pathlib.Path) -> None:
    if release.before:
        print(
            f"Go back with: python -m sicot_tf.release --releases {folder} "
            "--rollback"
        )
    vectors, beside = release.vector_index_generation, ""
    if vectors:
        beside = f", vectors {vectors.name}"
    print(
        f"Live: {release.name} (model {release.model_name} version "
        f"{release.model_version}, index {release.index_generation.name}"
        f"{beside}). "
        f"Next: python -m sicot_tf.recognize --releases {folder}"
    )


if __name__ == "__main__":
    main()
