"""How fast and how lean the build of a dataset is, beside its limits.

Prints, measured in one run and in turns (median and quartiles of the rounds):

1. the picture stage in images a second and core, over a bare Pillow loop of
   decode, resize and encode on the same files; two processes over one; what
   of it is spent on hashes; and img2dataset on the same files, size and
   quality, if --img2dataset names a Python that has it:

     python3.11 -m venv /tmp/img2dataset
     /tmp/img2dataset/bin/pip install 'img2dataset==1.47.0' 'setuptools<81'

2. titles a second over bare rjieba and TensorFlow Text;
3. memory of the picture stage and of the stage over all records, at two
   numbers of records.

examples:
  python -m benchmarks.jobs.build_dataset --only pictures
  python -m benchmarks.jobs.build_dataset \\
      --img2dataset /tmp/img2dataset/bin/python
"""

import argparse
import concurrent.futures
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np
import tqdm
from PIL import Image

_SIZE, _QUALITY = 256, 95
# The job's default, 1,000, wants more pictures for several parts a process.
_PART_RECORDS = 250


# === Pictures ===


def make_pictures(folder: pathlib.Path, number: int) -> list[pathlib.Path]:
    """800 x 600 JPEGs with edges and texture, about 120 kB each."""
    rng = np.random.default_rng(0)
    paths = []
    for i in tqdm.trange(number, desc="800 x 600 pictures", leave=False):
        coarse = rng.uniform(0, 255, (9, 12, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((800, 600), Image.BICUBIC)
        texture = rng.normal(0, 10, (600, 800, 1))
        pixels = np.asarray(image, np.float32) + texture
        pixels[100:300, 200:500] += 60
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        paths.append(folder / f"{i}.jpg")
        image.save(paths[-1], quality=85)
    return paths


def write_records(paths: list[pathlib.Path], records: pathlib.Path) -> None:
    """A line for each picture, in the folder of the records or elsewhere."""
    with records.open("w") as file:
        for i, path in enumerate(paths):
            row = {"record_id": f"r{i}", "image": str(path), "title": "red bag"}
            file.write(json.dumps({**row, "sku_id": f"sku-{i % 9}"}) + "\n")


def _bare_loop(paths: list[pathlib.Path]) -> float:
    """Seconds of Pillow's decode, resize, encode at our settings."""
    started = time.perf_counter()
    for path in paths:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.draft("RGB", (342, _SIZE))
            image.load()
            width, height = image.size
            scale = _SIZE / min(width, height)
            small = image.resize(
                (round(width * scale), round(height * scale)),
                Image.Resampling.LANCZOS,
                reducing_gap=3.0,
            )
            small.save(
                io.BytesIO(), "JPEG", quality=_QUALITY, subsampling="4:4:4"
            )
    return time.perf_counter() - started


def _bare_loops(paths: list[pathlib.Path], num_processes: int) -> float:
    """Seconds of the bare loop on several processes, started before."""
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(num_processes, context) as pool,
        multiprocessing.Manager() as manager,
    ):
        # Else one process does this twice while the other still starts.
        barrier = manager.Barrier(num_processes)
        list(pool.map(_bare_loop, [paths[:1]] * num_processes))
        list(pool.map(_meet, [barrier] * num_processes))
        started = time.perf_counter()
        list(
            pool.map(
                _bare_loop,
                (paths[i::num_processes] for i in range(num_processes)),
            )
        )
        return time.perf_counter() - started


def _meet(barrier: threading.Barrier) -> None:
    barrier.wait()


def _picture_stage(records: pathlib.Path, num_processes: int) -> float:
    """Seconds of the picture stage, on processes that have started before."""
    from beam_jobs.dataset.steps import parts
    from beam_jobs.dataset.steps import store_records
    from beam_jobs.dataset.steps import survey_records
    from beam_jobs.pipelines import runners
    from beam_jobs.records import file_ranges
    from beam_jobs.records import record_files
    from sicot_tf import config
    from sicot_tf.stores import opening

    options = runners.make_pipeline_options(num_processes=num_processes)
    with (
        tempfile.TemporaryDirectory() as name,
        runners.local_processes(options) as processes,
        multiprocessing.Manager() as manager,
    ):
        work = opening.open_folder(name)
        rows = work.child("rows").location
        found = record_files.find_record_files([str(records)])
        ranges = file_ranges.plan(found, "utf-8")
        _, counts = runners.sum_each(
            runners.make_pipeline_options(),
            ranges,
            survey_records.SurveyRecords(rows, "title", "utf-8", _PART_RECORDS),
            work,
        )
        chunks = survey_records.plan_chunks(ranges, counts)
        if processes:
            barrier = manager.Barrier(num_processes)
            list(processes.pool.map(_wait_for_all, [barrier] * num_processes))
        started = time.perf_counter()
        runners.sum_each(
            options,
            parts.plan(chunks, _PART_RECORDS),
            store_records.StoreRecords(
                rows,
                work.child("parts").location,
                config.with_preset(config.DatasetConfig, "paper"),
            ),
            work,
            processes,
        )
        return time.perf_counter() - started


def _wait_for_all(barrier: threading.Barrier) -> None:
    """Loads what the picture stage needs, then waits for the others."""
    from beam_jobs.dataset.steps import store_records  # noqa: F401
    from sicot_tf.data import titles

    titles.tokenize(["红色手提包女 red bag"])
    barrier.wait()


def _hash_work(paths: list[pathlib.Path]) -> float:
    """Seconds of what the bare loop has not: hashes of both files."""
    from beam_jobs.pictures import stored_images

    images = [path.read_bytes() for path in paths]
    stored = [
        stored_images.to_stored_image(
            data,
            image_size=_SIZE,
            jpeg_quality=_QUALITY,
            min_image_side=8,
            max_image_pixels=10**8,
        ).jpeg
        for data in images[:20]
    ]
    small = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in stored]
    started = time.perf_counter()
    for data in images:
        hashlib.sha256(data).digest()
    for i in range(len(images)):
        hashlib.sha256(stored[i % 20]).digest()
        stored_images.perceptual_hashes(small[i % 20])
    return time.perf_counter() - started


