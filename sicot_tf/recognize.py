"""Recognises products on photos: a page and an HTTP API over them.

A photo is localised, recognised and looked up in the product index; the answer
is a panel with pictures, title and tags of the product. Model and index come
as a release, which may be replaced while requests run.
"""

import argparse
import asyncio

from sicot_tf import command_line
from sicot_tf.stores import locations

_EXAMPLES = """\
The last line printed is the address of the page. SIGTERM or Ctrl-C: /readyz
says 503, requests are taken for --drain_seconds more, running ones end, exit
code 0.

examples:
  python -m sicot_tf.recognize --model saved_models/sicot \\
      --product_index demo/index
  python -m sicot_tf.recognize --releases releases --host 0.0.0.0 \\
      --api_keys keys.txt --requests_per_minute 60 --drain_seconds 10
  python -m sicot_tf.recognize --model sicot --product_index demo/index \\
      --model_server localhost:8500

  python -m sicot_tf.recognize --releases releases --events events \\
      --variants current=0.9,new=0.1 --variant_salt model-7 \\
      --variant_releases new=releases-new

  curl -F image=@photo.jpg http://127.0.0.1:8080/v1/recognize
  curl -F image=@photo.jpg 'http://127.0.0.1:8080/v1/search?max_price=20'
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Serves until a signal comes."""
    arguments = _parse_arguments(argv)
    from sicot_tf.recognition import serving

    asyncio.run(serving.run(arguments))


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.ArgumentParser(
        "sicot_tf.recognize", __doc__, _EXAMPLES
    )
    _add_flags(parser)
    arguments = parser.parse_args(argv)
    if mistake := _mistake(arguments):
        parser.error(mistake)
    return arguments


def _add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is recognised")
    for flag, text in (
        ("releases", "folder of releases; the one that is live is followed"),
        ("model", "exported model, or one version of it, instead of releases"),
        ("product_index", "product index, or one generation of it"),
        ("settings", "what sicot_tf.tune_recognition wrote"),
        (
            "vector_index",
            "for similar products: by beam_jobs.build_vector_index",
        ),
        ("ranker", "for their order: by sicot_tf.train_ranker"),
        (
            "catalogue_root",
            "where relative picture paths of the index start (the folder of "
            "its catalogue, if that lies beside the index)",
        ),
    ):
        kind = command_line.local_path
        if flag in ("product_index", "ranker"):
            kind = locations.location
        group.add_argument(f"--{flag}", type=kind, help=text)
    group.add_argument(
        "--model_server",
        metavar="HOST:PORT",
        help="gRPC of a running model server; otherwise one is started",
    )
    group.add_argument(
        "--by_similarity",
        action="store_true",
        help="results by similarity alone, whatever ranker a release has",
    )
    group = parser.add_argument_group("who may ask")
    group.add_argument("--host", default="127.0.0.1", help="(%(default)s)")
    group.add_argument(
        "--port", type=int, default=8080, help="0: a free one (%(default)s)"
    )
    group.add_argument(
        "--api_keys",
        type=command_line.local_path,
        help="file with a key a line; without it no key is needed",
    )
    group.add_argument(
        "--requests_per_minute",
        type=int,
        default=0,
        help="of each key or address; 0: no limit (%(default)s)",
    )
    group = parser.add_argument_group("limits")
    for flag, default, text in (
        ("max_bytes", 20_000_000, "size of a photo's file"),
        ("max_pixels", 50_000_000, "pixels of a photo, by its header"),
        ("max_queue", 64, "photos that are worked on at a time"),
        ("timeout_seconds", 30.0, "for an upload, and for its answer"),
        (
            "drain_seconds",
            0.0,
            "how long requests are still taken after SIGTERM, while /readyz "
            "sends clients elsewhere",
        ),
    ):
        group.add_argument(
            f"--{flag}",
            type=type(default),
            default=default,
            help=f"{text} ({default:,})",
        )

    group = parser.add_argument_group("visitors (docs/conversion.md)")
    group.add_argument(
        "--events",
        type=command_line.local_path,
        help="folder for what visitors do; without it no cookie is set",
    )
    group.add_argument(
        "--keep_event_days",
        type=int,
        default=30,
        help="older files of --events are removed; 0: none (%(default)s)",
    )
    group.add_argument(
        "--variants",
        metavar="NAME=SHARE,...",
        help="of an A/B test: current=0.5,new=0.5",
    )
    group.add_argument(
        "--variant_salt", default="", help="another one for each test"
    )
    group.add_argument(
        "--variant_releases",
        action="append",
        default=[],
        metavar="VARIANT=DIR",
        help="folder of releases of a variant, to compare models or indexes; "
        "others have --releases or --model",
    )
    group.add_argument(
        "--variant_settings",
        action="append",
        default=[],
        metavar="VARIANT=FILE",
        help="settings of a variant instead of the release's",
    )


def _mistake(arguments: argparse.Namespace) -> str | None:
    """What is wrong with flags that contradict or are out of range."""
    direct = (arguments.model, arguments.product_index, arguments.settings)
    direct += (arguments.vector_index, arguments.ranker)
    if arguments.releases and any(direct):
        return "expected --releases or --model with --product_index, got both"
    if arguments.ranker and not arguments.vector_index:
        return "--ranker: expected --vector_index, too"
    if any(direct) and not all(direct[:2]):
        return "expected --model and --product_index, got one of them"
    if not (arguments.releases or any(direct) or arguments.variant_releases):
        return "expected --releases, or --model and --product_index"
    if not 0 <= arguments.port < 2**16:
        return f"--port: expected 0 to 65535, received {arguments.port}"
    for flag, least in (
        ("requests_per_minute", 0),
        ("max_bytes", 1),
        ("max_pixels", 1),
        ("max_queue", 1),
        ("timeout_seconds", 0.001),
        ("drain_seconds", 0),
        ("keep_event_days", 0),
    ):
        value = getattr(arguments, flag)
        if not least <= value <= 10**12:
            return f"--{flag}: expected {least} or more, received {value}"
    root = arguments.catalogue_root
    if root and not root.is_dir():
        return f"--catalogue_root: expected a folder, received {root}"
    return None


if __name__ == "__main__":
    main()
