"""How often runs are right on held-out records, by their visual streams."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.evaluation import known_classes
from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import prediction
from sicot_tf.evaluation.calibration import reliability
from sicot_tf.stores import locations
from sicot_tf.training import calibrations
from sicot_tf.training import restoring
from sicot_tf.training import runs


@dataclasses.dataclass(frozen=True)
class Measured:
    """What runs recognise in the same records, and how often that is right.

    Attributes:
        compared: the run, and before it the one that it is compared to.
        files: the tested records.
        kept: `[n]` int64, numbers of the records whose class the run knows.
        found: by name of a run, see `prediction.predict_records`.
        tables: by name of a run, see `metrics.accuracy_table`.
        comparison: see `metrics.compare`; None for one run.
        changes: of the trained classifiers.
        calibration: see `reliability.measure`; None for a run without one.
        notes: sentences on what the accuracies do not cover.
    """

    compared: list[runs.Run]
    files: dataset.RecordFiles
    classes: known_classes.KnownClasses
    kept: np.ndarray
    found: dict[str, dict[str, np.ndarray]]
    tables: dict[str, Any]
    comparison: dict[str, Any] | None
    changes: config.PostHocConfig
    calibration: dict[str, Any] | None
    notes: list[str]

    @property
    def run(self) -> runs.Run:
        """The run that is evaluated."""
        return self.compared[-1]

    @property
    def num_left_out(self) -> int:
        """Records whose class the run does not know."""
        return len(self.files) - len(self.kept)


def measure(
    run_dir: pathlib.Path,
    *,
    compare_to: pathlib.Path | None = None,
    dataset_dir: locations.Location | None = None,
    split: str = "test",
    batch_size: int = 64,
    changes: config.PostHocConfig = config.PostHocConfig(),
) -> Measured:
    """Recognises the records of a split and counts what is right.

    Args:
        run_dir: a training run.
        compare_to: another run on the same classes, the baseline.
        dataset_dir: a dataset; by default the one the run trained on.
        split: whose records are recognised.
        changes: of the trained classifiers, of both runs alike.

    Raises:
        ValueError: if there are no records, the run knows none of their
            classes, or the runs do not fit.
    """
    if batch_size < 1:
        raise ValueError(
            f"Expected a batch_size of 1 or more, received {batch_size}."
        )
    # === Runs and records ===
    compared = _load(run_dir, compare_to)
    run = compared[-1]
    files = _open(dataset_dir or run.dataset_location, split)
    generation = files.generation
    classes = known_classes.KnownClasses.join(
        run.sku_ids, runs.read_row_names(generation)["classes"]
    )

    # === Predict ===
    found = {
        each.path.name: _predict(each, files, batch_size, classes, changes)
        for each in compared
    }
    kept = found[run.path.name].pop("kept")
    if not len(kept):
        raise ValueError(
            f"The run knows none of the classes of the {len(files):,} {split} "
            f"records of {generation}."
        )

    # === Measure ===
    tables, comparison = _tables(compared, found)
    notes = [classes.note(len(files), len(files) - len(kept))]
    notes += [_note_on_generation(each, generation) for each in compared]
    notes.append(_note_on_changes(changes))
    return Measured(
        compared=compared,
        files=files,
        classes=classes,
        kept=kept,
        found=found,
        tables=tables,
        comparison=comparison,
        changes=changes,
        calibration=_measure_calibration(run, found[run.path.name]),
        notes=[note for note in notes if note],
    )


def _load(
    run_dir: pathlib.Path, compare_to: pathlib.Path | None
) -> list[runs.Run]:
    """The baseline first, as in the paper's tables."""
    run = runs.load(run_dir.resolve())
    if not compare_to:
        return [run]
    other = runs.load(compare_to.resolve())
    if other.path.name == run.path.name:
        raise ValueError(
            f"{run_dir} and {compare_to} have the same folder name, which "
            "stands for the run in tables; rename one of them."
        )
    if other.classes != run.classes:
        raise ValueError(
            f"{other.path} and {run.path} were trained on other classes "
            f"({known_classes.difference(other.sku_ids, run.sku_ids)}); "
            "only runs on one dataset generation can be compared."
        )
    return [other, run]


def _open(dataset_dir: locations.Location, split: str) -> dataset.RecordFiles:
    generation = generation_cache.local_generation(
        dataset_dir, dataset.wanted(**{split: (1, 0)})
    )
    files = dataset.RecordFiles(generation, split)
    if not len(files):
        raise ValueError(f"{generation} holds no records of split {split!r}.")
    return files


def _predict(
    run: runs.Run,
    files: dataset.RecordFiles,
    batch_size: int,
    classes: known_classes.KnownClasses,
    changes: config.PostHocConfig,
) -> dict[str, np.ndarray]:
    """What a run's visual stream sees in the records of known classes.

    Returns:
        What `prediction.predict_records` does with the run's labels, and
        `kept` `[n]` int64, the numbers of these records.
    """
    visual_stream, classifier, _ = restoring.restore_visual(run, changes)
    batches = dataset.make_evaluation_dataset(
        files, image_size=run.model.image_size, batch_size=batch_size
    )
    calibration = calibrations.find(run, visual_stream, classifier)
    found = prediction.predict_records(
        prediction.make_predict(
            visual_stream,
            classifier,
            temperature=calibration.temperature if calibration else None,
        ),
        batches,
        description=run.path.name,
    )
    found["labels"] = classes.run_labels[found["labels"]]
    kept = np.flatnonzero(found["labels"] >= 0)
    return {name: each[kept] for name, each in found.items()} | {"kept": kept}


def _measure_calibration(
    run: runs.Run, found: dict[str, np.ndarray]
) -> dict[str, Any] | None:
    """How a calibration of validation records does on these."""
    if "calibrated_scores" not in found:
        return None
    labels, best = found["labels"], found["top_labels"][:, 0]
    return reliability.measure(
        calibrations.read(run.path / calibrations.FILE),
        labels=labels,
        right=labels == best,
        before=found["top_scores"][:, 0],
        after=found["calibrated_scores"],
        is_head=run.train_counts[labels] >= run.dataset["head_threshold"],
    )


def _tables(
    compared: list[runs.Run], found: dict[str, dict[str, np.ndarray]]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Accuracies of each run, and of two their difference."""
    run = compared[-1]
    labels = found[run.path.name]["labels"]
    threshold = run.dataset["head_threshold"]
    tables = {
        name: metrics.accuracy_table(
            labels, each["top_labels"], run.train_counts, threshold
        )
        for name, each in found.items()
    }
    if len(compared) == 1:
        return tables, None
    names = [each.path.name for each in compared]
    return tables, metrics.compare(
        labels,
        *(found[name]["top_labels"] for name in names),
        run.train_counts,
        threshold,
        name_a=names[0],
        name_b=names[1],
    )


def _note_on_generation(run: runs.Run, generation: pathlib.Path) -> str:
    """Where a run has learned from another dataset than the tested one."""
    if run.dataset["generation"] == generation.name:
        return ""
    return (
        f"{run.path.name} was trained on generation "
        f"{run.dataset['generation']}, not on {generation.name}: it may have "
        "seen some of these records in training. Head and tail are those of "
        "its training."
    )


def _note_on_changes(changes: config.PostHocConfig) -> str:
    """What was done to the classifiers after training."""
    given = [f"{name} {value}" for name, value in changes.given().items()]
    return f"Changed after training: {', '.join(given)}." if given else ""