def _img2dataset(python: str, paths: list[pathlib.Path]) -> float:
    """Seconds of img2dataset's own count for one process, files by file://."""
    with tempfile.TemporaryDirectory() as name:
        urls = pathlib.Path(name) / "urls.txt"
        urls.write_text("\n".join(f"file://{path}" for path in paths))
        program = (
            "import sys, img2dataset\n"
            "img2dataset.download(url_list=sys.argv[1],"
            "output_folder=sys.argv[2], output_format='webdataset',"
            "processes_count=1, thread_count=8, image_size=256,"
            "resize_mode='keep_ratio', resize_only_if_bigger=True,"
            f"encode_quality={_QUALITY}, encode_format='jpg',"
            "enable_wandb=False, number_sample_per_shard=100000)"
        )
        output = pathlib.Path(name) / "out"
        command = [python, "-c", program, str(urls), str(output)]
        subprocess.run(command, check=True, capture_output=True)
        stats = json.loads((output / "00000_stats.json").read_text())
        if stats["successes"] != len(paths):
            raise SystemExit(f"img2dataset failed: {stats}")
        return stats["duration"]


def measure_pictures(number: int, rounds: int, img2dataset: str | None) -> None:
    """Prints rates and ratios of the picture stage."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "images").mkdir()
        paths = make_pictures(folder / "images", number)
        write_records(paths, folder / "records.jsonl")
        measures: dict[str, Callable[[], float]] = {
            "bare Pillow loop": lambda: _bare_loop(paths),
            "our job": lambda: _picture_stage(folder / "records.jsonl", 1),
            "bare Pillow, 2 processes": lambda: _bare_loops(paths, 2),
            "our job, 2 processes": lambda: _picture_stage(
                folder / "records.jsonl", 2
            ),
            "hashes alone": lambda: _hash_work(paths),
        }
        if img2dataset:
            measures["img2dataset"] = lambda: _img2dataset(img2dataset, paths)
        _bare_loop(paths[:20])
        _picture_stage(folder / "records.jsonl", 1)
        seconds = {name: [] for name in measures}
        for _ in tqdm.trange(rounds, unit=" rounds"):
            for name, measure in measures.items():
                seconds[name].append(measure())
    print(
        f"\npictures: {number} JPEGs of 800 x 600 to {_SIZE}, {rounds} rounds"
    )
    for name, values in seconds.items():
        print(f"  {name:26}{number / statistics.median(values):8.1f} images/s")
    print_ratio("our job / bare loop", seconds, "bare Pillow loop", "our job")
    print_ratio(
        "our job, 2 processes / 1", seconds, "our job", "our job, 2 processes"
    )
    print_ratio(
        "bare loop, 2 processes / 1",
        seconds,
        "bare Pillow loop",
        "bare Pillow, 2 processes",
    )
    if img2dataset:
        print_ratio("our job / img2dataset", seconds, "img2dataset", "our job")
        seconds["bare job"] = [
            job - hashes
            for job, hashes in zip(seconds["our job"], seconds["hashes alone"])
        ]
        print_ratio(
            "without hashes / img2dataset", seconds, "img2dataset", "bare job"
        )


def print_ratio(
    label: str, seconds: dict[str, list[float]], base: str, name: str
) -> None:
    """Speed of `name` over speed of `base`, round by round."""
    ratios = [b / n for b, n in zip(seconds[base], seconds[name], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"  {label:30}{middle:6.2f} ({low:.2f} to {high:.2f})")


# === Titles ===


def measure_titles(rounds: int) -> None:
    """Prints titles a second of our tokeniser, rjieba and TensorFlow Text."""
    import rjieba
    import tensorflow as tf
    import tensorflow_text as tf_text

    from sicot_tf.data import titles

    pieces = [
        "红色手提包女",
        "新款韩版宽松短袖",
        "包邮",
        "Nike Air",
        "330ml",
        "夏季",
    ]
    rng = np.random.default_rng(0)
    samples = [
        " ".join(rng.choice(pieces, 4)) + f" {i}!" for i in range(20_000)
    ]
    tokenizer = tf_text.UnicodeScriptTokenizer()
    measures = {
        "ours": lambda: [
            titles.tokenize(samples[i : i + 1000])
            for i in range(0, len(samples), 1000)
        ],
        "rjieba alone": lambda: [rjieba.cut(each) for each in samples],
        "TensorFlow Text alone": lambda: [
            tokenizer.tokenize(tf.constant(samples[i : i + 1000])).to_list()
            for i in range(0, len(samples), 1000)
        ],
    }
    print(f"\ntitles: {len(samples):,}, Chinese and Latin mixed")
    for name, measure in measures.items():
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            measure()
            seconds.append(time.perf_counter() - started)
        rate = len(samples) / statistics.median(seconds)
        print(f"  {name:26}{rate:10,.0f} titles/s")


# === Memory ===


def _build_small(num_records: int, directory: str, store: str | None) -> None:
    """Builds tiny pictures; prints the memory's peak after each stage."""
    from beam_jobs.dataset import build
    from beam_jobs.pipelines import runners
    from sicot_tf import config
    from sicot_tf.stores import locations
    from sicot_tf.stores import opening

    folder = pathlib.Path(directory)
    rng = np.random.default_rng(0)
    with (folder / "records.jsonl").open("w") as file:
        for i in range(num_records):
            path = folder / f"{i % 1000}.jpg"
            if i < 1000:
                noise = rng.integers(0, 255, (16, 16, 3), np.uint8)
                Image.fromarray(noise).save(path)
            title = " ".join(f"word{w % 50_000}" for w in rng.zipf(1.2, 12))
            row = {"record_id": f"record-{i}", "image": path.name}
            row |= {"sku_id": f"sku-{int(rng.zipf(1.4)) % 20_000}"}
            file.write(json.dumps({**row, "title": title}) + "\n")
    place = folder
    if store:
        place = store
        for path in folder.iterdir():
            opening.open_folder(place).upload(path, path.name)
    generation = build.build(
        build.Inputs([str(locations.join(place, "records.jsonl"))]),
        locations.join(place, "dataset"),
        config.from_dict(
            config.DatasetConfig,
            {"duplicates": "keep", "word2vec_epochs": 1, "word_vector_dim": 16},
        ),
        runners.make_pipeline_options(),
    )
    stages = opening.open_folder(generation).get_json("run.json")["stages"]
    peaks = {name: stage["peak_megabytes"] for name, stage in stages.items()}
    print("PEAKS " + json.dumps(peaks))


