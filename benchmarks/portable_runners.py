"""Builds one data set on FnApiRunner and on another runner, compares bytes.

Makes a few hundred pictures (and a missing one and a repeated record), builds
them twice with the command an engineer would type, prints SHA-256 of every
file of both generations but run.json and what Beam counted. Exits with 1 if
anything differs, with 2 if the other runner can't be had; says why.

What each runner needs, fetched once into ~/.cache/sicot_tf/:
  flink     java 17 or 11, mvn for Beam's job server: a Flink inside one JVM
  spark     java 17 or 11, mvn for Beam's job server: a Spark inside one JVM
  prism     go 1.26 or newer, or a prism binary on the PATH
  embedded  nothing: Beam's own job service, in Python

examples:
  python benchmarks/portable_runners.py --runner flink
  python benchmarks/portable_runners.py --runner prism --records 2000
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import soak_build_dataset

_CACHE = pathlib.Path.home() / ".cache" / "sicot_tf"
# Flink 1.20 is the last of the 1.x line, which Beam supports on Java 11 and 17.
_JOB_SERVERS = {
    "flink": "beam-runners-flink-1.20-job-server",
    "spark": "beam-runners-spark-3-job-server",
}
_MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"


class UnavailableError(Exception):
    """What a runner needs is not on this machine and can't be fetched."""


def fetch_job_server(runner: str, version: str) -> pathlib.Path:
    """Beam's job server for `flink` or `spark`, from Maven or the cache.

    Raises:
        UnavailableError: if there is no java or no mvn, or Maven fails.
    """
    if not shutil.which("java"):
        raise UnavailableError(
            "There is no java on the PATH. Install one, for example: "
            "apt-get install openjdk-17-jre-headless"
        )
    name = _JOB_SERVERS[runner]
    jar = _CACHE / "jars" / f"{name}-{version}.jar"
    if jar.exists():
        return jar
    if not shutil.which("mvn"):
        raise UnavailableError(
            f"{jar} is missing and there is no mvn on the PATH to fetch it. "
            "Install one, for example: apt-get install maven"
        )
    artifact = f"org.apache.beam:{name}:{version}"
    print(f"Fetching {artifact} ...", flush=True)
    jar.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
        # -U: try again although an earlier attempt failed.
        _fetch(
            ["mvn", "--batch-mode", "--quiet", "-U", _MAVEN_COPY]
            + [f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
        )
        os.replace(pathlib.Path(folder) / jar.name, jar)
    return jar


def fetch_prism(version: str) -> pathlib.Path:
    """The prism binary: that of the PATH, of the cache, or built by go.

    Raises:
        UnavailableError: if there is no go, or it fails.
    """
    on_path = shutil.which("prism")
    if on_path:
        return pathlib.Path(on_path)
    binary = _CACHE / "bin" / f"prism-{version}"
    if binary.exists():
        return binary
    if not shutil.which("go"):
        raise UnavailableError(
            "There is no prism and no go on the PATH. Install go 1.26, or "
            "put the prism of Beam's release on the PATH."
        )
    print(f"Building {_PRISM}@v{version}, about 90 seconds ...", flush=True)
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        _fetch(["go", "install", f"{_PRISM}@v{version}"], GOBIN=folder)
        os.replace(pathlib.Path(folder) / "prism", binary)
    return binary


def _fetch(command: list[str], **environment: str) -> None:
    finished = subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        output = (finished.stdout + finished.stderr).strip()
        raise UnavailableError(f"{' '.join(command)} failed:\n{output}")


def runner_flags(runner: str, version: str) -> list[str]:
    """Flags of `beam_jobs.build_dataset` for a runner on this machine."""
    if runner == "flink":
        return [
            "--runner=FlinkRunner",
            "--flink_master=[local]",
            f"--flink_job_server_jar={fetch_job_server(runner, version)}",
            "--parallelism=2",
            "--environment_type=LOOPBACK",
        ]
    if runner == "spark":
        return [
            "--runner=SparkRunner",
            "--spark_master_url=local[2]",
            f"--spark_job_server_jar={fetch_job_server(runner, version)}",
            "--environment_type=LOOPBACK",
        ]
    if runner == "prism":
        return [
            "--runner=PrismRunner",
            f"--prism_location={fetch_prism(version)}",
            "--environment_type=LOOPBACK",
        ]
    return [
        "--runner=PortableRunner",
        "--job_endpoint=embed",
        "--environment_type=LOOPBACK",
    ]


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
    try:
        flags = runner_flags(arguments.runner, version)
    except UnavailableError as error:
        parser.exit(2, f"{error}\n{arguments.runner} was not run.\n")
    print(f"Beam {version}: {' '.join(flags)}")
    # Several parts, so that there is something to spread and to order.
    part_records = max(1, arguments.records // 6)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
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
