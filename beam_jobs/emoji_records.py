"""Makes raw records of real drawings with the words of real annotators.

    npm packages -> classes, drawings, titles -> long tail -> PNG files
        -> DIR/records.jsonl, DIR/images/, DIR/LICENSES.md

The products are emoji, drawn by ten sets of artists. Train, val and test
hold different artists, so a test picture is a style never seen in training.
"""

import argparse
import pathlib

from sicot_tf import command_line
from sicot_tf.stores import locations

_EXAMPLES = """\
examples:
  python -m beam_jobs.emoji_records --output records
  python -m beam_jobs.emoji_records --output records --num_classes 0
  python -m beam_jobs.emoji_records --output records --long_tail none

Node.js 18 or later is needed for npm, and internet on the first run (about
54 MB, 285 MB unpacked). Flags are told apart easily, so they are left out.
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the records, prints what came of it."""
    arguments = _make_parser().parse_args(argv)
    from beam_jobs.readers import emoji
    from beam_jobs.readers import emoji_long_tail

    output = arguments.output
    cache = arguments.cache
    if cache is None:
        is_remote = locations.is_remote(output)
        cache = pathlib.Path("packages") if is_remote else output / "packages"
    records_path = emoji.build(
        output,
        cache,
        num_classes=arguments.num_classes,
        image_size=arguments.image_size,
        long_tail=arguments.long_tail,
        include_flags=arguments.flags,
        seed=arguments.seed,
    )
    emoji.print_summary(output)
    licenses = locations.join(output, "LICENSES.md")
    dataset = locations.join(locations.parent(output), "dataset")
    print(f"Records: {records_path} (licences: {licenses})")
    print(
        f"Next: python -m beam_jobs.build_dataset --input {records_path} "
        f"--output {dataset} "
        f"--head_threshold {emoji_long_tail.MIN_HEAD_DRAWINGS}"
    )


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.emoji_records", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        required=True,
        help="folder for records.jsonl and images/",
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        default=400,
        help="classes to choose; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--image_size",
        type=int,
        default=112,
        help="side of the images in pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--long_tail",
        choices=("standard", "none"),
        default="standard",
        help="17%% of the classes keep all training images, 33%% two, the "
        "others one; none: all keep all (default: %(default)s)",
    )
    parser.add_argument(
        "--flags",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="take the flags too",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of classes and long tail (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        help="where the npm packages go (default: OUTPUT/packages; packages "
        "here if the output is on a store)",
    )
    return parser


if __name__ == "__main__":
    main()
