"""Makes raw records of WebVision 2.0, or 1.0, as the paper uses it.

    lists of pictures and of metadata -> WriteRecords (Beam)
        -> DIR/records-*.jsonl, DIR/summary.json

Train is what Google and Flickr found, with the title it had there; test is
the official validation set, which has no titles.
"""

import argparse

from beam_jobs.pipelines import flags
from beam_jobs.readers import record_shards
from beam_jobs.readers import webvision_files
from sicot_tf import command_line
from sicot_tf.stores import locations

_EPILOG = """\
The root holds info/, google/, flickr/ and val_images_resized/, or, as in the
development kit, info/, meta/, train_images_256/ and val_images_256/.

examples:
  python -m beam_jobs.webvision_records --root webvision --output records
  python -m beam_jobs.webvision_records --root webvision --output records \\
      --class_list my_synsets.txt --source google --num_processes 8
"""
# The paper's boundary of head and tail (Table 4).
_HEAD_THRESHOLD = 5000


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the records, prints what came of it."""
    arguments, pipeline_options = flags.parse(_make_parser(), argv)
    from beam_jobs.readers import webvision

    webvision.build(
        arguments.root,
        arguments.output,
        pipeline_options,
        sources=arguments.source,
        text_fields=arguments.text_fields,
        num_classes=arguments.num_classes,
        class_seed=arguments.class_seed,
        class_list=arguments.class_list,
    )
    record_shards.print_summary(arguments.output, _HEAD_THRESHOLD)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.webvision_records", __doc__, _EPILOG
    )
    record_shards.add_arguments(
        parser, root="folder the archives were unpacked in"
    )
    _add_classes(parser)
    parser.add_argument(
        "--source",
        nargs="+",
        choices=webvision_files.SOURCES,
        default=webvision_files.SOURCES,
        help="of the training pictures (default: google flickr)",
    )
    parser.add_argument(
        "--text_fields",
        type=_parse_fields,
        default=("title",),
        metavar="FIELD[,FIELD...]",
        help=f"make up the title: {', '.join(webvision_files.TEXT_FIELDS)} "
        "(default: title)",
    )
    flags.add_arguments(parser)
    return parser


def _add_classes(parser: argparse.ArgumentParser) -> None:
    """Which classes are taken."""
    parser.add_argument(
        "--num_classes",
        type=int,
        default=1000,
        help="classes to choose at random; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--class_seed",
        type=int,
        default=0,
        help="of the choice; the paper's is not known (default: %(default)s)",
    )
    parser.add_argument(
        "--class_list",
        type=locations.location,
        metavar="FILE",
        help="take these instead: lines that start with a WordNet id",
    )


def _parse_fields(text: str) -> tuple[str, ...]:
    """Argparse type of --text_fields."""
    fields = tuple(text.split(","))
    if not set(fields) <= set(webvision_files.TEXT_FIELDS):
        raise argparse.ArgumentTypeError(
            f"expected some of {','.join(webvision_files.TEXT_FIELDS)}, "
            f"received {text!r}"
        )
    return fields


if __name__ == "__main__":
    main()
