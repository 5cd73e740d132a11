"""Runs the jobs of an experiment as processes, and goes on where it stopped.

Everything that is finished is read from the folders of the runs, after each
job anew; a job that was killed is started again by the same command.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from sicot_tf import files
from sicot_tf import progress
from sicot_tf.experiments import finished
from sicot_tf.experiments import planning
from sicot_tf.experiments.experiment_file import Experiment
from sicot_tf.experiments.planning import Job
from sicot_tf.experiments.planning import Plan
from sicot_tf.workers import local_workers

# A training saves a checkpoint when it is asked to end.
_SECONDS_TO_END = 60
_TAIL_LINES = 15
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Process:
    """A job that runs."""

    job: Job
    process: subprocess.Popen
    started: float


class Stopped(Exception):
    """The experiment was asked to end."""


def check(experiment: Experiment, plan: Plan, generation: str) -> None:
    """Raises ValueError if runs that are there are not those of the file.

    Args:
        generation: name of the dataset generation.
    """
    found = []
    for job in plan.jobs.values():
        if job.kind != "train" or not job.is_certain:
            continue
        difference = finished.conflict(
            job.run_dir,
            job.trial.settings,
            *(job.seed, job.trial.is_twin, generation),
        )
        start = _note(job.run_dir).get("init_from", job.init_from)
        if not difference and start != job.init_from:
            difference = f"init_from: {start!r}, now {job.init_from!r}"
        if difference:
            found.append(f"{job.run_dir} ({difference})")
    if found:
        more = f", and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(
            f"Runs of {experiment.name!r} are there with other settings: "
            f"{'; '.join(found[:3])}{more}. Give the changed arm another name, "
            "or remove these folders."
        )


def run(
    experiment: Experiment, generation: pathlib.Path, num_processes: int
) -> tuple[Plan, dict[str, pathlib.Path]]:
    """Runs all that is missing.

    Args:
        num_processes: jobs at once.

    Returns:
        What is finished now, and of each job that failed the log.

    Raises:
        Stopped: after SIGTERM or SIGINT, which end the jobs, too.
    """
    failed: dict[str, pathlib.Path] = {}
    running: list[_Process] = []
    plan = planning.make_plan(experiment, generation)
    with local_workers.termination_signals() as signals, _none_left(running):
        with progress.bar(
            description=experiment.name,
            unit="jobs",
            total=len(plan.jobs),
            initial=sum(job.is_done for job in plan.jobs.values()),
        ) as bar:
            while True:
                busy = {each.job.name for each in running}
                for job in plan.ready(busy | set(failed)):
                    # No test record is looked at while anything trains.
                    waits = job.kind == "test" and any(
                        each.job.kind != "test" for each in running
                    )
                    if len(running) >= num_processes or waits:
                        break
                    running.append(_start(experiment, job, num_processes))
                if not running:
                    return plan, failed
                while all(each.process.poll() is None for each in running):
                    if signals:
                        raise Stopped
                    time.sleep(0.1)
                ended = [e for e in running if e.process.poll() is not None]
                plan = planning.make_plan(experiment, generation)
                check(experiment, plan, generation.name)
                for each in ended:
                    running.remove(each)
                    _note_seconds(experiment, each)
                    if not plan.jobs[each.job.name].is_done:
                        if signals:
                            raise Stopped
                        failed[each.job.name] = _tell(experiment, each)
                bar.total = len(plan.jobs)
                bar.n = sum(job.is_done for job in plan.jobs.values())
                bar.refresh()


def log_path(experiment: Experiment, job: Job) -> pathlib.Path:
    """What the job printed."""
    name = job.name.replace(" ", "-")
    return experiment.output / "logs" / f"{name}.log"


def seconds(experiment: Experiment) -> dict[str, float]:
    """How long jobs ran, by name."""
    path = experiment.output / "seconds.json"
    return files.read_json(path) if path.exists() else {}


def _start(experiment: Experiment, job: Job, num_processes: int) -> _Process:
    if job.kind == "train":
        # What was measured before more epochs is not of this run any more.
        for folder in job.run_dir.glob("evaluation-*"):
            shutil.rmtree(folder)
        for name in ("calibration.json", "attention.html"):
            (job.run_dir / name).unlink(missing_ok=True)
        job.run_dir.mkdir(parents=True, exist_ok=True)
        files.write_json(
            job.run_dir / "experiment.json", {"init_from": job.init_from}
        )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if num_processes > 1:
        local_workers.share_cores(environment, num_processes)
    log = log_path(experiment, job)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ python -m {' '.join(job.command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            # Dies with this process, as no two may write into one run.
            [sys.executable, "-m", local_workers.__name__]
            + [str(os.getpid()), *job.command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Process(job, process, time.monotonic())


@contextlib.contextmanager
def _none_left(running: list[_Process]) -> Iterator[None]:
    """Ends the jobs that still run when the block is left."""
    try:
        yield
    finally:
        for each in running:
            each.process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_END
        for each in running:
            try:
                each.process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()


def _tell(experiment: Experiment, ended: _Process) -> pathlib.Path:
    """Shows the end of a failed job's log; the log."""
    log = log_path(experiment, ended.job)
    lines = log.read_text("utf-8", "replace").splitlines()
    code = ended.process.returncode
    _log.error(
        "%s failed with exit code %s; the others go on. The end of %s:\n%s",
        *(ended.job.name, code, log),
        "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]),
    )
    return log


def _note(run_dir: pathlib.Path) -> dict[str, str]:
    path = run_dir / "experiment.json"
    return files.read_json(path) if path.exists() else {}


def _note_seconds(experiment: Experiment, ended: _Process) -> None:
    known = seconds(experiment)
    spent = time.monotonic() - ended.started
    known[ended.job.name] = round(known.get(ended.job.name, 0) + spent, 1)
    files.write_json(experiment.output / "seconds.json", known)


def preview(
    experiment: Experiment, plan: Plan, num_processes: int
) -> Iterator[str]:
    """A line for each job, and how long the missing ones may take."""
    known = seconds(experiment)
    total, unknown = 0.0, 0
    for job in plan.jobs.values():
        state = "done" if job.is_done else "runs"
        if not job.is_certain and not job.is_done:
            state = "runs, or another value"
        yield f"{state:<24}{job.name}"
        if not job.is_done:
            estimate = _estimate(plan, job, known)
            total += estimate or 0
            unknown += estimate is None
    missing = sum(not job.is_done for job in plan.jobs.values())
    text = f"{len(plan.jobs)} jobs, {missing} to run"
    if missing > unknown:
        text += (
            f"; about {total / num_processes / 60:.0f} minutes with "
            f"--num_processes {num_processes}, by those that are finished"
        )
    if unknown:
        text += f"; {unknown} of a kind that has not run yet"
    yield f"{text}."


def _estimate(plan: Plan, job: Job, known: dict[str, float]) -> float | None:
    """Mean seconds of finished jobs of its arm, else of its kind."""
    alike = [
        (plan.jobs[name].trial.arm == job.trial.arm, spent)
        for name, spent in known.items()
        if name in plan.jobs and plan.jobs[name].kind == job.kind
        if plan.jobs[name].is_done
    ]
    alike = [each for each in alike if each[0]] or alike
    if not alike:
        return None
    return sum(spent for _, spent in alike) / len(alike)
