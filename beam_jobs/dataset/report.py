"""What a command says of a generation that is built."""

from collections.abc import Iterator
from typing import Any


def print_counts(manifest: dict[str, Any]) -> None:
    """The counts, as a table."""
    counts = manifest["counts"]
    tail = manifest["long_tail"]
    rows = [("records read", counts["records_read"])]
    rows += [(f"written: {k}", v) for k, v in counts["written"].items()]
    rows += [(f"rejected: {k}", v) for k, v in counts["rejected"].items()]
    rows += [
        (f"unknown field: {k}", v)
        for k, v in manifest["unknown_fields"].items()
    ]
    rows += [
        ("classes", manifest["num_classes"]),
        (
            f"head (>= {tail['head_threshold']} images)",
            tail["num_head_classes"],
        ),
        ("tail", tail["num_tail_classes"]),
        ("words", manifest["vocabulary_size"]),
    ]
    if frozen_test := manifest.get("frozen_test"):
        for name in ("listed", "repeated", "unknown", "in_test"):
            label = name.replace("_", " ")
            rows.append((f"frozen test ids: {label}", frozen_test[name]))
    print()
    for name, value in rows:
        print(f"{name:34}{value:>12,}")


def warnings(manifest: dict[str, Any]) -> Iterator[str]:
    """What the lists name that the records do not have, in sentences."""
    frozen_test = manifest.get("frozen_test")
    if frozen_test and not frozen_test["listed"]:
        yield "the list of --frozen_test names no record."
    if frozen_test and frozen_test["unknown"]:
        yield (
            f"{frozen_test['unknown']:,} of {frozen_test['listed']:,} ids of "
            "--frozen_test are of no record that can be used, for example "
            f"{', '.join(map(repr, frozen_test['unknown_ids']))}."
        )
    kept_labels = manifest.get("kept_labels")
    if kept_labels and not kept_labels["trained"]:
        yield (
            f"not one of the {kept_labels['listed']:,} classes of "
            "--keep_labels has a training record."
        )
    word_vectors = manifest.get("word_vectors")
    if word_vectors and not word_vectors["share_of_vocabulary_found"]:
        yield (
            "the file of --word_vectors has not one of the "
            f"{manifest['vocabulary_size']:,} words."
        )
