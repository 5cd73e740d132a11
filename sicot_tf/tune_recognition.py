"""Chooses the numbers of the recognition stages on validation pictures.

How much the nearest catalogue pictures say in the category, how much the
category says in the SKU, and, with --scenes, how a heat map becomes boxes; with
--queries, how much the pictures say in the SKU itself, which a classifier may
not know, and when a category narrows the results. The model is asked once;
--output keeps what was chosen, and what was measured for each candidate. Test
pictures are not read.
"""

import pathlib

from sicot_tf import command_line
from sicot_tf import files
from sicot_tf.stores import locations

_EXAMPLES = """
examples:
  python -m sicot_tf.tune_recognition --model saved_models/sicot \\
      --product_index demo/index --records 'demo/shop/records-*.jsonl'

  # With search, also for SKUs without training pictures:
  python -m sicot_tf.tune_recognition --model saved_models/sicot \\
      --product_index demo/index --records 'demo/shop/records-*.jsonl' \\
      --vector_index demo/vectors --queries 'demo/shop/queries-*.jsonl'

  # With the boxes of generated scenes:
  python -m sicot_tf.tune_recognition --model saved_models/sicot \\
      --product_index demo/index --records 'demo/shop/records-*.jsonl' \\
      --scenes 'demo/shop/scenes-*.jsonl'

The index needs embeddings of the same model: python -m
beam_jobs.build_product_index --saved_model saved_models/sicot/1 ...
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.tune_recognition", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "--model",
        type=command_line.local_path,
        default=pathlib.Path("saved_models/sicot"),
        help="an exported model: its newest version, or the folder of one "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--product_index",
        type=locations.location,
        default=pathlib.Path("demo/index"),
        help="folder of the product index, or of one generation "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--records",
        default="demo/shop/records-*.jsonl",
        help="labelled pictures: raw records as JSON Lines with split, image "
        "and sku_id (default: %(default)s)",
    )
    parser.add_argument(
        "--vector_index",
        type=command_line.local_path,
        help="vector index of the release, or one generation of it: then its "
        "pictures vote (default: those of the product index)",
    )
    parser.add_argument(
        "--queries",
        help="labelled pictures as --records, also of SKUs that no record has "
        "(default: none, the numbers of the search stay as they are)",
    )
    parser.add_argument(
        "--scenes",
        help="pictures with known boxes: JSON Lines with split, image and "
        "objects, each with a box (default: none, the numbers of the boxes "
        "stay as they are)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val"),
        default="val",
        help="which of the labelled pictures (default: %(default)s); of "
        "scenes, on which nothing is trained, train and val are taken",
    )
    parser.add_argument(
        "--output",
        type=command_line.local_path,
        default=pathlib.Path("recognition.json"),
        help="what the service reads (default: %(default)s)",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.tune_recognition`."""
    arguments = _make_parser().parse_args(argv)
    command_line.import_tensorflow()
    from sicot_tf.recognition.tuning import job
    from sicot_tf.recognition.tuning import table

    found = job.run(
        model_path=arguments.model,
        product_index=arguments.product_index,
        records=arguments.records,
        scenes=arguments.scenes,
        split=arguments.split,
        vectors=arguments.vector_index,
        queries=arguments.queries,
    )
    files.write_json(arguments.output, found)
    print("\n".join(table.lines(found)))
    print(
        f"Settings: {arguments.output}. Next: python -m sicot_tf.release "
        f"--model {arguments.model} --product_index {arguments.product_index} "
        f"--settings {arguments.output}"
    )


if __name__ == "__main__":
    main()
