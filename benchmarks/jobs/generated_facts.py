"""Generated facts of stored records: what the first pipeline leaves behind.

For `global_stage`. All columns are made by NumPy and Arrow, a part at a time,
so that twenty million facts take minutes. Of the records

    1 %    have the id of an earlier record
    4 %    have the picture of an earlier record, a quarter in one class
    5 %    have nearly the picture of an earlier record
    10 %   are in a group of about five
    3 %    have a given split

SKU ids are long-tailed (a few of thousands of records, most of one to ten) and
words follow Zipf's law, one title in ten with a word of its own.
"""

import concurrent.futures
import functools
import multiprocessing
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.dataset.steps import parts

_NUM_WORDS = 200_000
_COPIES = {"ids": 0.01, "pictures": 0.04, "near": 0.05}


def write_facts(
    folder: pathlib.Path, num_facts: int, part_facts: int, processes: int = 2
) -> None:
    """Writes `part-*.parquet` of `part_facts` records each."""
    folder.mkdir(parents=True)
    first_rows = range(0, num_facts, part_facts)
    write = functools.partial(_write_part, folder, num_facts, part_facts)
    with concurrent.futures.ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn")
    ) as pool:
        for _ in pool.map(write, first_rows, chunksize=64):
            pass


def _write_part(
    folder: pathlib.Path, num_facts: int, part_facts: int, first: int
) -> None:
    rows = np.arange(first, min(first + part_facts, num_facts))
    part = first // part_facts
    rng = np.random.default_rng(part)
    # A copy takes after an earlier record, wherever that is.
    earlier = (rows * rng.random(len(rows))).astype(np.int64)
    kinds = rng.random(len(rows))
    ends = np.cumsum(list(_COPIES.values()))
    ids = np.where(kinds < ends[0], earlier, rows)
    of_copy = (kinds >= ends[0]) & (kinds < ends[1])
    pictures = np.where(of_copy, earlier, rows)
    alike = np.where((kinds >= ends[0]) & (kinds < ends[2]), earlier, rows)
    hashes = _image_hashes(alike)
    near = (kinds >= ends[1]) & (kinds < ends[2])
    bits = rng.integers(0, 64, (2, len(rows)), np.uint64)
    hashes ^= np.where(near, np.uint64(1) << bits, np.uint64(0))
    same_class = of_copy & (rng.random(len(rows)) < 0.25)
    words = _words(rows, rng)
    jpegs = parts.file_key(part, f"{_mix(rows[:1], 0)[0]:016x}", "jpegs")
    lengths = _mix(pictures, 1) % 20_000 + 10_000
    splits = np.digitize(rng.random(len(rows)), [0.01, 0.02, 0.03])
    columns = {
        "row": rows,
        "record_id": _names("shop/", ids),
        "sku_id": _names(
            "sku-", _sku_numbers(np.where(same_class, earlier, rows), num_facts)
        ),
        "sku_name": pa.nulls(len(rows), pa.string()),
        "title": pc.binary_join(words, " "),
        "words": words,
        "source": pa.array(["shop"] * len(rows)),
        "split": pa.array(["test", "val", "train", None]).take(splits),
        "group": pc.if_else(
            rng.random(len(rows)) < 0.1,
            _names("session ", _mix(rows, 2) % max(1, num_facts // 50)),
            None,
        ),
        "jpegs": pa.array([jpegs] * len(rows)),
        "offset": np.cumsum(lengths) - lengths,
        "length": lengths,
        "sha256": _digests(pictures),
        "image_hash_high": hashes[0],
        "image_hash_low": hashes[1],
        "split_hash": _mix(ids, 3),
        "order_hash": _mix(ids, 4),
    }
    table = pa.table(
        [
            pa.array(columns[field.name]).cast(field.type)
            for field in parts.FACTS_SCHEMA
        ],
        parts.FACTS_SCHEMA,
    )
    pq.write_table(table, folder / parts.facts_key(part), compression="zstd")


def _mix(numbers: np.ndarray, stream: int) -> np.ndarray:
    """Random uint64 of whole numbers, the same wherever they stand.

    The finaliser of SplitMix64.
    """
    x = numbers.astype(np.uint64) + np.uint64(stream << 40)
    x *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def _uniform(numbers: np.ndarray, stream: int) -> np.ndarray:
    return (_mix(numbers, stream) >> np.uint64(11)) / 2**53


def _names(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(
        prefix, pa.array(numbers).cast(pa.string()), ""
    )


def _sku_numbers(rows: np.ndarray, num_facts: int) -> np.ndarray:
    """Long-tailed: SKU k of n / 8 has about n / k ** 0.7 records."""
    places = _uniform(rows, 5) ** (1 / 0.3)
    return (places * max(1, num_facts // 8)).astype(np.int64)


def _digests(pictures: np.ndarray) -> pa.Array:
    content = np.stack([_mix(pictures, 6 + i) for i in range(4)], axis=1)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(pictures), [None, pa.py_buffer(content.tobytes())]
    )


def _image_hashes(pictures: np.ndarray) -> np.ndarray:
    """Bits of 128 waves whose amplitude is above one level.

    As `stored_images.perceptual_hashes` of photos has it: finer waves are
    weaker, those of colour weaker still, and pictures differ in contrast.

    Returns:
        `[2, n]` uint64.
    """
    # Brightness 96 from coarse to fine, then both colour differences.
    scales = np.concatenate([40 / np.arange(1, 97), 8 / np.arange(1, 33)])
    contrasts = 4 ** (2 * _uniform(pictures, 10) - 0.5)
    hashes = np.zeros((2, len(pictures)), np.uint64)
    for bit, scale in enumerate(scales):
        # Of a logistic distribution, which is had without a table.
        uniform = _uniform(pictures, 11 + bit)
        limit = 1 / (1 + np.exp(-1 / (scale * contrasts)))
        hashes[bit // 64] |= (uniform > limit).astype(np.uint64) << np.uint64(
            63 - bit % 64
        )
    return hashes


def _words(rows: np.ndarray, rng: np.random.Generator) -> pa.ListArray:
    counts = rng.integers(4, 17, len(rows))
    ends = np.concatenate([[0], np.cumsum(counts)])
    # Zipf's law with an exponent of one.
    ranks = np.exp(rng.random(ends[-1]) * np.log(_NUM_WORDS)).astype(np.int64)
    own = rng.random(len(rows)) < 0.1
    ranks[ends[:-1][own]] = _NUM_WORDS + rows[own]
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), _names("word", ranks)
    )
