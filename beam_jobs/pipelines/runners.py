"""Which runner a job takes, with which options, and what it counted."""

import argparse
import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import logging
import multiprocessing
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options import pipeline_options as beam_options

# Of all counters of this package.
METRICS_NAMESPACE = "sicot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --runner and --num_processes."""
    group = parser.add_argument_group("beam")
    group.add_argument(
        "--runner",
        default="FnApiRunner",
        help="name of a Beam runner; Beam's own flags, for example "
        "--flink_master, may stand beside those of this job "
        "(default: FnApiRunner, on this machine)",
    )
    group.add_argument(
        "--num_processes",
        type=int,
        default=1,
        help="processes of FnApiRunner; each costs about 5 seconds to start "
        "(default: 1, this one)",
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
    # PipelineOptions only warns of flags it drops.
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for options_class in beam_options.PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        raise ValueError(f"Neither this job nor Beam knows {unknown}.")
    return beam_options.PipelineOptions(flags)


def run(
    pipeline_options: beam_options.PipelineOptions,
    inputs: Sequence[Any],
    transform: beam.PTransform,
) -> collections.Counter[str]:
    """Runs one transform over the inputs to its end; returns its counters."""
    # It logs the traceback of an error that is raised here as well.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(options=pipeline_options)
    _ = pipeline | "Inputs" >> beam.Create(inputs) | transform
    result = pipeline.run()
    result.wait_until_finish()
    in_namespace = MetricsFilter().with_namespace(METRICS_NAMESPACE)
    counters = collections.Counter()
    for each in result.metrics().query(in_namespace)["counters"]:
        # Java job servers tell attempted counts only, some metrics nothing.
        counters[each.key.metric.name] += each.result or 0
    return counters


@contextlib.contextmanager
def local_processes(
    pipeline_options: beam_options.PipelineOptions,
) -> Iterator[concurrent.futures.Executor | None]:
    """Processes for `run_each`; None where the runner has its own workers.

    A process takes about 5 seconds to start, so several calls share them.
    """
    num_processes = pipeline_options.view_as(
        beam_options.DirectOptions
    ).direct_num_workers
    runner = pipeline_options.view_as(beam_options.StandardOptions).runner
    if runner != "FnApiRunner" or num_processes <= 1:
        yield None
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_processes,
        # Neither TensorFlow nor gRPC survive a fork.
        multiprocessing.get_context("spawn"),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_each(
    pipeline_options: beam_options.PipelineOptions,
    inputs: Sequence[Any],
    transform: beam.PTransform,
    processes: concurrent.futures.Executor | None = None,
) -> collections.Counter[str]:
    """`run` for inputs that have nothing to do with each other.

    On this machine with several processes each takes the next input when it
    has finished one. FnApiRunner's own processes divide all inputs at the
    start, and a pipeline waits for ever when one of them is killed (Beam
    2.77).

    Args:
        processes: of `local_processes`; None: those of this call.

    Raises:
        ChildProcessError: if a process was killed.
    """
    if not inputs:
        return collections.Counter()
    if processes is None:
        with local_processes(pipeline_options) as processes:
            if processes is None:
                return run(pipeline_options, inputs, transform)
            return run_each(pipeline_options, inputs, transform, processes)
    alone = make_pipeline_options()
    counters = collections.Counter()
    jobs = [processes.submit(run, alone, [each], transform) for each in inputs]
    try:
        for job in concurrent.futures.as_completed(jobs):
            counters += job.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ChildProcessError(
            "A process of this job was killed; if nobody did so, memory was "
            "short: take fewer processes. The same command goes on where this "
            "one ended."
        ) from error
    finally:
        for job in jobs:
            job.cancel()
    return counters
