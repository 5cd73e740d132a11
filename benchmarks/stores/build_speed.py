"""What a build to and from S3 costs beside a local one.

Prints, for a server on loopback (`benchmarks.stores.servers`):

1. pictures a second of whole builds from and to S3 over local ones, in turns in
   one process: median and quartiles of the rounds. The server takes time of the
   same cores, which is told;
2. requests for each record, by kind;
3. memory of the process after each stage, at two numbers of records.

examples:
  python -m benchmarks.stores.build_speed --only speed
  python -m benchmarks.stores.build_speed --sizes 10000 200000
"""

import collections
import pathlib
import statistics
import tempfile
import time

import tqdm

from benchmarks import flags
from benchmarks.jobs import build_dataset
from benchmarks.stores import builds
from benchmarks.stores import servers
from sicot_tf.stores import locations


def _build(place: locations.Location, output: str, num_processes: int) -> float:
    """Seconds of a whole build, once all is imported."""
    from beam_jobs.dataset import build
    from beam_jobs.pipelines import runners
    from sicot_tf import config

    dataset_config = config.from_dict(
        config.DatasetConfig,
        {"image_size": 256, "word2vec_epochs": 1, "word_vector_dim": 16},
    )
    started = time.perf_counter()
    build.build(
        build.Inputs([str(locations.join(place, "records.jsonl"))]),
        locations.join(place, output),
        dataset_config,
        runners.make_pipeline_options(num_processes=num_processes),
    )
    return time.perf_counter() - started


def measure_speed(
    server: servers.Server, number: int, rounds: int, num_processes: int
) -> None:
    """Prints rates, their ratio and requests a record."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "images").mkdir()
        build_dataset.make_pictures(folder / "images", number)
        paths = [pathlib.Path(f"images/{i}.jpg") for i in range(number)]
        build_dataset.write_records(paths, folder / "records.jsonl")
        builds.upload(folder, server.url)
        seconds: dict[str, list[float]] = {"local": [], "s3": []}
        # What is imported and compiled only once.
        for place in (folder, server.url):
            _build(place, "first", num_processes)
        asked = collections.Counter()
        used, of_server = [], []
        for i in tqdm.trange(rounds, unit=" rounds"):
            seconds["local"].append(_build(folder, f"o{i}", num_processes))
            before, cpu = server.requests(), server.cpu_seconds()
            own = time.process_time()
            seconds["s3"].append(_build(server.url, f"o{i}", num_processes))
            asked = server.requests() - before
            of_server.append(server.cpu_seconds() - cpu)
            used.append(time.process_time() - own)
    print(f"\n{number} JPEGs of 800 x 600, {rounds} rounds, whole builds")
    print(f"  processes                 {num_processes:8}")
    for store, values in seconds.items():
        print(f"  {store:26}{number / statistics.median(values):8.1f} images/s")
    build_dataset.print_ratio("s3 / local", seconds, "local", "s3")
    print(
        f"  a build on s3 took {statistics.median(seconds['s3']):.1f} s, the "
        f"server {statistics.median(of_server):.1f} s of the cores, this "
        f"process {statistics.median(used):.1f} s"
    )
    print("requests of a build, and for each record:")
    for kind, count in asked.most_common():
        print(f"  {kind:30}{count:8,}{count / number:10.4f}")


def main(argv: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--only", choices=("speed", "memory"))
    parser.add_argument("--num_pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num_processes", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs=2, default=[10_000, 200_000])
    arguments = parser.parse_args(argv)
    with servers.s3() as server, builds.variables(server.environment):
        if arguments.only in (None, "speed"):
            measure_speed(
                server,
                arguments.num_pictures,
                arguments.rounds,
                arguments.num_processes,
            )
        if arguments.only in (None, "memory"):
            build_dataset.measure_memory(arguments.sizes, f"{server.url}/small")


if __name__ == "__main__":
    main()
