"""Builds one data set locally, on S3 and on Cloud Storage; compares bytes.

Starts the servers of `benchmarks.stores.servers` on loopback. Then:

builds    on each store with FnApiRunner, with two processes, and on Prism with
          workers that share no folder with the launcher
kills     SIGKILL of a build on S3 and all its processes, at moments spread
          over it, each build then resumed: equal bytes, nothing visible before
          the end, no finished part done again
builders  two builds of one data set at once: one is refused, equal bytes
mistakes  a missing bucket, a missing file, wrong keys, no server

Exits with 1 if anything is not as it should be, with 2 if something can't be
had: go (1.26 or newer) builds servers and Prism once, and Linux' root may keep
workers apart.

examples:
  python -m benchmarks.stores.store_test
  python -m benchmarks.stores.store_test --only kills --kills 3
"""

import contextlib
import importlib.metadata
import pathlib
import sys
import tempfile

from benchmarks import flags
from benchmarks import go_programs
from benchmarks.stores import builds
from benchmarks.stores import isolated_workers
from benchmarks.stores import kills
from benchmarks.stores import mistakes
from benchmarks.stores import servers

_PARTS = ("builds", "kills", "builders", "mistakes")


def compare_builds(
    folder: pathlib.Path, records: pathlib.Path, stores: list[servers.Server]
) -> int:
    """Builds in all ways; returns how many files differ."""
    launcher = builds.Launcher(folder / "launcher")
    launcher.build(records, folder / "out")
    columns = {"local": builds.digests(folder / "out")}
    environment = {k: v for each in stores for k, v in each.environment.items()}
    apart = isolated_workers.flags(
        folder, environment, importlib.metadata.version("apache-beam")
    )
    for store in stores:
        name = store.url.partition(":")[0]
        for way, way_flags in (
            (name, []),
            (f"{name} 2 proc.", ["--num_processes=2"]),
            (f"{name} Prism", apart),
        ):
            output = f"{store.url}/{way.replace(' ', '-')}"
            seconds = launcher.build(
                f"{store.url}/raw/records.jsonl", output, *way_flags
            )
            columns[way] = builds.digests(output)
            print(f"{way}: {seconds:.0f} s", flush=True)
    return builds.print_table(columns)


def main(argv: list[str] | None = None) -> None:
    """Runs all and prints what came of it; see the exit codes above."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--only", choices=_PARTS)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args(argv)
    wanted = (arguments.only,) if arguments.only else _PARTS
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        folder = pathlib.Path(name)
        try:
            s3 = stack.enter_context(servers.s3(folder / "s3"))
            gcs = stack.enter_context(servers.gcs(folder / "gcs"))
            stores = [s3, gcs]
            for store in stores:
                stack.enter_context(builds.variables(store.environment))
            records = builds.make_records(folder / "raw", arguments.records)
            for store in stores:
                builds.upload(folder / "raw", f"{store.url}/raw")
            wrong = 0
            if "builds" in wanted:
                wrong += compare_builds(folder, records, stores)
            launcher = builds.Launcher(folder / "launcher")
            if "kills" in wanted:
                wrong += kills.kill_and_resume(launcher, s3, arguments.kills)
            if "builders" in wanted:
                for store in stores:
                    wrong += kills.build_twice_at_once(launcher, store.url)
            if "mistakes" in wanted:
                wrong += mistakes.make_all(launcher, s3, gcs)
        except go_programs.UnavailableError as error:
            parser.exit(2, f"{error}\nThis was not run to its end.\n")
    if wrong:
        sys.exit(f"\n{wrong} thing(s) are not as they should be.")
    print("\nAll is as it should be.")


if __name__ == "__main__":
    main()
