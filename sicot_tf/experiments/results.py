"""The test accuracies of all arms, read and compared."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.evaluation import folders
from sicot_tf.evaluation import metrics
from sicot_tf.experiments import arms
from sicot_tf.experiments import comparison
from sicot_tf.experiments import finished
from sicot_tf.experiments.arms import Trial
from sicot_tf.experiments.experiment_file import Experiment
from sicot_tf.experiments.planning import Plan

_TWIN = ", shuffled titles"


@dataclasses.dataclass(frozen=True)
class Results:
    """What all arms recognised in the same test records.

    Attributes:
        trials: what was evaluated, by name; the twin of `cotrain` is
            `cotrain, shuffled titles`.
        controls: name of an arm to that of its twin.
        labels: `[num_records]` int64.
        top_labels: by name, `[seeds, num_records, k]` int64.
        numbers: by name, group, metric and average: `accuracy`, `gain` over
            the baseline, `own_gain` over the twin, `surviving_share`; None
            where there is nothing to compare with.
        classes: rows of the dataset's `classes.jsonl`.
        manifest: of the dataset.
        missing: arms that are not shown, with the reason.
    """

    experiment: Experiment
    plan: Plan
    trials: dict[str, Trial]
    controls: dict[str, str]
    labels: np.ndarray
    top_labels: dict[str, np.ndarray]
    numbers: dict[str, Any]
    classes: list[dict[str, Any]]
    manifest: dict[str, Any]
    missing: list[str]

    @property
    def train_counts(self) -> np.ndarray:
        """`[num_classes]` int64, training pictures of each class."""
        return np.array([each["train"] for each in self.classes])

    @property
    def head_threshold(self) -> int:
        """Training pictures of the smallest head class."""
        return self.manifest["long_tail"]["head_threshold"]

    @property
    def arms(self) -> list[str]:
        """The arms without their twins, in the order of the file."""
        twins = self.controls.values()
        return [name for name in self.trials if name not in twins]

    def folder(self, name: str, seed: int) -> pathlib.Path:
        """Of the evaluation on test records."""
        return _folder(self.experiment, self.trials[name], seed)

    def cell(
        self,
        name: str,
        what: str,
        group: str = "overall",
        metric: str = "top1",
        average: str = "macro",
    ) -> dict[str, Any] | None:
        """A number of an arm; None if there is nothing to compare with."""
        return self.numbers[name][group][metric][average][what]


def collect(
    experiment: Experiment, plan: Plan, generation: pathlib.Path
) -> Results | None:
    """Reads all evaluations; None while the baseline has none.

    Raises:
        ValueError: if evaluations are not of the same records.
    """
    trials, controls, missing = {}, {}, []
    twins = plan.twins
    for name, trial in plan.chosen.items():
        reason = _reason(experiment, plan, name, twins.get(name))
        if reason:
            missing.append(f"{name}: {reason}")
            continue
        trials[name] = trial
        if name in twins:
            controls[name] = name + _TWIN
            trials[name + _TWIN] = twins[name]
    if experiment.baseline not in trials:
        return None
    first, top_labels = None, {}
    for name, trial in trials.items():
        predictions = [
            np.load(_folder(experiment, trial, seed) / "predictions.npz")
            for seed in experiment.seeds
        ]
        first = first or dict(predictions[0])
        for each in predictions:
            if not np.array_equal(each["record_ids"], first["record_ids"]):
                raise ValueError(
                    f"The evaluations of {name!r} are not of the same test "
                    "records as the others. Remove its evaluation-test "
                    "folders and start again."
                )
        top_labels[name] = np.stack(
            [each["top_labels"] for each in predictions]
        )
    with open(generation / "classes.jsonl", encoding="utf-8") as lines:
        classes = [json.loads(line) for line in lines]
    manifest = files.read_json(generation / "manifest.json")
    return Results(
        experiment=experiment,
        plan=plan,
        trials=trials,
        controls=controls,
        labels=first["labels"],
        top_labels=top_labels,
        numbers=_numbers(
            comparison.resample(
                first["labels"],
                top_labels,
                np.array([each["train"] for each in classes]),
                manifest["long_tail"]["head_threshold"],
            ),
            experiment.baseline,
            controls,
        ),
        classes=classes,
        manifest=manifest,
        missing=missing,
    )


def _reason(
    experiment: Experiment, plan: Plan, name: str, control: Trial | None
) -> str:
    """Why an arm can't be shown; "" if it can."""
    if name in plan.undecided:
        return "its choice on validation records could not be made"
    for trial, what in ((plan.chosen[name], "run"), (control, "twin")):
        seeds = [
            str(seed)
            for seed in experiment.seeds
            if trial
            and not finished.is_evaluated(_folder(experiment, trial, seed))
        ]
        if seeds:
            return f"its {what} of seed {', '.join(seeds)} is not finished"
    return ""


def _folder(experiment: Experiment, trial: Trial, seed: int) -> pathlib.Path:
    return folders.evaluation_folder(
        trial.run_dir(experiment, seed), "test", arms.post_hoc(trial)
    )


def _numbers(
    resampled: dict[str, dict[str, comparison.Resampled]],
    baseline: str,
    controls: dict[str, str],
) -> dict[str, Any]:
    """See `Results.numbers`."""
    found: dict[str, Any] = {}
    for group, found_arms in resampled.items():
        for name, arm in found_arms.items():
            control = found_arms.get(controls.get(name))
            cells = found.setdefault(name, {}).setdefault(group, {})
            for metric in metrics.METRICS:
                for average in metrics.AVERAGES:
                    at = (average, metric)
                    cells.setdefault(metric, {})[average] = {
                        "accuracy": comparison.accuracy(arm, *at),
                        "gain": comparison.difference(
                            arm, found_arms[baseline], *at
                        )
                        if name != baseline
                        else None,
                        "own_gain": comparison.difference(arm, control, *at)
                        if control
                        else None,
                        "surviving_share": comparison.surviving_share(
                            arm, found_arms[baseline], control, *at
                        )
                        if control
                        else None,
                    }
    return found
