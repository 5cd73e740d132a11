"""A Croissant description of a dataset generation.

Croissant (mlcommons.org/croissant, version 1.1) is JSON-LD on top of
schema.org: which files there are, with checksums, and which records and
fields are in them. Written as plain JSON; `mlcroissant` validates it.
"""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from sicot_tf.data import records

# What `contentUrl` and `includes` are relative to is the description itself.
_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "data", "dataType"),
    *("equivalentProperty", "examples", "extract", "field", "fileObject"),
    *("fileProperty", "fileSet", "format", "includes", "isArray"),
    *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path"),
    *("recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{term: f"cr:{term}" for term in _TERMS},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_ENCODINGS = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".npy": "application/x-npy",
    ".tfrecord": "application/x-tfrecord",
    ".txt": "text/plain",
}
# Name, type, description.
_RECORD_FIELDS = (
    ("record_id", "sc:Text", "Unique name of the record."),
    ("image", "sc:ImageObject", "The picture, encoded as JPEG."),
    ("sku_id", "sc:Text", "The class: an id of a product."),
    ("label", "cr:Int64", "The class as a number from 0."),
    ("title", "sc:Text", "The title as it came; may be empty."),
    ("words", "sc:Text", "The words of the title, normalised."),
    (
        "word_ids",
        "cr:Int64",
        f"One id for each word, its line in vocabulary.txt from 1; "
        f"{records.PADDING_ID} is a word outside the vocabulary.",
    ),
    ("source", "sc:Text", "Where the record came from; may be empty."),
)
_LISTS = ("words", "word_ids")
_CLASS_FIELDS = (
    ("label", "cr:Int64", "The class as a number from 0."),
    ("sku_id", "sc:Text", "The class: an id of a product."),
    ("sku_name", "sc:Text", "A name that people read, where one is known."),
    ("train", "cr:Int64", "Training records of the class."),
    ("val", "cr:Int64", "Validation records of the class."),
    ("test", "cr:Int64", "Test records of the class."),
    ("head", "sc:Boolean", "Whether it is a head class."),
)


def describe(
    generation: str, manifest: Mapping[str, Any], base: str
) -> dict[str, Any]:
    """The Croissant description of a generation.

    It has no date, licence or citation, which only the owner of the data
    knows; validation warns of that.

    Args:
        generation: name of the generation.
        base: path from the description to the generation, with `/`.

    Returns:
        JSON-LD that `mlcroissant.Dataset` accepts.
    """
    counts = manifest["counts"]["written"]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"sicot-tf-{generation}",
        "description": (
            "Product pictures with titles for long-tailed recognition, "
            f"generation {generation} of sicot_tf: "
            f"{manifest['num_classes']:,} classes, {counts['train']:,} "
            f"training, {counts['val']:,} validation and {counts['test']:,} "
            "test records. Pictures and titles are in TFRecord files of "
            "tf.train.Example; columns of the record set `records` are the "
            "names of its features."
        ),
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "version": f"{manifest['format_version']}.0.0",
        "distribution": [
            *(
                _file_object(name, described, base)
                for name, described in sorted(manifest["files"].items())
            ),
            {
                "@type": "cr:FileSet",
                "@id": "tfrecord-files",
                "name": "tfrecord-files",
                "description": "All records, by split and shard.",
                "encodingFormat": _ENCODINGS[".tfrecord"],
                "includes": f"{base}/*.tfrecord",
            },
        ],
        "recordSet": [_splits(), _classes(), _records()],
    }


def _file_object(
    name: str, described: Mapping[str, Any], base: str
) -> dict[str, Any]:
    suffix = pathlib.PurePosixPath(name).suffix
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": f"{base}/{name}",
        "contentSize": f"{described['bytes']} B",
        "encodingFormat": _ENCODINGS.get(suffix, "application/octet-stream"),
        "sha256": described["sha256"],
    }


def _splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "splits/name",
                "name": "name",
                "dataType": "sc:Text",
            }
        ],
        "data": [{"splits/name": split} for split in records.SPLITS],
    }


def _classes() -> dict[str, Any]:
    source = {"fileObject": {"@id": "classes.jsonl"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "One row for each class, in the order of the labels.",
        "key": {"@id": "classes/label"},
        "field": _fields("classes", source, _CLASS_FIELDS),
    }


def _records() -> dict[str, Any]:
    source = {"fileSet": {"@id": "tfrecord-files"}}
    fields = _fields("records", source, _RECORD_FIELDS)
    for field in fields:
        if field["name"] in _LISTS:
            field |= {"isArray": True, "arrayShape": "-1"}
        if field["name"] == "label":
            field["references"] = {"field": {"@id": "classes/label"}}
    split = {
        "@type": "cr:Field",
        "@id": "records/split",
        "name": "split",
        "description": "The split, by the name of the file.",
        "dataType": "sc:Text",
        "source": {
            **source,
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": f"^({'|'.join(records.SPLITS)})-.*$"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": "One record is one picture with its title.",
        "key": {"@id": "records/record_id"},
        "field": [*fields, split],
    }


def _fields(
    record_set: str,
    source: Mapping[str, Any],
    described: Sequence[tuple[str, str, str]],
) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:Field",
            "@id": f"{record_set}/{name}",
            "name": name,
            "description": description,
            "dataType": data_type,
            "source": {**source, "extract": {"column": name}},
        }
        for name, data_type, description in described
    ]
