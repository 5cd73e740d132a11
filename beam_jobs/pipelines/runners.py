"""Which runner a job takes, with which options, and what it counted."""

import argparse
import builtins
import collections
import contextlib
import logging
import os
import platform
import re
import secrets
import shlex
import sys
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NoReturn

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options import pipeline_options as beam_options
from apache_beam.runners.portability import fn_api_runner
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms import environments

from beam_jobs.pipelines import process_pool
from beam_jobs.pipelines import sums
from beam_jobs.pipelines import worker
from sicot_tf import command_line
from sicot_tf.stores import folder

# Of all counters of this package.
METRICS_NAMESPACE = "sicot"
# What Beam adds to a message.
_STEP = re.compile(r" \[while running '[^\n]*'\]\s*\Z")
_END_OF_TRACEBACK = re.compile(
    r'(?P<path>[^"\n]+)", line [^\n]*\n(?:    (?P<line>[^\n]*)\n)?'
    r"(?:[ ^~]+\n)?(?P<kind>\w+): (?P<message>.*)",
    re.DOTALL,
)


def make_pipeline_options(
    runner: str = "FnApiRunner",
    num_processes: int = 1,
    beam_flags: Sequence[str] = (),
) -> beam_options.PipelineOptions:
    """Beam's options for a runner, local processes and flags of Beam's own.

    Raises:
        ValueError: if the runner loses data, Beam does not know a flag or a
            runner, or there is no process.
    """
    if num_processes < 1:
        raise ValueError(
            f"Expected --num_processes of 1 or more, received {num_processes}."
        )
    # Plain DirectRunner would first try to download a binary (Beam 2.68 on).
    if "dask" in runner.lower():
        raise ValueError(
            "DaskRunner loses records without an error (Beam 2.77: only the "
            "last sink of a pipeline runs, and what a bundle emits at its end "
            "is dropped). Take FnApiRunner with --num_processes, or a runner "
            "of a cluster."
        )
    known = beam_options.StandardOptions.KNOWN_RUNNER_NAMES
    names = {name.lower() for name in known}
    if (
        "." not in runner
        and not {
            runner.lower(),
            f"{runner.lower()}runner",
        }
        & names
    ):
        raise ValueError(
            f"Expected --runner of {', '.join(sorted(known))}, "
            f"received {runner!r}."
        )
    flags = [f"--runner={runner}", *beam_flags]
    if num_processes > 1:
        flags += [
            "--direct_running_mode=multi_processing",
            f"--direct_num_workers={num_processes}",
        ]
    # PipelineOptions only warns of flags it drops, and prints all of Beam's
    # for a value it can't take.
    parser = _BeamParser(allow_abbrev=False, add_help=False)
    for options_class in beam_options.PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        raise ValueError(f"Neither this job nor Beam knows {unknown}.")
    return beam_options.PipelineOptions(flags)


class _ControlConnection(worker_handlers.ControlConnection):
    """Tells a worker to end, also one that has yet to ask for work.

    Where one worker fails while another still starts, Beam 2.77 says nothing to
    the late one, and waits for its end for ever.
    """

    def close(self) -> None:
        """Part of the end of a pipeline."""
        servicer = worker_handlers.BeamFnControlServicer
        if self._state == servicer.UNSTARTED_STATE:
            self.push(servicer._DONE_MARKER)
        super().close()


worker_handlers.ControlConnection = _ControlConnection


