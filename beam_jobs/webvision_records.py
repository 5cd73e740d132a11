"""Makes raw records of WebVision 2.0, or 1.0, as the paper uses it.

    lists of pictures and of metadata -> webvision_shards.WriteRecords (Beam)
        -> DIR/records-*.jsonl, DIR/summary.json

Train is what Google and Flickr found, with the title it had there; test is
the official validation set, which has no titles.
"""

import argparse
import math
import pathlib
import posixpath
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.pipelines import runners
from beam_jobs.readers import record_shards
from beam_jobs.readers import webvision_files
from beam_jobs.readers import webvision_shards

_EPILOG = """\
The root holds info/, google/, flickr/ and val_images_resized/, or, as in the
development kit, info/, meta/, train_images_256/ and val_images_256/.

examples
  python -m beam_jobs.webvision_records --root webvision --output records
  python -m beam_jobs.webvision_records --root webvision --output records \\
      --class_list my_synsets.txt --source google --num_processes 8
"""
# Raise it when equal input is to give other records than before.
_FORMAT_VERSION = 1
# About 60 MB.
_SHARD_RECORDS = 200_000
# The paper's boundary of head and tail (Table 4).
_HEAD_THRESHOLD = 5000


def build(
    root: pathlib.Path,
    output: pathlib.Path,
    pipeline_options: beam_options.PipelineOptions,
    *,
    sources: Sequence[str] = webvision_files.SOURCES,
    text_fields: Sequence[str] = ("title",),
    num_classes: int = 1000,
    class_seed: int = 0,
    class_list: pathlib.Path | None = None,
    shard_records: int = _SHARD_RECORDS,
) -> None:
    """Writes the records of some classes into a new folder.

    Args:
        root: where the archives were unpacked.
        output: a new folder, or one that an equal call filled.
        sources: of the training pictures.
        text_fields: make up the title.
        num_classes: how many classes to choose; 0: all.
        class_seed: of the choice.
        class_list: names the classes instead.
        shard_records: about how many records a shard has.

    Raises:
        ValueError: if a file is missing, the lists don't fit together, or
            `output` holds something else.
    """
    root = root.absolute()
    lists = webvision_files.find_lists(root, sources)
    synsets_path = webvision_files.find_file(root, "synsets.txt")
    synsets = webvision_files.read_synsets(synsets_path)
    names = dict(synsets)
    if class_list:
        chosen = webvision_files.read_class_list(class_list, names)
    else:
        chosen = webvision_files.choose_classes(names, num_classes, class_seed)
    labels = [label for label, row in enumerate(synsets) if row[0] in chosen]
    inputs = [synsets_path]
    for each in lists:
        inputs += [each.filelist, *filter(None, [each.meta_list])]
    path_to_root = record_shards.path_from(output, root)
    settings = {
        "format_version": _FORMAT_VERSION,
        "sources": list(sources),
        "text_fields": list(text_fields),
        "classes": chosen,
        "shard_records": shard_records,
        "image_folders": {
            each.name: posixpath.join(
                path_to_root, each.images.relative_to(root).as_posix()
            )
            for each in lists
        },
        "inputs": {path.name: record_shards.sha256(path) for path in inputs},
        "metadata": {
            each.name: webvision_files.digest_metadata(each.metadata)
            for each in lists
            if each.metadata
        },
    }
    if record_shards.is_written(output, settings):
        print(f"{output} is already written.")
        return

    num_lines = sum(
        webvision_files.check_list(each, len(synsets)) for each in lists
    )
    num_records = num_lines * len(labels) / len(synsets)
    num_shards = max(1, math.ceil(num_records / shard_records))
    print(f"titles of {len(chosen):,} classes ...", flush=True)
    with record_shards.writing(output) as folder:
        runners.run(
            pipeline_options,
            lists,
            webvision_shards.WriteRecords(
                webvision_shards.ReadListFn(frozenset(labels), num_shards),
                webvision_shards.WriteShardFn(
                    folder,
                    num_shards,
                    lists,
                    settings["image_folders"],
                    synsets,
                    text_fields,
                ),
            )
            | "WriteNotes"
            >> beam.Map(
                record_shards.write_notes,
                folder,
                settings,
                {each: names[each] for each in chosen},
            ),
        )


def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the records, prints what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.webvision_records",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="folder the archives were unpacked in",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="new folder for the records; pictures stay where they are",
    )
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
        type=pathlib.Path,
        metavar="FILE",
        help="take these instead: lines that start with a WordNet id",
    )
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
    runners.add_arguments(parser)
    arguments, beam_flags = parser.parse_known_args(argv)
    try:
        pipeline_options = runners.make_pipeline_options(
            arguments.runner, arguments.num_processes, beam_flags
        )
        build(
            arguments.root,
            arguments.output,
            pipeline_options,
            sources=arguments.source,
            text_fields=arguments.text_fields,
            num_classes=arguments.num_classes,
            class_seed=arguments.class_seed,
            class_list=arguments.class_list,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    record_shards.print_summary(arguments.output, _HEAD_THRESHOLD)


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
