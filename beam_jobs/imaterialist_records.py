"""Makes raw records of iMaterialist Product 2019 (FGVC6).

    train.json, val.json: id, class  |
    titles: id, title                |-> by id -> DIR/records-*.jsonl
    picture files: id                |

Train is train.json, test is val.json: the labels of test.json were never
published. The data set has no titles; bring a file of your own.
"""

from beam_jobs.pipelines import worker
from beam_jobs.readers import record_shards
from sicot_tf import command_line
from sicot_tf.stores import locations

_EPILOG = """\
titles: JSON Lines, CSV (both also gzipped) or Parquet with id and title
pictures: anywhere below the root; a file belongs to the id its name starts
with, up to the first dot

examples:
  python -m beam_jobs.imaterialist_records --root imaterialist \\
      --titles titles.csv --output records
"""
# The paper's boundary of head and tail (Table 4).
_HEAD_THRESHOLD = 200


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the records, prints what came of it."""
    arguments = _make_parser().parse_args(argv)
    worker.import_beam()
    command_line.import_tensorflow()
    from beam_jobs.readers import imaterialist

    imaterialist.build(
        arguments.root,
        arguments.output,
        titles=arguments.titles,
        encoding=arguments.encoding,
    )
    record_shards.print_summary(arguments.output, _HEAD_THRESHOLD)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.imaterialist_records", __doc__, _EPILOG
    )
    record_shards.add_arguments(
        parser, root="folder with train.json, val.json and the pictures"
    )
    parser.add_argument(
        "--titles",
        type=locations.location,
        metavar="FILE",
        help="titles by id (default: none, all titles are empty)",
    )
    parser.add_argument(
        "--encoding",
        default="utf-8",
        help="of the text of the titles, for example gb18030 (default: utf-8)",
    )
    return parser


if __name__ == "__main__":
    main()