class _BeamParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leaves the end of the process to the caller."""
        raise ValueError(f"Beam does not take this: {message}.")


def describe_machine() -> dict[str, Any]:
    """What `run.json` says of where a job ran."""
    return {
        "host": platform.node(),
        "num_cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "apache_beam": beam.__version__,
    }


def run(
    pipeline_options: beam_options.PipelineOptions,
    inputs: Sequence[Any],
    transform: beam.PTransform,
) -> collections.Counter[str]:
    """Runs one transform over the inputs to its end; returns its counters.

    Raises:
        ValueError: or OSError, for a mistake that a worker met.
    """
    if not inputs:
        return collections.Counter()
    # They log the traceback of an error that is raised here as well.
    for name in ("common", "portability.local_job_service"):
        logger = logging.getLogger(f"apache_beam.runners.{name}")
        logger.setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(*_runner_and_options(pipeline_options))
    _ = pipeline | "Inputs" >> beam.Create(inputs) | transform
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except ValueError as error:
        if not command_line.is_mistake(error):
            raise
        raise ValueError(_STEP.sub("", str(error))) from error
    except RuntimeError as error:
        if mistake := _mistake_in(str(error)):
            raise mistake from error
        raise
    in_namespace = MetricsFilter().with_namespace(METRICS_NAMESPACE)
    counters = collections.Counter()
    for each in result.metrics().query(in_namespace)["counters"]:
        # Java job servers tell attempted counts only, some metrics nothing.
        counters[each.key.metric.name] += each.result or 0
    return counters


def _runner_and_options(
    pipeline_options: beam_options.PipelineOptions,
) -> tuple[Any, beam_options.PipelineOptions]:
    """FnApiRunner with processes of ours; None for any other runner."""
    direct = pipeline_options.view_as(beam_options.DirectOptions)
    if (
        not _has_processes(pipeline_options)
        or direct.direct_running_mode != "multi_processing"
    ):
        return None, pipeline_options
    options = beam_options.PipelineOptions.from_dictionary(
        pipeline_options.get_all_options(drop_default=True)
    )
    # Any mode would take other processes.
    options.view_as(beam_options.DirectOptions).direct_running_mode = None
    command = (sys.executable, "-m", worker.__name__, *worker.arguments())
    environment = environments.SubprocessSDKEnvironment.from_command_string(
        shlex.join(command)
    )
    return fn_api_runner.FnApiRunner(environment), options


def _has_processes(pipeline_options: beam_options.PipelineOptions) -> bool:
    direct = pipeline_options.view_as(beam_options.DirectOptions)
    runner = pipeline_options.view_as(beam_options.StandardOptions).runner
    return runner == "FnApiRunner" and direct.direct_num_workers > 1


def _mistake_in(text: str) -> Exception | None:
    """The mistake that a worker's traceback ends with; None for a bug.

    Of other processes Beam passes on the text only.
    """
    *_, end = text.split('\n  File "')
    found = _END_OF_TRACEBACK.fullmatch(end.strip())
    if not found:
        return None
    message = _STEP.sub("", found["message"])
    kind = getattr(builtins, found["kind"], None)
    if isinstance(kind, type) and issubclass(kind, OSError):
        return kind(message)
    is_ours = re.search(r"\b(sicot_tf|beam_jobs)/", found["path"])
    is_told = (found["line"] or "").startswith("raise ")
    if found["kind"] == "ValueError" and is_ours and is_told:
        return ValueError(message)
    return None


def local_processes(
    pipeline_options: beam_options.PipelineOptions,
) -> contextlib.AbstractContextManager[process_pool.ProcessPool | None]:
    """Processes for `run_each`; None where the runner has its own workers.

    A process takes about 5 seconds to start, so several calls share them.
    """
    if not _has_processes(pipeline_options):
        return contextlib.nullcontext()
    direct = pipeline_options.view_as(beam_options.DirectOptions)
    return process_pool.ProcessPool(direct.direct_num_workers)


def run_each(
    pipeline_options: beam_options.PipelineOptions,
    inputs: Sequence[Any],
    transform: beam.PTransform,
    processes: process_pool.ProcessPool | None = None,
) -> collections.Counter[str]:
    """`run` for inputs that have nothing to do with each other.

    On this machine with several processes each takes the next input when it
    has finished one, see `process_pool`; so the transform must not start
    with a shuffle (`beam.Create` has one where there are other workers).

    Args:
        processes: of `local_processes`; None: those of this call.

    Raises:
        ChildProcessError: if a process was killed.
    """
    with contextlib.ExitStack() as stack:
        if processes is None:
            processes = stack.enter_context(local_processes(pipeline_options))
        if processes is None:
            return run(pipeline_options, inputs, transform)
        return _run_all(processes, inputs, lambda _: transform)


def sum_each(
    pipeline_options: beam_options.PipelineOptions,
    inputs: Sequence[Any],
    transform: beam.PTransform,
    work: folder.Folder,
    processes: process_pool.ProcessPool | None = None,
) -> tuple[collections.Counter[str], sums.Sums]:
    """`run_each` for a transform that gives dicts; also returns their sum.

    Args:
        work: a folder that all workers see; nothing is left in it.

    Raises:
        ChildProcessError: if a process was killed.
    """
    if not inputs:
        return collections.Counter(), {}
    token = secrets.token_hex(8)

    def summed(number: int) -> sums.Summed:
        key = f"sums-{token}-{number:06d}.json"
        return sums.Summed(transform, work.location, key)

    with contextlib.ExitStack() as stack:
        if processes is None:
            processes = stack.enter_context(local_processes(pipeline_options))
        if processes is None:
            counters = run(pipeline_options, inputs, summed(0))
        else:
            counters = _run_all(processes, inputs, summed)
    total = {}
    for entry in list(work.list(f"sums-{token}-")):
        sums.add(total, work.get_json(entry.key))
        work.delete(entry.key)
    return counters, total


def _run_all(
    processes: process_pool.ProcessPool,
    inputs: Sequence[Any],
    transform_of: Callable[[int], beam.PTransform],
) -> collections.Counter[str]:
    """One pipeline in each process."""
    counters = collections.Counter()
    results = processes.run(
        _run_or_mistake, inputs, lambda number: (transform_of(number),)
    )
    with contextlib.closing(results):
        for result in results:
            if isinstance(result, Exception):
                raise result
            counters += result
    return counters


def _run_or_mistake(
    transform: beam.PTransform,
) -> collections.Counter[str] | Exception:
    """`run` in one of several processes: mistakes are returned, bugs raised.

    The process that gets a raised one prints its traceback.
    """
    take_inputs = beam.ParDo(process_pool.TakeInputsFn())
    try:
        return run(make_pipeline_options(), [None], take_inputs | transform)
    except Exception as error:
        if command_line.is_mistake(error):
            return error
        raise
