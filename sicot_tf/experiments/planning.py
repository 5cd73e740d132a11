"""What an experiment runs, what of it is finished, and what was chosen.

For each arm: its candidates on the seeds of [choose], and their accuracy on
validation records; the best of them on all seeds, and its twin. When all are
trained: the test records.
"""

import dataclasses
import pathlib

from sicot_tf.experiments import arms
from sicot_tf.experiments import finished
from sicot_tf.experiments.arms import Trial
from sicot_tf.experiments.experiment_file import Experiment


@dataclasses.dataclass(frozen=True)
class Job:
    """A command of the project.

    Attributes:
        name: `train`, `val`, `explain` or `test`, and of which run.
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
        tried = arms.candidates(experiment, arm, plan.chosen)
        best = tried[0]
        if len(tried) > 1:
            for trial in tried:
                for seed in experiment.choose_seeds:
                    _add(plan, experiment, generation, trial, seed, is_certain)
            choice = Choice(
                arm.name,
                tried,
                [_accuracy(experiment, each) for each in tried],
            )
            plan.choices.append(choice)
            best = choice.best or tried[0]
            is_certain &= choice.best is not None
        plan.chosen[arm.name] = best
        if not is_certain:
            plan.undecided.add(arm.name)
        if arms.has_attention(best):
            _add_explanation(plan, experiment, generation, best, is_certain)
        for trial in filter(None, (best, arms.twin(best))):
            for seed in experiment.seeds:
                _add(
                    *(plan, experiment, generation, trial, seed, is_certain),
                    split="test",
                )
    if plan.chosen[experiment.baseline].reads_titles:
        raise ValueError(
            f"The baseline {experiment.baseline!r} reads titles in training. "
            'Name an arm that does not: streams = "visual".'
        )
    return plan


def _add(
    plan: Plan,
    experiment: Experiment,
    generation: pathlib.Path,
    trial: Trial,
    seed: int,
    is_certain: bool,
    split: str = "val",
) -> None:
    """Adds an evaluation, and the training before it."""
    run_dir = trial.run_dir(experiment, seed)
    training = _add_training(
        plan, experiment, generation, trial, seed, is_certain
    )
    folder = finished.evaluation_folder(run_dir, split, arms.post_hoc(trial))
    suffix = folder.name.removeprefix(f"evaluation-{split}")
    job = Job(
        name=f"{split} {run_dir.name}{suffix}",
        command=(
            *("sicot_tf.evaluate", "--run_dir", str(run_dir)),
            *("--dataset", str(generation), "--split", split),
            *arms.flags(trial.evaluate),
        ),
        needs=(training,),
        is_done=finished.is_evaluated(folder),
        is_certain=is_certain,
        trial=trial,
        seed=seed,
        run_dir=run_dir,
    )
    plan.jobs.setdefault(job.name, job)


def _add_explanation(
    plan: Plan,
    experiment: Experiment,
    generation: pathlib.Path,
    trial: Trial,
    is_certain: bool,
) -> None:
    """Adds the page of word weights, of the first seed."""
    seed = experiment.seeds[0]
    run_dir = trial.run_dir(experiment, seed)
    training = _add_training(
        plan, experiment, generation, trial, seed, is_certain
    )
    job = Job(
        name=f"explain {run_dir.name}",
        command=(
            *("sicot_tf.explain", "--run_dir", str(run_dir)),
            *("--dataset", str(generation)),
        ),
        needs=(training,),
        is_done=(run_dir / "attention.html").exists(),
        is_certain=is_certain,
        trial=trial,
        seed=seed,
        run_dir=run_dir,
    )
    plan.jobs.setdefault(job.name, job)


def _add_training(
    plan: Plan,
    experiment: Experiment,
    generation: pathlib.Path,
    trial: Trial,
    seed: int,
    is_certain: bool,
) -> str:
    """Adds a training, and before it the one that it starts from; its name."""
    run_dir = trial.run_dir(experiment, seed)
    needs, init_from = (), ()
    if trial.init_from:
        start = trial.init_from
        needs = (
            _add_training(
                plan, experiment, generation, start, seed, is_certain
            ),
        )
        init_from = ("--init_from", str(start.run_dir(experiment, seed)))
    job = Job(
        name=f"train {run_dir.name}",
        command=(
            *("sicot_tf.train", "--dataset", str(generation)),
            *("--run_dir", str(run_dir), "--seed", str(seed), *init_from),
            *arms.flags(trial.settings),
            *(("--shuffle_titles",) if trial.is_twin else ()),
        ),
        needs=needs,
        is_done=finished.is_trained(run_dir, trial.settings),
        is_certain=is_certain,
        trial=trial,
        seed=seed,
        run_dir=run_dir,
        init_from=pathlib.Path(init_from[1]).name if init_from else "",
    )
    plan.jobs.setdefault(job.name, job)
    return job.name


def _accuracy(experiment: Experiment, trial: Trial) -> float | None:
    """Mean over the seeds of [choose] on the validation records."""
    found = []
    for seed in experiment.choose_seeds:
        folder = finished.evaluation_folder(
            trial.run_dir(experiment, seed), "val", arms.post_hoc(trial)
        )
        if not finished.is_evaluated(folder):
            return None
        found.append(finished.macro_top1(folder))
    return sum(found) / len(found)
