"""Pictures a second that a job reads from S3, and by Beam's own client.

    python -m benchmarks.jobs.object_store_input

The server runs on this machine (`benchmarks.stores.servers`), so that the
client is what is measured; a network adds its own time. Beam makes a client
for every call; it needs boto3. Lines:

Beam      `FileSystems.open`, as it was
now       `record_files.open_file`
state     what the survey asks of each picture, without reading it
"""

import argparse
import concurrent.futures
import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from benchmarks.stores import servers


def measure(
    what: str,
    call: Callable[[str], Any],
    paths: Sequence[str],
    num_threads: int,
) -> float:
    started, busy = time.monotonic(), time.process_time()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(call, paths):
            pass
    seconds = time.monotonic() - started
    busy = time.process_time() - busy
    print(
        f"{what:6} {len(paths) / seconds:8,.1f} pictures/s "
        f"({len(paths):,} in {seconds:.1f} s), "
        f"{busy / len(paths) * 1e3:7.2f} ms of a core each",
        flush=True,
    )
    return len(paths) / seconds


def read_by_beam(path: str) -> bytes:
    from apache_beam.io import filesystem
    from apache_beam.io import filesystems

    with filesystems.FileSystems.open(
        path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
    ) as file:
        return file.read()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument(
        "--beam_pictures", type=int, default=100, help="of them through Beam"
    )
    parser.add_argument("--picture_bytes", type=int, default=30_000)
    parser.add_argument("--threads", type=int, default=16)
    arguments = parser.parse_args(argv)
    with servers.s3() as server:
        os.environ.update(server.environment)
        from apache_beam.io import filesystems
        from apache_beam.options import pipeline_options

        from beam_jobs.records import record_files
        from sicot_tf.stores import opening

        # A runner gives them to the process that it starts in.
        filesystems.FileSystems.set_options(pipeline_options.PipelineOptions())
        store = opening.open_folder(server.url)
        content = os.urandom(arguments.picture_bytes)
        keys = [f"pictures/{each}.jpg" for each in range(arguments.pictures)]
        with concurrent.futures.ThreadPoolExecutor(arguments.threads) as pool:
            for _ in pool.map(lambda key: store.put(key, content), keys):
                pass
        paths = [f"{server.url}/{key}" for key in keys]

        def read(path: str) -> bytes:
            with record_files.open_file(path) as file:
                return file.read()

        if not read(paths[0]) == read_by_beam(paths[0]) == content:
            raise AssertionError("The pictures are not what was written.")
        some = paths[: arguments.beam_pictures]
        before = measure("Beam", read_by_beam, some, arguments.threads)
        now = measure("now", read, paths, arguments.threads)
        measure("state", record_files.state, paths, arguments.threads)
        print(f"now / Beam: {now / before:,.0f} times")


if __name__ == "__main__":
    main()