def measure_memory(sizes: list[int], store: str | None = None) -> None:
    """Prints what the stages add to the process at two numbers of records.

    Args:
        store: URL of a folder for records and output; None: a local one.
    """
    print("\nmemory, peak of the process after each stage, MB")
    found = {}
    for num_records in sizes:
        with tempfile.TemporaryDirectory() as directory:
            environment = {"BENCHMARK_FOLDER": directory}
            if store:
                environment["BENCHMARK_STORE"] = f"{store}/{num_records}"
            finished = subprocess.run(
                [sys.executable, "-m", "benchmarks.jobs.build_dataset"]
                + ["--build_small", str(num_records)],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
        if finished.returncode:
            raise SystemExit(finished.stderr)
        line = finished.stdout.rpartition("PEAKS ")[2]
        found[num_records] = json.loads(line)
    names = list(found[sizes[0]])
    print(f"  {'records':38}" + "".join(f"{n:>12,}" for n in sizes))
    for name in names:
        row = "".join(f"{found[n][name]:12,}" for n in sizes)
        print(f"  {name:38}{row}")
    few, many = sizes
    grown = max(found[many].values()) - max(found[few].values())
    print(f"  bytes a record: {grown * 2**20 / (many - few):,.0f}")


def main(argv: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=("pictures", "titles", "memory"))
    parser.add_argument("--num_pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--img2dataset", metavar="PYTHON")
    parser.add_argument("--sizes", type=int, nargs=2, default=[10_000, 200_000])
    parser.add_argument("--build_small", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.build_small:
        _build_small(
            arguments.build_small,
            os.environ["BENCHMARK_FOLDER"],
            os.environ.get("BENCHMARK_STORE"),
        )
        return
    if arguments.only in (None, "pictures"):
        measure_pictures(
            arguments.num_pictures, arguments.rounds, arguments.img2dataset
        )
    if arguments.only in (None, "titles"):
        measure_titles(arguments.rounds)
    if arguments.only in (None, "memory"):
        measure_memory(arguments.sizes)


if __name__ == "__main__":
    main()
