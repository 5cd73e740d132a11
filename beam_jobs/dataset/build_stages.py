"""The stages of `build_dataset`.

They run in a work folder that survives interruption. What a stage has
finished, part by part and shard by shard, is not done again.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from gensim.models import word2vec

from beam_jobs.dataset import resolve_records
from beam_jobs.dataset import summary
from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import store_records
from beam_jobs.dataset.steps import survey_records
from beam_jobs.dataset.steps import write_shards
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import sums
from beam_jobs.records import file_ranges
from beam_jobs.records import id_lists
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from beam_jobs.words import word_vector_files
from beam_jobs.words import word_vectors
from sicot_tf import config
from sicot_tf import files
from sicot_tf.stores import folder
from sicot_tf.stores import local_copies

_log = logging.getLogger(__name__)
_VOCABULARY = "vocabulary.txt"
_VECTORS = "word_vectors"
# Finished parts, of which a worker reads the counts.
_BATCH = 500
# Plans of shards that are uploaded at once.
_NUM_THREADS = 16


@contextlib.contextmanager
def stage(name: str, measures: dict[str, dict[str, float]]) -> Iterator[None]:
    """Says what is going on; notes how long it took and the memory's peak."""
    _log.info("%s ...", name)
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform != "darwin":
        peak *= 1024
    measures[name] = {
        "seconds": round(time.monotonic() - started, 2),
        "peak_megabytes": round(peak / 2**20),
    }


@dataclasses.dataclass(frozen=True)
class Extras:
    """What is read beside the record files; `identity` names it."""

    frozen_test: id_lists.IdList | None
    kept_labels: list[str]
    word_vectors: pathlib.Path | None
    identity: dict[str, Any]


