"""Pictures of a generated shop with what is on them, and flags for it all."""

import argparse
import glob
import pathlib
from typing import Any

import orjson

_DEMO = pathlib.Path("demo")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Model, index and pictures; by default what `make demo` makes."""
    for flag, default, text in (
        ("model", pathlib.Path("saved_models/sicot"), "exported model"),
        ("product_index", _DEMO / "index", "index"),
        ("catalogue_root", _DEMO / "shop", "where its pictures' paths start"),
    ):
        parser.add_argument(
            f"--{flag}", type=pathlib.Path, default=default,
            help=f"{text} (%(default)s)",
        )  # fmt: skip
    parser.add_argument(
        "--records",
        default=str(_DEMO / "shop" / "records-*.jsonl"),
        help="pattern of the files of pictures (%(default)s)",
    )
    parser.add_argument(
        "--split", default="val", choices=("train", "val", "test")
    )


def rows(pattern: str, split: str) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Folder and content of the rows of a split, in the order of the files.

    Raises:
        ValueError: if there are none.
    """
    found = [
        (pathlib.Path(path).parent, row)
        for path in sorted(glob.glob(pattern))
        for row in map(orjson.loads, pathlib.Path(path).open("rb"))
        if row["split"] == split
    ]
    if not found:
        raise ValueError(
            f"Expected rows of split {split!r} in {pattern}, received none. "
            "Run make demo, or name other files."
        )
    return found


def pictures(
    pattern: str, split: str
) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """File and row of each picture of a split."""
    return [
        (folder / row["image"], row) for folder, row in rows(pattern, split)
    ]
