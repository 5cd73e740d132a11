"""The stages of `build_dataset` after the survey.

They run in a work folder that survives interruption. What a stage has
finished, part by part and shard by shard, is not done again.
"""

import collections
import contextlib
import dataclasses
import itertools
import logging
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
from gensim.models import word2vec

from beam_jobs.dataset import parts
from beam_jobs.dataset import resolve_records
from beam_jobs.dataset import store_records
from beam_jobs.dataset import summary
from beam_jobs.dataset import write_shards
from beam_jobs.pipelines import progress
from beam_jobs.records import id_lists
from beam_jobs.records import parquet_tables
from beam_jobs.records import record_files
from beam_jobs.words import word_vector_files
from beam_jobs.words import word_vectors
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import local_folder

_log = logging.getLogger(__name__)


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
    record_folders: dict[str, str]
    identity: dict[str, Any]


@dataclasses.dataclass
class BuildStages:
    """A build in its work folder.

    Attributes:
        work: holds `rows` of the survey; all else is written beside them, the
            result to `generation`.
        run_each: `runners.run_each` of inputs and a transform.
        measures: gets time and memory of each stage.
        counters: of Beam.
    """

    work: pathlib.Path
    survey: record_files.Survey
    extras: Extras
    dataset_config: config.DatasetConfig
    run_each: Callable[..., collections.Counter[str]]
    measures: dict[str, dict[str, float]]
    counters: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def __post_init__(self) -> None:
        for name in ("parts", "shards", "summaries"):
            (self.work / name).mkdir(exist_ok=True)
        generations.result_folder(self.work)
        files.write_json(
            self.work / "plan.json",
            {
                "records": self.survey.num_records,
                "parts": self.survey.num_parts,
            },
        )

    def store_records(self) -> None:
        """Checks, decodes and tokenises, part by part."""
        folder = self.work / "parts"
        with (
            stage("check, decode, tokenise", self.measures),
            progress.watch(
                "Pictures",
                local_folder.LocalFolder(folder),
                "part-*.parquet",
                total=self.survey.num_records,
                count=lambda key: parts.count(folder / key),
                unit="records",
            ),
        ):
            self.counters += self.run_each(
                _unfinished(
                    range(self.survey.num_parts),
                    lambda part: parts.files(folder, part)["facts"],
                ),
                store_records.StoreRecords(
                    str(self.work / "rows"), str(folder), self.dataset_config
                ),
            )

    def images_sha256(self) -> str:
        """Names the pictures of all parts."""
        return parts.images_sha256(self.work / "parts")

    def make_generation(self, memory_megabytes: int) -> dict[str, Any]:
        """Makes `generation` of the parts; returns facts for the manifest."""
        with (
            parquet_tables.plain_name(self.work) as work,
            contextlib.closing(
                resolve_records.connect(work, memory_megabytes)
            ) as database,
        ):
            resolver = resolve_records.Resolver(
                database, work, work / "parts", self.dataset_config
            )
            with stage("duplicates, splits", self.measures):
                resolver.load()
                resolver.reject_duplicates()
                facts = {"duplicates": resolver.find_units()}
                facts |= self._assign_splits(resolver)
            with stage("vocabulary, word vectors, labels", self.measures):
                facts |= self._learn_words(resolver)
                facts |= self._assign_labels(resolver)
                if self.extras.frozen_test:
                    in_test = resolver.num_frozen_in_test()
                    facts["frozen_test"]["in_test"] = in_test
            _log.info("%s words", f"{facts['vocabulary_size']:,}")
            self._write_shards(resolver)
            with stage("manifest", self.measures):
                facts |= summary.describe_generation(
                    work, self.survey, resolver, self.dataset_config
                )
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
        self, resolver: resolve_records.Resolver
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
        generation = self.work / "generation"
        files.write_json(generation / "vocabulary.json", {"counts": counts})
        files.write_lines(generation / "vocabulary.txt", vocabulary)
        # Vectors take long, and an interrupted build found the same words.
        vectors_path = generation / "word_vectors.npy"
        report_path = self.work / "word_vectors.json"
        if not report_path.exists():
            vectors, report = self._make_vectors(
                resolver, vocabulary, word_counts
            )
            with (
                files.replacing(vectors_path) as temporary,
                temporary.open("wb") as file,
            ):
                np.save(file, vectors)
            files.write_json(report_path, report)
        dim = np.load(vectors_path, mmap_mode="r").shape[1]
        return {
            "vocabulary": statistics,
            "vocabulary_size": len(vocabulary),
            "word_vector_dim": dim,
            **files.read_json(report_path),
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
        titles = self.work / "titles.txt"
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

    def _write_shards(self, resolver: resolve_records.Resolver) -> None:
        stems = resolver.write_shards(self.work / "shards")
        summaries = self.work / "summaries"
        with (
            stage("write shards", self.measures),
            progress.watch(
                "Shards",
                local_folder.LocalFolder(summaries),
                "*.json",
                total=len(stems),
                count=lambda _: {"done": 1},
                unit="shards",
            ),
        ):
            self.counters += self.run_each(
                _unfinished(stems, lambda stem: summaries / f"{stem}.json"),
                write_shards.WriteShards(
                    write_shards.WriteShardFn(
                        str(self.work / "shards"),
                        str(self.work / "parts"),
                        str(self.work / "generation"),
                        str(summaries),
                        str(self.work / "generation" / "vocabulary.txt"),
                    )
                ),
            )


def _unfinished(
    work: Iterable[Any], marker: Callable[[Any], pathlib.Path]
) -> list[Any]:
    """What an interrupted build has not finished; says what it has."""
    all_work = list(work)
    left = [each for each in all_work if not marker(each).exists()]
    if len(left) < len(all_work):
        _log.info(
            "%d of %d were finished before and are not done again",
            len(all_work) - len(left),
            len(all_work),
        )
    return left