@dataclasses.dataclass
class BuildStages:
    """A build in its work folder.

    Attributes:
        work: holds `rows`, `parts`, `shards` and `summaries`.
        scratch: a folder of this machine alone.
        sum_each: `runners.sum_each` of inputs, a transform and a folder.
        counts: of the survey: `rows`, `unknown_fields`, `files`, `images`.
        images_sha256: names the pictures of all parts, once they are stored.
        measures: gets time and memory of each stage.
        counters: of Beam.
    """

    work: folder.Folder
    scratch: pathlib.Path
    extras: Extras
    dataset_config: config.DatasetConfig
    sum_each: Callable[..., tuple[collections.Counter[str], sums.Sums]]
    counts: sums.Sums = dataclasses.field(default_factory=dict)
    images_sha256: str = ""
    measures: dict[str, dict[str, float]] = dataclasses.field(
        default_factory=dict
    )
    counters: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def __post_init__(self) -> None:
        self._rows, self._parts, self._plans, self._summaries = map(
            self.work.child, ("rows", "parts", "shards", "summaries")
        )
        self._chunks: list[parts.Chunk] = []

    # === Records ===

    def survey(
        self, found: Sequence[record_files.RecordFile], part_records: int
    ) -> None:
        """Reads the record files.

        Raises:
            ValueError: if there is no record, or a file can't be read.
        """
        title_field = self.dataset_config.title_field
        encoding = self.dataset_config.encoding
        with (
            stage("survey", self.measures),
            progress.watch(
                "Record files",
                self._rows,
                "rows-*.parquet",
                total=None,
                count=lambda _: {"done": 1},
                unit="tables",
            ),
        ):
            ranges = file_ranges.plan(found, encoding)
            counts = self._run(
                ranges,
                survey_records.SurveyRecords(
                    self._rows.location, title_field, encoding, part_records
                ),
            )
        self._chunks = survey_records.plan_chunks(ranges, counts)
        num_rows = sum(chunk.num_rows for chunk in self._chunks)
        if not num_rows:
            raise ValueError(
                f"Expected records, found none in "
                f"{', '.join(file.path for file in found)}."
            )
        self.counts = {"unknown_fields": {}, "images": 0, **counts}
        self.counts["rows"] = num_rows
        _log.info("%s records, %d file(s)", f"{num_rows:,}", len(found))

    def store_records(self, part_records: int) -> None:
        """Checks, decodes and tokenises, part by part."""
        planned = parts.plan(self._chunks, part_records)
        self._drop_stale(
            {
                "images": self.counts["images"],
                "records": self.counts["rows"],
                "parts": len(planned),
            }
        )
        done = parts.finished(self._parts)
        finished = [part for part in planned if part.number in done]
        left = [part for part in planned if part.number not in done]
        _tell_finished(finished, planned)
        with (
            stage("check, decode, tokenise", self.measures),
            progress.watch(
                "Pictures",
                self._parts,
                "part-*.parquet",
                total=self.counts["rows"],
                count=lambda key: parts.progress(self._parts, key),
                unit="records",
            ),
        ):
            read_counts = store_records.ReadCountsFn(self._parts.location)
            counts = self._run(_batches(finished), beam.ParDo(read_counts))
            more = self._run(
                left,
                store_records.StoreRecords(
                    self._rows.location,
                    self._parts.location,
                    self.dataset_config,
                ),
            )
        sums.add(counts, more)
        self.images_sha256 = parts.images_sha256(counts["images"])

    def _drop_stale(self, plan: dict[str, int]) -> None:
        """Of an interrupted build, what was made of other pictures."""
        key = "plan.json"
        if self.work.exists(key) and self.work.get_json(key) != plan:
            for name in ("parts", "shards", "summaries", _VECTORS):
                for entry in list(self.work.list(name)):
                    self.work.delete(entry.key)
        self.work.put_json(key, plan)

    # === All together ===

    def make_generation(
        self, result: folder.Folder, memory_megabytes: int
    ) -> dict[str, Any]:
        """Writes the files of the generation; returns facts for the manifest.

        Args:
            result: where they go.
        """
        output = _Output(result, self.scratch / "generation")
        with contextlib.ExitStack() as stack:
            # The pictures stay where they are.
            facts_folder = local_copies.at_hand(
                self._parts,
                self.scratch / "parts",
                (
                    entry.key
                    for entry in self._parts.list("part-")
                    if not entry.key.endswith(".jpegs")
                ),
                "Copy facts",
            )
            database_folder = stack.enter_context(
                parquet_tables.plain_name(self.scratch)
            )
            facts_folder = stack.enter_context(
                parquet_tables.plain_name(facts_folder)
            )
            database = stack.enter_context(
                contextlib.closing(
                    resolve_records.connect(database_folder, memory_megabytes)
                )
            )
            resolver = resolve_records.Resolver(
                database, database_folder, facts_folder, self.dataset_config
            )
            with stage("duplicates, splits", self.measures):
                resolver.load()
                resolver.reject_duplicates()
                facts = {"duplicates": resolver.find_units()}
                facts |= self._assign_splits(resolver)
            with stage("vocabulary, word vectors, labels", self.measures):
                facts |= self._learn_words(resolver, output)
                facts |= self._assign_labels(resolver)
                if self.extras.frozen_test:
                    in_test = resolver.num_frozen_in_test()
                    facts["frozen_test"]["in_test"] = in_test
            _log.info("%s words", f"{facts['vocabulary_size']:,}")
            shards = self._write_shards(resolver, result)
            with stage("manifest", self.measures):
                facts |= self._describe(resolver, facts_folder, shards, output)
        return facts

    def _assign_splits(
        self, resolver: resolve_records.Resolver
    ) -> dict[str, Any]:
        frozen_test = self.extras.frozen_test
        if frozen_test is None:
            resolver.assign_splits()
            return {}
        resolver.assign_splits(frozen_test.ids)
        unknown = resolver.unknown_test_ids()
        return {"frozen_test": frozen_test.describe(unknown)}

    def _assign_labels(
        self, resolver: resolve_records.Resolver
    ) -> dict[str, Any]:
        kept = self.extras.kept_labels
        resolver.assign_labels(kept)
        if not kept:
            return {}
        counts = itertools.islice(resolver.class_counts(), len(kept))
        trained = sum(each["train"] > 0 for _, _, each in counts)
        return {"kept_labels": {"listed": len(kept), "trained": trained}}

    def _learn_words(
        self, resolver: resolve_records.Resolver, output: "_Output"
    ) -> dict[str, Any]:
        """Vocabulary and word vectors from the training titles."""
        word_counts = resolver.count_words()
        vocabulary, statistics = word_vectors.select_vocabulary(
            word_counts,
            drop_frequent_percent=self.dataset_config.drop_frequent_percent,
            drop_rare_percent=self.dataset_config.drop_rare_percent,
            drop_by=self.dataset_config.drop_by,
            min_word_count=self.dataset_config.min_word_count,
        )
        resolver.set_vocabulary(vocabulary)
        counts = [word_counts[word] for word in vocabulary]
        with output.file("vocabulary.json") as path:
            files.write_json(path, {"counts": counts})
        with output.file(_VOCABULARY) as path:
            files.write_lines(path, vocabulary)
        # Vectors take long, and an interrupted build found the same words.
        key, name = f"{_VECTORS}.json", f"{_VECTORS}.npy"
        if not self.work.exists(key):
            vectors, report = self._make_vectors(
                resolver, vocabulary, word_counts
            )
            with output.file(name) as path:
                np.save(path, vectors)
            report["word_vector_dim"] = vectors.shape[1]
            self.work.put_json(
                key, {"report": report, "file": output.files[name]}
            )
        made = self.work.get_json(key)
        output.files[name] = made["file"]
        return {
            "vocabulary": statistics,
            "vocabulary_size": len(vocabulary),
            **made["report"],
        }

    def _make_vectors(
        self,
        resolver: resolve_records.Resolver,
        vocabulary: Sequence[str],
        word_counts: dict[str, int],
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads the vectors of a file, or trains them."""
        if self.extras.word_vectors:
            vectors, report = word_vector_files.load_word_vectors(
                self.extras.word_vectors,
                vocabulary,
                seed=self.dataset_config.seed,
                unknown=self.dataset_config.unknown_words,
                counts=[word_counts[word] for word in vocabulary],
            )
            return vectors, {"word_vectors": report}
        titles = self.scratch / "titles.txt"
        files.write_lines(titles, resolver.iterate_training_words())
        vectors = word_vectors.train_word2vec(
            word2vec.LineSentence(str(titles)),
            vocabulary,
            word_counts,
            dim=self.dataset_config.word_vector_dim,
            epochs=self.dataset_config.word2vec_epochs,
            seed=self.dataset_config.seed,
        )
        return vectors, {}

    def _write_shards(
        self, resolver: resolve_records.Resolver, result: folder.Folder
    ) -> sums.Sums:
        """Writes the TFRecord files; the sum of their summaries."""
        plans = self.scratch / "plans"
        plans.mkdir()
        stems = resolver.write_shards(plans)
        keys = list(map(write_shards.plan_key, stems))
        with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
            list(pool.map(self._plans.upload, [plans / k for k in keys], keys))
        keys = {entry.key for entry in self._summaries.list()}
        done = {
            stem for stem in stems if write_shards.summary_key(stem) in keys
        }
        finished = [stem for stem in stems if stem in done]
        left = [stem for stem in stems if stem not in done]
        _tell_finished(finished, stems)
        with (
            stage("write shards", self.measures),
            progress.watch(
                "Shards",
                self._summaries,
                "*.json",
                total=len(stems),
                count=lambda _: {"done": 1},
                unit="shards",
            ),
        ):
            read_summary = write_shards.ReadSummaryFn(self._summaries.location)
            summaries = self._run(_batches(finished), beam.ParDo(read_summary))
            write_shard = write_shards.WriteShardFn(
                self._parts.location,
                result.location,
                self._summaries.location,
                _VOCABULARY,
            )
            more = self._run(
                left,
                write_shards.WriteShards(self._plans.location, write_shard),
            )
        return sums.add(summaries, more)

    def _describe(
        self,
        resolver: resolve_records.Resolver,
        facts_folder: pathlib.Path,
        shards: sums.Sums,
        output: "_Output",
    ) -> dict[str, Any]:
        """Writes classes and rejects; what the manifest tells of it all."""
        with output.file("classes.jsonl") as path:
            long_tail = summary.write_classes(
                resolver, self.dataset_config, path
            )
        with output.file("rejects.jsonl") as path:
            rejected = summary.write_rejects(
                [
                    facts_folder / key
                    for key in parts.rejects_keys(facts_folder)
                ],
                summary.lines_of_rejected(
                    resolver.rejected(), self._rows, self._chunks
                ),
                path,
            )
        return summary.describe_generation(
            self.counts,
            rejected,
            shards,
            long_tail,
            self.dataset_config.image_size,
        ) | {"files": {**shards.get("files", {}), **output.files}}

    def _run(
        self, inputs: Sequence[Any], transform: beam.PTransform
    ) -> sums.Sums:
        counters, total = self.sum_each(inputs, transform, self.work)
        self.counters += counters
        return total


class _Output:
    """Files of the generation that are made in this process.

    Attributes:
        files: size and SHA-256 of those written.
    """

    def __init__(self, result: folder.Folder, scratch: pathlib.Path):
        self.files: dict[str, dict[str, Any]] = {}
        self._result = result
        self._scratch = scratch
        scratch.mkdir()

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[pathlib.Path]:
        """A path to write to, uploaded in the end."""
        path = self._scratch / name
        yield path
        self.files[name] = files.describe(path)
        self._result.upload(path, name)


def _batches(all_work: Sequence[Any]) -> list[Sequence[Any]]:
    """What is quickly done, so that a worker takes more of it at a time."""
    return [
        all_work[first : first + _BATCH]
        for first in range(0, len(all_work), _BATCH)
    ]


def _tell_finished(finished: Sequence[Any], planned: Sequence[Any]) -> None:
    if finished:
        _log.info(
            "%d of %d were finished before and are not done again",
            len(finished),
            len(planned),
        )
