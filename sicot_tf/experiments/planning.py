"""What an experiment runs, what of it is finished, and what was chosen.

For each arm: its candidates on the seeds of [choose], and their accuracy on
validation records; the best of them on all seeds, and its twin. When all are
trained: the test records.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from sicot_tf.data import generation_cache
from sicot_tf.evaluation import folders
from sicot_tf.experiments import arms
from sicot_tf.experiments import finished
from sicot_tf.experiments.arms import Trial
from sicot_tf.experiments.experiment_file import Experiment


@dataclasses.dataclass(frozen=True)
class Job:
    """A command of the project.

    Attributes:
        name: `train`, `val`, `explain`, `calibrate` or `test`, and which run.
        command: module and flags.
        needs: names of the jobs that come before it.
        is_done: as the run's folder says.
        is_certain: False where a choice is still to be made, and the first
            candidate stands for what will be chosen.
        run_dir: the run that it writes into.
        init_from: the run that a training starts from; "" if none.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    is_done: bool
    is_certain: bool
    trial: Trial
    seed: int
    run_dir: pathlib.Path
    init_from: str = ""

    @property
    def kind(self) -> str:
        """The first word of its name."""
        return self.name.partition(" ")[0]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was tried for an arm.

    accuracies: macro top-1 on the validation records, mean over the seeds of
    [choose]; None while it is not known.
    """

    arm: str
    tried: list[Trial]
    accuracies: list[float | None]

    @property
    def best(self) -> Trial | None:
        """The most accurate one, the first of equals; None until all are."""
        if None in self.accuracies:
            return None
        return self.tried[self.accuracies.index(max(self.accuracies))]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All jobs by name, those that others need before them.

    Attributes:
        chosen: for each arm what is trained with all seeds.
        undecided: arms for which the first candidate stands in `chosen`.
        choices: of the arms that have one.
    """

    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    chosen: dict[str, Trial] = dataclasses.field(default_factory=dict)
    undecided: set[str] = dataclasses.field(default_factory=set)
    choices: list[Choice] = dataclasses.field(default_factory=list)

    @property
    def twins(self) -> dict[str, Trial]:
        """The control of each arm that reads titles."""
        found = {name: arms.twin(each) for name, each in self.chosen.items()}
        return {name: each for name, each in found.items() if each}

    def ready(self, left_out: set[str]) -> list[Job]:
        """Jobs that can run now; tests only when nothing else can.

        Args:
            left_out: names of jobs that run now, or have failed.
        """
        found = [
            job
            for job in self.jobs.values()
            if not job.is_done
            and job.is_certain
            and job.name not in left_out
            and all(self.jobs[name].is_done for name in job.needs)
        ]
        return [job for job in found if job.kind != "test"] or found


def make_plan(experiment: Experiment, generation: pathlib.Path) -> Plan:
    """Reads what is finished, and says what is not.

    Args:
        generation: the dataset generation of all runs.
    """
    plan = Plan()
    for arm in experiment.arms.values():
        is_certain = not plan.undecided.intersection(arm.stands_on)
        add = _Jobs(plan.jobs, experiment, generation, is_certain)
        tried = arms.candidates(experiment, arm, plan.chosen)
        best = tried[0]
        if len(tried) > 1:
            for trial in tried:
                for seed in experiment.choose_seeds:
                    add.evaluation("val", trial, seed)
            accuracies = [_accuracy(experiment, each) for each in tried]
            choice = Choice(arm.name, tried, accuracies)
            plan.choices.append(choice)
            best = choice.best or tried[0]
            add.is_certain &= choice.best is not None
        plan.chosen[arm.name] = best
        if not add.is_certain:
            plan.undecided.add(arm.name)
        if arms.has_attention(best):
            add.page("explain", "attention.html", best, experiment.seeds[0])
        for trial in filter(None, (best, arms.twin(best))):
            for seed in experiment.seeds:
                before = ()
                if experiment.calibrate and not trial.evaluate:
                    # The evaluation also says how calibrated it is.
                    file = "calibration.json"
                    before = (add.page("calibrate", file, trial, seed),)
                add.evaluation("test", trial, seed, before)
    if plan.chosen[experiment.baseline].reads_titles:
        raise ValueError(
            f"The baseline {experiment.baseline!r} reads titles in training. "
            'Name an arm that does not: streams = "visual".'
        )
    return plan


@dataclasses.dataclass
class _Jobs:
    """Adds jobs, each with those before it; methods return a job's name."""

    jobs: dict[str, Job]
    experiment: Experiment
    generation: pathlib.Path
    is_certain: bool

    def evaluation(
        self, split: str, trial: Trial, seed: int, before: tuple[str, ...] = ()
    ) -> str:
        """Accuracy on the records of a split."""
        run_dir = trial.run_dir(self.experiment, seed)
        folder = folders.evaluation_folder(run_dir, split, arms.post_hoc(trial))
        changes = folder.name.removeprefix(f"evaluation-{split}")
        return self._add(
            f"{split} {run_dir.name}{changes}",
            ("sicot_tf.evaluate", "--split", split),
            arms.flags(trial.evaluate),
            needs=(self.training(trial, seed), *before),
            is_done=finished.is_evaluated(folder),
            trial=trial,
            seed=seed,
        )

    def page(self, kind: str, file: str, trial: Trial, seed: int) -> str:
        """`sicot_tf.<kind>`, which leaves a file in the run's folder."""
        run_dir = trial.run_dir(self.experiment, seed)
        return self._add(
            f"{kind} {run_dir.name}",
            (f"sicot_tf.{kind}",),
            needs=(self.training(trial, seed),),
            is_done=(run_dir / file).exists(),
            trial=trial,
            seed=seed,
        )

    def training(self, trial: Trial, seed: int) -> str:
        """A run, behind the one that it starts from."""
        run_dir = trial.run_dir(self.experiment, seed)
        start, needs, flags = trial.init_from, (), []
        init_from = ""
        if start:
            needs = (self.training(start, seed),)
            start_dir = start.run_dir(self.experiment, seed)
            init_from = start_dir.name
            flags += ["--init_from", str(start_dir)]
        flags += ["--seed", str(seed), *arms.flags(trial.settings)]
        flags += ["--shuffle_titles"] if trial.is_twin else []
        return self._add(
            f"train {run_dir.name}",
            ("sicot_tf.train",),
            flags,
            needs=needs,
            is_done=finished.is_trained(run_dir, trial.settings),
            trial=trial,
            seed=seed,
            init_from=init_from,
        )

    def _add(
        self,
        name: str,
        module: tuple[str, ...],
        flags: Sequence[str] = (),
        **facts: Any,
    ) -> str:
        run_dir = facts["trial"].run_dir(self.experiment, facts["seed"])
        # Another process finds its own copy of what lies on a store.
        dataset = generation_cache.origin(self.generation)
        places = ("--run_dir", str(run_dir), "--dataset", str(dataset))
        job = Job(
            name=name,
            command=(*module, *places, *flags),
            is_certain=self.is_certain,
            run_dir=run_dir,
            **facts,
        )
        self.jobs.setdefault(name, job)
        return name


def _accuracy(experiment: Experiment, trial: Trial) -> float | None:
    """Mean over the seeds of [choose] on the validation records."""
    found = []
    for seed in experiment.choose_seeds:
        folder = folders.evaluation_folder(
            trial.run_dir(experiment, seed), "val", arms.post_hoc(trial)
        )
        if not finished.is_evaluated(folder):
            return None
        found.append(finished.macro_top1(folder))
    return sum(found) / len(found)
