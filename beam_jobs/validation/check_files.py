"""What is wrong with the files of a dataset generation, but for its shards.

Each check notes what it finds; none ends at the first.
"""

import collections
import concurrent.futures
import dataclasses
import json
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.data import records

_MAX_EXAMPLES = 5


@dataclasses.dataclass
class Findings:
    """What is wrong by check: how often, and the first five examples."""

    counts: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, check: str, message: str) -> None:
        """Notes what is wrong."""
        self.counts[check] += 1
        examples = self.examples.setdefault(check, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(message)

    def merge(self, other: "Findings") -> None:
        """Adds what is wrong elsewhere."""
        self.counts += other.counts
        for check, examples in other.examples.items():
            mine = self.examples.setdefault(check, [])
            mine += examples[: _MAX_EXAMPLES - len(mine)]


@dataclasses.dataclass
class Classes:
    """`classes.jsonl` by columns: SKU ids, and `[num_classes, 3]` counts."""

    sku_ids: list[str | None]
    counts: np.ndarray
    heads: list[bool | None]


def read_classes(path: pathlib.Path, findings: Findings) -> Classes:
    """The classes by label; a line that can't be read has None in its place."""
    classes = Classes([], np.zeros((0, len(records.SPLITS)), np.int64), [])
    counts = []
    for label, line in enumerate(_read_lines(path, "classes", findings)):
        try:
            row = json.loads(line)
            if row["label"] != label:
                raise ValueError(f"expected label {label}: {line:.100}")
            of_class = [int(row[split]) for split in records.SPLITS]
            sku_id, head = row["sku_id"], row["head"]
        except (ValueError, TypeError, KeyError) as error:
            findings.add("classes", f"line {label + 1}: {error!r:.200}")
            of_class, sku_id, head = [0] * len(records.SPLITS), None, None
        counts.append(of_class)
        classes.sku_ids.append(sku_id)
        classes.heads.append(head)
    if counts:
        classes.counts = np.array(counts, np.int64)
    return classes


def read_vocabulary(path: pathlib.Path, findings: Findings) -> list[str]:
    """The words in the order of their ids."""
    return list(_read_lines(path, "vocabulary", findings))


def _read_lines(
    path: pathlib.Path, check: str, findings: Findings
) -> Iterator[str]:
    """Lines of UTF-8; a file that is missing is told by the check of files."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if "\ufffd" in line or not line.endswith("\n"):
                findings.add(check, f"line {number}: cut, or no UTF-8")
            yield line.removesuffix("\n")


def check_file(
    generation: pathlib.Path,
    name: str,
    manifest: dict[str, Any],
    findings: Findings,
) -> bool:
    """Compares a file with the manifest; False if there is none to read."""
    path = generation / name
    expected = manifest["files"].get(name)
    if not path.is_file():
        findings.add("files", f"{name} is missing")
        return False
    if expected is None:
        findings.add("files", f"{name} is not in the manifest")
        return True
    size = path.stat().st_size
    if size != expected["bytes"]:
        findings.add(
            "files", f"{name} has {size:,} bytes, not {expected['bytes']:,}"
        )
        return True
    try:
        digest = files.sha256(path)
    except OSError as error:  # A bad disk is what we look for.
        findings.add("files", f"{name} can't be read: {error}")
        return False
    if digest != expected["sha256"]:
        findings.add("files", f"{name} has other content: SHA-256 {digest}")
    return True


def check_other_files(
    generation: pathlib.Path,
    manifest: dict[str, Any],
    stems: list[str],
    shards: Iterable[str],
    findings: Findings,
) -> None:
    """The files that are no shards, and shards that nobody knows of.

    Args:
        shards: the names of the files of shards that are there.
    """
    of_shards = {
        f"{stem}{ending}"
        for stem in stems
        for ending in (".tfrecord", ".offsets.npy")
    }
    for name in sorted(set(shards) - of_shards):
        findings.add("files", f"{name} is not in the manifest")

    def check(name: str) -> Findings:
        own = Findings()
        check_file(generation, name, manifest, own)
        return own

    names = sorted(set(manifest["files"]) - of_shards)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for own in pool.map(check, names):
            findings.merge(own)


def check_classes(
    classes: Classes,
    manifest: dict[str, Any],
    findings: Findings,
) -> None:
    if len(classes.sku_ids) != manifest["num_classes"]:
        findings.add(
            "classes",
            f"{len(classes.sku_ids):,} lines, {manifest['num_classes']:,} "
            "classes by the manifest",
        )
    if len(set(classes.sku_ids)) < len(classes.sku_ids):
        counts = collections.Counter(classes.sku_ids)
        for sku_id, count in counts.items():
            if sku_id is not None and count > 1:
                findings.add("classes", f"{sku_id!r} stands {count} times")
    threshold = manifest["long_tail"].get("head_threshold", 0)
    train = classes.counts[:, records.SPLITS.index("train")]
    for label, head in enumerate(classes.heads):
        if head is not None and head != (train[label] >= threshold):
            findings.add(
                "classes",
                f"{classes.sku_ids[label]!r}: head is {head} with "
                f"{train[label]} of {threshold} training records",
            )


def check_words(
    generation: pathlib.Path,
    manifest: dict[str, Any],
    findings: Findings,
) -> None:
    """The vocabulary, its counts and its vectors."""
    size = manifest["vocabulary_size"]
    words = read_vocabulary(generation / "vocabulary.txt", findings)
    if not len(words) == len(set(words)) == size:
        findings.add(
            "vocabulary",
            f"{len(words):,} words, {len(set(words)):,} of them different, "
            f"{size:,} by the manifest",
        )
    try:
        counts = files.read_json(generation / "vocabulary.json")["counts"]
        if len(counts) != size or counts != sorted(counts, reverse=True):
            findings.add(
                "vocabulary",
                f"vocabulary.json: expected {size:,} falling counts, found "
                f"{len(counts):,}",
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.add("vocabulary", f"vocabulary.json: {error!r:.200}")
    try:
        vectors = np.load(generation / "word_vectors.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        findings.add("word_vectors", f"{error!r:.200}")
        return
    shape = (size + 1, manifest["word_vector_dim"])
    if vectors.shape != shape or vectors.dtype != np.float32:
        findings.add(
            "word_vectors",
            f"expected {shape} float32, found {vectors.shape} {vectors.dtype}",
        )
    elif vectors[records.PADDING_ID].any():
        findings.add("word_vectors", "row 0, padding, is not zero")
    elif num_bad := int(np.sum(~np.isfinite(vectors).all(axis=1))):
        findings.add("word_vectors", f"{num_bad:,} rows are not finite")


def check_rejects(
    generation: pathlib.Path,
    manifest: dict[str, Any],
    findings: Findings,
) -> None:
    """Reasons as counted; records read are those written and rejected."""
    path = generation / "rejects.jsonl"
    counts = collections.Counter()
    if path.is_file():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    counts[json.loads(line)["reason"]] += 1
                except (ValueError, KeyError, TypeError) as error:
                    findings.add("rejects", f"line {number}: {error!r:.200}")
    expected = manifest["counts"]
    if counts != expected.get("rejected"):
        findings.add(
            "rejects",
            f"found {dict(sorted(counts.items()))}, by the manifest "
            f"{expected.get('rejected')}",
        )
    accounted = sum(counts.values()) + sum(expected.get("written", {}).values())
    if accounted != expected.get("records_read"):
        findings.add(
            "rejects",
            f"{accounted:,} records are written or rejected, "
            f"{expected.get('records_read')} were read",
        )
