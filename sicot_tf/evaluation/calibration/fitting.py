"""Fits a run's calibration on its validation records."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.evaluation import known_classes
from sicot_tf.evaluation import prediction
from sicot_tf.evaluation.calibration import page
from sicot_tf.evaluation.calibration import reliability
from sicot_tf.evaluation.calibration import temperature as temperatures
from sicot_tf.evaluation.calibration import threshold as thresholds
from sicot_tf.pages import pieces
from sicot_tf.stores import locations
from sicot_tf.training import calibrations
from sicot_tf.training import restoring
from sicot_tf.training import runs

# Never test: a threshold chosen there would say nothing of other photos.
_SPLIT = "val"


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A calibration, and what it does to the records it was fitted on.

    Attributes:
        measured: see `reliability.measure`.
        curves: by group, see `threshold.curve`.
        notes: sentences on what the calibration does not cover.
    """

    run: runs.Run
    calibration: calibrations.Calibration
    measured: dict[str, Any]
    curves: dict[str, Any]
    notes: list[str]


def fit(
    run_dir: pathlib.Path,
    *,
    precision: float,
    dataset_dir: locations.Location | None = None,
    batch_size: int = 64,
    changes: config.PostHocConfig = config.PostHocConfig(),
) -> Fitted:
    """Fits temperature and threshold on the validation records.

    Args:
        precision: wanted share of the recognised that is right, between 0
            and 1.
        dataset_dir: a dataset; by default the one the run trained on.
        changes: of the trained classifier, as it will be served.

    Raises:
        ValueError: if there are no validation records, or none of a class
            that the run knows.
    """
    if not 0 < precision < 1:
        raise ValueError(
            f"Expected a precision between 0 and 1, received {precision}. "
            "No finite number of photos shows that all are right."
        )
    if batch_size < 1:
        raise ValueError(
            f"Expected a batch_size of 1 or more, received {batch_size}."
        )
    # === What the run sees ===
    run = runs.load(run_dir.resolve())
    records = _open(dataset_dir or run.dataset_location)
    classes = known_classes.KnownClasses.join(
        run.sku_ids, runs.read_row_names(records.generation)["classes"]
    )
    visual_stream, classifier, step = restoring.restore_visual(run, changes)
    found = prediction.predict_records(
        prediction.make_embed(visual_stream),
        dataset.make_evaluation_dataset(
            records, image_size=run.model.image_size, batch_size=batch_size
        ),
        description=run.path.name,
    )
    labels = classes.run_labels[found["labels"]]
    kept = labels >= 0
    labels, features = labels[kept], found["features"][kept]
    if not len(labels):
        raise ValueError(
            f"The run knows none of the classes of the {len(records):,} "
            f"{_SPLIT} records of {records.generation}."
        )

    # === Temperature, then threshold ===
    temperature = temperatures.fit(classifier, features, labels, batch_size)
    best, before, after = temperatures.top_scores(
        classifier, features, temperature, batch_size
    )
    right = best == labels
    calibration = _calibration(
        thresholds.choose(after, right, precision),
        num_records=len(labels),
        temperature=temperature,
        wanted_precision=precision,
        generation=records.generation.name,
        step=step,
        weights_sha256=calibrations.weights_digest(visual_stream, classifier),
    )

    # === What they do ===
    is_head = run.train_counts[labels] >= run.dataset["head_threshold"]
    notes = [
        classes.note(len(records), len(records) - len(labels)),
        _note_on_changes(changes),
        _note_on_temperature(temperature),
        _note_on_threshold(calibration),
    ]
    return Fitted(
        run=run,
        calibration=calibration,
        measured=reliability.measure(
            calibration,
            labels=labels,
            right=right,
            before=before,
            after=after,
            is_head=is_head,
        ),
        curves={
            group: thresholds.curve(after[members], right[members])
            for group, members in reliability.group_members(is_head).items()
            if members.any()
        },
        notes=[note for note in notes if note],
    )


def write(fitted: Fitted) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `calibration.json` and the page beside it.

    Returns:
        The two paths.
    """
    path = fitted.run.path / calibrations.FILE
    html = page.write(
        fitted.run.path,
        name=fitted.run.path.name,
        calibration=fitted.calibration,
        measured=fitted.measured,
        curves=fitted.curves,
        notes=fitted.notes,
    )
    files.write_json(path, dataclasses.asdict(fitted.calibration))
    return path, html


def _open(dataset_dir: locations.Location) -> dataset.RecordFiles:
    generation = generation_cache.local_generation(
        dataset_dir, dataset.wanted(**{_SPLIT: (1, 0)})
    )
    records = dataset.RecordFiles(generation, _SPLIT)
    if not len(records):
        raise ValueError(
            f"{generation} holds no records of split {_SPLIT!r}, which a "
            "calibration is fitted on. Build the dataset with some."
        )
    return records


def _calibration(
    choice: thresholds.Choice | None, *, num_records: int, **values: Any
) -> calibrations.Calibration:
    if choice is None:
        choice = thresholds.Choice(None, 0, 0)
    accepted, num_right = choice.num_accepted, choice.num_right
    low = None
    if accepted:
        low = float(
            thresholds.lower_bound(
                np.array(num_right), np.array(accepted), thresholds.CONFIDENCE
            )
        )
    return calibrations.Calibration(
        threshold=choice.threshold,
        confidence=thresholds.CONFIDENCE,
        num_records=num_records,
        num_accepted=accepted,
        num_right=num_right,
        coverage=accepted / num_records,
        precision=num_right / accepted if accepted else None,
        precision_low=low,
        split=_SPLIT,
        **values,
    )


def _note_on_changes(changes: config.PostHocConfig) -> str:
    flags = changes.flags()
    return f"Fitted with {flags}: export with the same." if flags else ""


def _note_on_temperature(temperature: float) -> str:
    at_bound = (temperature < 1.001 * temperatures.LEAST) or (
        temperature > 0.999 * temperatures.MOST
    )
    if not at_bound:
        return ""
    return (
        f"The temperature stopped at its bound, {temperature:.3g}: these "
        "records are too few or too plain (all right, or no better than "
        "guessing) to fit one."
    )


def _note_on_threshold(calibration: calibrations.Calibration) -> str:
    if calibration.threshold is not None:
        return ""
    wanted = calibration.wanted_precision
    fewest = thresholds.fewest_records(wanted)
    note = (
        f"No threshold is shown to reach a precision of {100 * wanted:g} % on "
        f"these {calibration.num_records:,} validation records. It takes "
        f"{pieces.count(fewest, 'photo')} on which the run is sure and always "
        "right, or more with some wrong. "
    )
    if calibration.num_records < fewest:
        return note + "Validate on more photos, or ask for a lower --precision."
    return note + "Train further, or ask for a lower --precision."
