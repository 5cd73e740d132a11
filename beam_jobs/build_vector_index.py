"""Builds a generation of the vector index from a product index.

The road of a picture stands in `beam_jobs.vectors.build`;
`sicot_tf.catalogue.vector_index` reads the result.
"""

import argparse
import pathlib

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library.
import sqlite3  # noqa: F401
import typing

from beam_jobs.catalogue import generation_flags
from beam_jobs.pipelines import flags
from sicot_tf import command_line
from sicot_tf import files
from sicot_tf.data import generations

if typing.TYPE_CHECKING:
    from apache_beam.options import pipeline_options as beam_options

_EPILOG = """\
the vectors are by the signature `search` of --saved_model, or by `embedding`
where it has no `search`; without --saved_model they are the embeddings that the
product index has

live changes (python -m sicot_tf.gallery) are folded in, unless the catalogue
has a record of the product that is as new; pictures that can't be used stand in
rejects.jsonl with a reason

--delta reads all pictures, but embeds only those whose bytes are new

examples:
  python -m beam_jobs.build_vector_index --product_index index \\
      --saved_model saved_models/sicot/2 --output vectors
  python -m beam_jobs.build_vector_index --product_index index \\
      --saved_model saved_models/sicot/2 --output vectors --delta \\
      --releases releases
  python -m beam_jobs.build_vector_index --output vectors --list
  python -m beam_jobs.build_vector_index --output vectors --rollback

exit codes: 0 built, found finished or rolled back; 2 refused (wrong flags, a
file that can't be read, an index that would shrink too much); 1 another error.
The index in use stays as it is unless the code is 0.
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds, lists or rolls back, says what came of it."""
    parser = _make_parser()
    arguments, pipeline_options = flags.parse(parser, argv)
    generation_flags.check(parser, arguments)
    if not 0 < arguments.recall <= 1:
        parser.error(
            f"--recall: expected a share above 0 and up to 1, received "
            f"{arguments.recall}"
        )
    if arguments.list:
        from beam_jobs.vectors import retention

        print(retention.describe(arguments.output))
    elif arguments.rollback is not None:
        generation_flags.roll_back(arguments)
    else:
        _build(arguments, pipeline_options)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.build_vector_index",
        "Builds a dated vector index: every picture of a product index by what "
        "a model says of it.",
        _EPILOG,
    )
    generation_flags.add_output(parser, "VECTORS")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--product_index",
        type=pathlib.Path,
        metavar="INDEX",
        help="index (the generation that its LATEST names) or a generation",
    )
    generation_flags.add_list_and_rollback(action)
    _add_contents(parser)
    _add_retention(parser)
    flags.add_arguments(parser)
    return parser


def _add_contents(parser: argparse.ArgumentParser) -> None:
    """What the index is made of, beside the product index."""
    parser.add_argument(
        "--saved_model",
        type=pathlib.Path,
        metavar="DIR",
        help="exported model, saved_models/sicot (its newest version) or "
        "saved_models/sicot/2 (default: the product index's embeddings)",
    )
    parser.add_argument(
        "--delta",
        action="store_true",
        help="on top of LATEST: embed only what is new or changed",
    )
    generation_flags.add_date(parser)
    parser.add_argument(
        "--image_root",
        type=pathlib.Path,
        metavar="DIR",
        help="folder of relative picture paths (default: that of the "
        "catalogue file, if it is beside the product index)",
    )
    parser.add_argument(
        "--recall",
        type=float,
        default=0.99,
        help="share of the 60 most similar pictures that a search finds, to "
        "which the indexes are tuned (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the training of the indexes (default: %(default)s)",
    )


def _add_retention(parser: argparse.ArgumentParser) -> None:
    """What may become of the generations before."""
    generation_flags.add_retention(parser, "vectors")
    parser.add_argument(
        "--releases",
        type=pathlib.Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="never remove what the live release of these folders has in use, "
        "or the one before it",
    )


def _build(
    arguments: argparse.Namespace,
    pipeline_options: "beam_options.PipelineOptions",
) -> None:
    command_line.import_tensorflow()
    from beam_jobs.vectors import build
    from beam_jobs.vectors import identity
    from sicot_tf.recognition.releases import release_check

    saved_model = arguments.saved_model
    if saved_model and not (saved_model / "saved_model.pb").is_file():
        saved_model = release_check.newest_version(saved_model)
    index = generations.resolve_generation(arguments.product_index)
    generation = build.build(
        arguments.output,
        identity.Settings(
            product_index=index,
            date=arguments.date,
            saved_model=saved_model,
            delta=arguments.delta,
            image_root=arguments.image_root,
            recall=arguments.recall,
            seed=arguments.seed,
        ),
        pipeline_options,
        max_shrink_percent=(
            100 if arguments.force else arguments.max_shrink_percent
        ),
        keep=arguments.keep,
        releases=arguments.releases,
    )
    _print_results(generation, index, saved_model, arguments)


def _print_results(
    generation: pathlib.Path,
    index: pathlib.Path,
    saved_model: pathlib.Path | None,
    arguments: argparse.Namespace,
) -> None:
    found = files.read_json(generation / generations.MANIFEST)
    counts = found["counts"]
    print(
        f"{found['num_vectors']:,} vectors of {found['num_products']:,} "
        f"products by signature {found['signature']}, {found['dim']} numbers "
        f"each, in {len(found['categories'])} categories and over all"
    )
    print(
        f"{counts['embedded']:,} embedded now, "
        f"{counts['kept_from_base']:,} kept, "
        f"{counts['from_product_index']:,} of the product index, "
        f"{counts['from_live_changes']:,} of live changes; "
        f"{sum(counts['rejects'].values()):,} pictures rejected "
        f"{counts['rejects'] or ''}".rstrip()
    )
    print(f"Vector index: {generation}")
    print(
        "Go back with: python -m beam_jobs.build_vector_index --output "
        f"{arguments.output} --rollback"
    )
    model = saved_model or "saved_models/..."
    print(
        f"Next: python -m sicot_tf.release --model {model} --product_index "
        f"{index} --vector_index {arguments.output}"
    )


if __name__ == "__main__":
    main()
