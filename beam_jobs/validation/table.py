"""The checks of a data set, and the table of what they found."""

from typing import Any

# In the order of the table.
CHECKS = {
    "manifest": "manifest.json can be read and is complete",
    "files": "every file has the size and SHA-256 of the manifest",
    "checksums": "every record has its CRC-32C checksums",
    "offsets": "offset files point to the start of each record",
    "examples": "every example has the features of the contract",
    "labels": "labels are lines of classes.jsonl, with the SKU id of theirs",
    "words": "word ids are those of the words in vocabulary.txt",
    "images": "pictures are JPEG (header; with --images decoded whole)",
    "record_ids": "no record id stands twice",
    "records": "records are those of the record files, in the split given",
    "overlap": "no picture is both in train and in val or test",
    "counts": "counts are those of manifest.json and classes.jsonl",
    "classes": "classes.jsonl: a line a label, SKU ids once, head as counted",
    "vocabulary": "vocabulary.txt: every word once, counts beside it",
    "word_vectors": "word_vectors.npy: a finite row for each word, row 0 zero",
    "rejects": "rejects.jsonl: reasons as counted, nothing lost",
}


def print_report(report: dict[str, Any]) -> None:
    """The checks as a table, then examples of what is wrong."""
    print(f"\n{report['records']:,} records read\n")
    for name, check in report["checks"].items():
        state = f"{check['wrong']:,} wrong" if check["wrong"] else "ok"
        if "skipped" in check:
            state = "skipped"
        print(f"{name:13} {state:>14}  {check.get('skipped', CHECKS[name])}")
    for name, check in report["checks"].items():
        if check["wrong"]:
            print(f"\n{name}: {check['wrong']:,} wrong, for example")
            for example in check["examples"]:
                print(f"  {example}")
    print()
