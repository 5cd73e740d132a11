"""Builds one data set on FnApiRunner and on another runner, compares bytes.

Makes a few hundred pictures (and a missing one and a repeated record), builds
them twice with the command an engineer would type, prints SHA-256 of every
file of both generations but run.json and what Beam counted. Exits with 1 if
anything differs, with 2 if the other runner can't be had; says why.

What each runner needs:
  flink     java 17 and mvn, which fetches 170 MB once: Beam's job server with
            a Flink inside (flink_job_server/pom.xml)
  spark     java 17 and mvn, which fetches 270 MB once: Beam's job server with
            a Spark inside (spark_job_server/pom.xml)
  prism     go 1.26 or newer, or a prism binary on the PATH
  embedded  nothing: Beam's own job service, in Python

examples:
  python -m benchmarks.jobs.portable_runners --runner flink
  python -m benchmarks.jobs.portable_runners --runner prism --records 2000
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks import go_programs
from benchmarks.soak import soak_build_dataset

_MAVEN_CLASS_PATH = (
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"
)
_START_SECONDS = 120
_PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"


@dataclasses.dataclass(frozen=True)
class _JobServer:
    """How Beam's job server for a runner is started and used."""

    main_class: str
    master: str
    java_flags: tuple[str, ...] = ()
    pipeline_flags: tuple[str, ...] = ()


_JOB_SERVERS = {
    "flink": _JobServer(
        "org.apache.beam.runners.flink.FlinkJobServerDriver",
        "--flink-master=[local]",
        # Else one worker does all parts.
        pipeline_flags=("--parallelism=2",),
    ),
    "spark": _JobServer(
        "org.apache.beam.runners.spark.SparkJobServerDriver",
        "--spark-master-url=local[2]",
        # Spark 3.2 reaches into a package that Java 17 closes.
        java_flags=("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",),
    ),
}


def fetch_class_path(runner: str, folder: pathlib.Path) -> str:
    """Class path of the job server, from Maven or its local repository.

    Raises:
        go_programs.UnavailableError: if there is no java or mvn, or Maven
            fails.
    """
    for program, package in (
        ("java", "openjdk-17-jre-headless"),
        ("mvn", "maven"),
    ):
        if not shutil.which(program):
            raise go_programs.UnavailableError(
                f"There is no {program} on the PATH. Install one, for "
                f"example: apt-get install {package}"
            )
    pom = pathlib.Path(__file__).parent / f"{runner}_job_server" / "pom.xml"
    file = folder / "class_path"
    print(f"Fetching what {pom} lists ...", flush=True)
    go_programs.run(
        ["mvn", "--batch-mode", "--quiet", f"--file={pom}", _MAVEN_CLASS_PATH]
        + [f"-Dmdep.outputFile={file}"]
    )
    return file.read_text("utf-8").strip()


