"""Beam transforms of `webvision_records`: lists of pictures to records.

list -> ReadListFn -> pictures of one JSON file, by shard
    -> WriteShardFn, with the titles in the file -> one file a shard
"""

import collections
import itertools
import posixpath
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from beam_jobs.readers import record_shards
from beam_jobs.readers import webvision_files
from sicot_tf import files
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# List, JSON file (val: ""), pictures.
Block = tuple[str, str, list[webvision_files.Picture]]


class ReadListFn(beam.DoFn):
    """A list to blocks of pictures, each under the shard it goes to.

    The pictures of one JSON file all go to the same.
    """

    def __init__(self, labels: Collection[int], num_shards: int):
        self._labels = labels
        self._num_shards = num_shards

    def process(self, image_list: webvision_files.ImageList) -> Iterator[Any]:
        # A shard without pictures is written too.
        for shard in range(self._num_shards):
            yield shard, (image_list.name, "", [])
        notes = record_shards.Notes()
        pictures = self._read(image_list, notes)
        for json_file, rows in itertools.groupby(pictures, lambda row: row[0]):
            key = f"{image_list.name}|{json_file}"
            shard = files.stable_hash(key) * self._num_shards >> 64
            block = [picture for _, picture in rows]
            yield shard, (image_list.name, json_file, block)
        yield beam.pvalue.TaggedOutput("notes", notes)

    def _read(
        self,
        image_list: webvision_files.ImageList,
        notes: record_shards.Notes,
    ) -> Iterator[tuple[str, webvision_files.Picture]]:
        """JSON file and picture of each line of a class that was chosen."""
        name = image_list.name
        place = opening.open_folder(image_list.root)
        lines = webvision_files.read_lines(place, image_list.filelist)
        meta_lines = itertools.repeat((0, ""))
        if image_list.meta_list:
            meta_lines = webvision_files.read_lines(place, image_list.meta_list)
        for (number, line), (_, meta_line) in zip(lines, meta_lines):
            json_file, row = "", 0
            try:
                path, label = webvision_files.parse_line(line)
                if image_list.meta_list:
                    json_file, row = webvision_files.parse_line(meta_line)
            except ValueError:
                notes.counts[name, "bad_lines"] += 1
                notes.add_problem(
                    "bad_line",
                    list=name,
                    line=number,
                    text=line[:500],
                    meta_text=meta_line[:500],
                )
                continue
            if label in self._labels:
                yield json_file, (row, path, label)
            else:
                notes.counts[name, "lines_of_other_classes"] += 1


class WriteShardFn(beam.DoFn):
    """The blocks of a shard to its file, with the titles of their JSON files.

    Each JSON file is read once; those of a shard that is written, by a command
    that was killed then, not again.

    Args:
        result: the folder of the shards.
        work: that of the notes on each.
    """

    def __init__(
        self,
        result: locations.Location,
        work: locations.Location,
        num_shards: int,
        lists: Sequence[webvision_files.ImageList],
        image_folders: Mapping[str, str],
        synsets: Sequence[tuple[str, str]],
        text_fields: Sequence[str],
    ):
        self._locations = result, work
        self._num_shards = num_shards
        self._lists = {each.name: each for each in lists}
        self._image_folders = image_folders
        self._synsets = synsets
        self._text_fields = text_fields

    def process(self, group: tuple[int, Iterable[Block]]) -> Iterator[Any]:
        shard, blocks = group
        result, work = map(opening.open_folder, self._locations)
        mark = f"notes/{shard:05d}.json"
        if work.exists(mark):
            notes = record_shards.Notes.from_json(work.get_json(mark))
            yield beam.pvalue.TaggedOutput("notes", notes)
            return
        pictures = collections.defaultdict(list)
        for name, json_file, block in blocks:
            pictures[name, json_file] += block
        notes = record_shards.Notes()
        records = (
            record
            for name, json_file in sorted(pictures)
            for record in self._make_records(
                name, json_file, sorted(pictures[name, json_file]), notes
            )
        )
        record_shards.write_shard(
            result, work, shard, self._num_shards, records, notes
        )
        work.put_json(mark, notes.to_json())
        yield beam.pvalue.TaggedOutput("notes", notes)

    def _make_records(
        self,
        name: str,
        json_file: str,
        pictures: Sequence[webvision_files.Picture],
        notes: record_shards.Notes,
    ) -> Iterator[dict[str, Any]]:
        entries = self._read_entries(name, json_file, notes)
        matched = webvision_files.match_metadata(pictures, entries)
        used = set()
        num_missing = 0
        for (_, path, label), (entry, how) in zip(
            pictures, matched, strict=True
        ):
            title = ""
            if entry is not None:
                used.add(id(entry))
                title = webvision_files.join_text(entry, self._text_fields)
            wordnet_id, words = self._synsets[label]
            path = webvision_files.below(path, name)
            notes.counts[name, "records"] += 1
            if json_file:
                notes.counts[name, f"metadata_{how}"] += 1
                notes.counts[name, "empty_titles"] += not title
                num_missing += entry is None
            yield {
                "record_id": f"{name}/{path}",
                "image": posixpath.join(self._image_folders[name], path),
                "sku_id": wordnet_id,
                "sku_name": words,
                "title": title,
                "split": "train" if json_file else "test",
                "source": name,
            }
        if json_file:
            unused = len(entries) - len(used)
            notes.counts[name, "metadata_without_picture"] += unused
        if num_missing:
            notes.add_problem(
                "no_metadata", file=json_file, pictures=num_missing
            )

    def _read_entries(
        self, name: str, json_file: str, notes: record_shards.Notes
    ) -> list[Any]:
        """The entries of a JSON file; none if it can't be read."""
        if not json_file:
            return []
        notes.counts[name, "json_files"] += 1
        try:
            return webvision_files.read_metadata(self._lists[name], json_file)
        except folder.StoreError:
            raise
        # Text nested thousands deep raises RecursionError.
        except (OSError, ValueError, RecursionError) as error:
            notes.counts[name, "json_files_unreadable"] += 1
            notes.add_problem(
                "unreadable_json", file=json_file, error=type(error).__name__
            )
            return []


@beam.typehints.with_input_types(webvision_files.ImageList)
class WriteRecords(beam.PTransform):
    """Lists to shards of records; yields the notes of the whole."""

    def __init__(self, read_list: ReadListFn, write_shard: WriteShardFn):
        super().__init__()
        self._read_list = read_list
        self._write_shard = write_shard

    def expand(self, lists: beam.PCollection) -> beam.PCollection:
        read = (
            lists
            | "SpreadLists" >> beam.Reshuffle()
            | "ReadList"
            >> beam.ParDo(self._read_list).with_outputs("notes", main="blocks")
        )
        written = (
            read.blocks
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShard"
            >> beam.ParDo(self._write_shard).with_outputs("notes", main="none")
        )
        return (
            (read.notes, written.notes)
            | "AllNotes" >> beam.Flatten()
            | "MergeNotes" >> beam.CombineGlobally(record_shards.merge_notes)
        )
