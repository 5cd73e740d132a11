"""Makes a generated shop: records, catalogue, scenes, queries, clicks.

    npm packages -> drawings by several artists
        -> shards of products (Beam) -> DIR/records-*.jsonl, DIR/images/ ...

A product is a type of thing in a colour, by a brand, with a pattern; its few
or many pictures show all four, its titles name some among words of promotion.
Train, val and test take the drawings of different artists. Nothing in it is
real but the drawings.
"""

import dataclasses
import pathlib

from beam_jobs.pipelines import flags
from beam_jobs.shop import settings
from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.stores import locations

_EXAMPLES = """
examples:
  python -m beam_jobs.shop_records --output shop
  python -m beam_jobs.shop_records --output shop --num_skus 300 \\
      --title_language mixed --wrong_title_share 0.1
  python -m beam_jobs.shop_records --output shop --num_skus 1000000 \\
      --num_types 400 --num_brands 200 --num_processes 8
  python -m beam_jobs.shop_records --output shop --catalogue_pictures 5 \\
      --new_sku_share 0.1 --num_clicks 30000

Node.js 18 or later is needed for npm, and internet on the first run (about
54 MB, 285 MB unpacked). A command that was killed goes on when it is given
again.
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds the shop, prints what came of it."""
    arguments, pipeline_options = flags.parse(_make_parser(), argv)
    names = [field.name for field in dataclasses.fields(settings.ShopConfig)]
    given = {name: getattr(arguments, name) for name in names}
    shop = settings.ShopConfig(
        **{name: given[name] for name in names if given[name] is not None}
    )
    from beam_jobs.shop import build

    output = arguments.output
    cache = arguments.cache
    if cache is None:
        if locations.is_remote(output):
            cache = pathlib.Path("packages")
        else:
            cache = output.absolute().parent / "packages"
    build.build(
        output, cache, shop, pipeline_options, shard_skus=arguments.shard_skus
    )
    build.print_summary(output)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.shop_records", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        required=True,
        metavar="DIR",
        help="new folder for the shop",
    )
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        metavar="DIR",
        help="where npm packages and rendered drawings go (default: the "
        "folder packages beside the output; here if that is on a store)",
    )
    parser.add_argument(
        "--shard_skus",
        type=int,
        default=0,
        help="SKUs that a worker takes at a time, and a file holds; 0: 50, "
        "or more for at most 1,000 files (default: %(default)s)",
    )
    config.add_arguments(parser, settings.ShopConfig)
    flags.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