@contextlib.contextmanager
def run_job_server(runner: str) -> Iterator[str]:
    """Runs a job server as long as the context; gives its `host:port`.

    Raises:
        go_programs.UnavailableError: if it can't be had, or does not start.
    """
    job_server = _JOB_SERVERS[runner]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        class_path = fetch_class_path(runner, folder)
        # The first of the list is the runner, with Beam's version.
        print(pathlib.Path(class_path.split(os.pathsep)[0]).stem, flush=True)
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["java", "-Xmx2g", f"-Djava.io.tmpdir={folder}"]
                + [*job_server.java_flags, "-cp", class_path]
                + [job_server.main_class, job_server.master]
                + ["--job-host=localhost", "--job-port=0"]
                + ["--artifact-port=0", "--expansion-port=-1"]
                + [f"--artifacts-dir={folder / 'artifacts'}"],
                # Else Spark listens beyond this machine.
                env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _wait_for_endpoint(process, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_endpoint(process: subprocess.Popen, log: pathlib.Path) -> str:
    # PortableRunner would wait for ever on a port where nobody listens.
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        text = log.read_text("utf-8")
        started = re.search(r"JobService started on (\S+:\d+)\n", text)
        if started:
            return started[1]
        time.sleep(0.1)
    raise go_programs.UnavailableError(
        "The job server did not start:\n" + log.read_text("utf-8")
    )


def fetch_prism(version: str) -> pathlib.Path:
    """The prism binary: that of the PATH, of the cache, or built by go.

    Raises:
        go_programs.UnavailableError: if there is no go, or it fails.
    """
    on_path = shutil.which("prism")
    return (
        pathlib.Path(on_path) if on_path else go_programs.fetch(_PRISM, version)
    )


@contextlib.contextmanager
def runner_flags(runner: str, version: str) -> Iterator[list[str]]:
    """Flags of `beam_jobs.build_dataset` for a runner on this machine."""
    loopback = "--environment_type=LOOPBACK"
    if runner in _JOB_SERVERS:
        with run_job_server(runner) as endpoint:
            yield [
                "--runner=PortableRunner",
                f"--job_endpoint={endpoint}",
                loopback,
                *_JOB_SERVERS[runner].pipeline_flags,
            ]
    elif runner == "prism":
        prism = fetch_prism(version)
        yield ["--runner=PrismRunner", f"--prism_location={prism}", loopback]
    else:
        yield ["--runner=PortableRunner", "--job_endpoint=embed", loopback]


def make_records(folder: pathlib.Path, num_records: int) -> pathlib.Path:
    """Good records, one whose picture is missing, one that is repeated."""
    path = soak_build_dataset.make_records(folder, num_records)
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    missing = {**first, "record_id": "missing", "image": "images/none.jpg"}
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in (missing, first))
    return path


def build(
    records: pathlib.Path,
    output: pathlib.Path,
    flags: list[str],
    part_records: int,
) -> tuple[dict[str, str], dict[str, int], float]:
    """Runs the job; digests of its files, Beam's counters, seconds."""
    started = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "beam_jobs.build_dataset"]
        + ["--input", str(records), "--output", str(output)]
        + ["--word_vector_dim", "16", "--word2vec_epochs", "2"]
        + ["--shard_megabytes", "1"]
        + ["--part_records", str(part_records), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    if finished.returncode:
        sys.exit(f"{finished.stdout}\n{finished.stderr}\nBuild failed: {flags}")
    generation = output / (output / "LATEST").read_text("utf-8").strip()
    run = json.loads((generation / "run.json").read_text("utf-8"))
    digests = soak_build_dataset.digests(output)
    return digests, run["beam_counters"], seconds


def main(argv: list[str] | None = None) -> None:
    """Builds twice, prints the comparison; see the exit codes above."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runner",
        choices=("flink", "spark", "prism", "embedded"),
        required=True,
    )
    parser.add_argument("--records", type=int, default=300)
    arguments = parser.parse_args(argv)
    version = importlib.metadata.version("apache-beam")
    # Several parts, so that there is something to spread and to order.
    part_records = max(1, arguments.records // 6)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory())
        )
        try:
            flags = stack.enter_context(runner_flags(arguments.runner, version))
        except go_programs.UnavailableError as error:
            parser.exit(2, f"{error}\n{arguments.runner} was not run.\n")
        print(f"Beam {version}: {' '.join(flags)}", flush=True)
        records = make_records(folder / "raw", arguments.records)
        here, here_counts, here_seconds = build(
            records, folder / "fn_api", ["--runner=FnApiRunner"], part_records
        )
        there, there_counts, there_seconds = build(
            records, folder / "other", flags, part_records
        )
    differences = 0
    title = f"{'':34}  {'FnApiRunner':16}  {arguments.runner:16}"
    print(f"\n{title}")
    for kind, left, right, width in (
        ("files", here, there, 16),
        ("counters", here_counts, there_counts, None),
    ):
        print(f"{kind}:")
        for key in sorted({*left, *right}):
            one = str(left.get(key, "-"))
            other = str(right.get(key, "-"))
            differences += one != other
            print(
                f"  {key:32}  {one[:width]:16}  {other[:width]:16}"
                f"{'' if one == other else '  DIFFERENT'}"
            )
    print(f"{'seconds':34}  {here_seconds:<16.1f}  {there_seconds:<16.1f}")
    if differences:
        sys.exit(f"\n{differences} line(s) differ.")
    print(f"\n{len(here)} files and {len(here_counts)} counters are equal.")


if __name__ == "__main__":
    main()
