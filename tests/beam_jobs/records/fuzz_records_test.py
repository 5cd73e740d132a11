"""A thousand damaged record lines and a thousand odd titles in one build."""

import collections
import dataclasses
import json
import pathlib
import random
import tempfile

import numpy as np
import tensorflow as tf
from PIL import Image

from beam_jobs.dataset import build
from beam_jobs.pipelines import runners
from beam_jobs.records import reject_reasons
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import records

_NUM_EACH = 1000
_ODD_VALUES = (
    None, "", " ", 0, -1, 1.5, float("nan"), 1e308, True, [], {}, [[]],
    {"a": 1}, "a\nb", "\x00", "\ud800", "\u202e", "x" * 10_000, "../../etc",
    "gs://nowhere/x", "file:///etc/passwd", "s3://", "://", 2**70, "测试", "🙂",
)  # fmt: skip
_ODD_PIECES = (
    "", " ", "\t", "\n", "\r", "\x00", "\x01", "\x07", "\u200b", "\u200d",
    "\u202e", "\u2028", "\ufeff", "\ufffd", "\ud800", "\udfff", "\U0010ffff",
    "é", "e\u0301", "ﬁ", "Ａ", "①", "½", "İ", "ß", "العربية", "हिन्दी", "ไทย",
    "한국어", "日本語", "红色包邮", "𠮷", "🙂", "👨‍👩‍👧",
    "&amp;", "&#0;", "&lt;b&gt;", "&#x110000;", "<script>", "%s", "{}",
    "'; drop table kept; --",
    "\\u0000",
    "SK-II", "3.5mm", "a" * 5000, "http://x.y/z?q=1", "1" * 400, "-", "—",
)  # fmt: skip


def _mutated_lines(rng):
    """Lines of JSON with fields changed, left out, or bytes flipped."""
    for i in range(_NUM_EACH):
        row = {
            "record_id": f"m{i}",
            "image": f"{i % 3}.png",
            "sku_id": f"sku-{i % 5}",
            "title": "red bag",
            "split": "train",
            "tags": ["a"],
            "box": [0, 0, 9, 9],
            "group": "g",
        }
        for _ in range(rng.randint(1, 2)):
            name = rng.choice(list(row))
            if rng.random() < 0.2:
                del row[name]
            else:
                row[name] = rng.choice(_ODD_VALUES)
        data = bytearray(json.dumps(row), "utf-8")
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        yield bytes(data).replace(b"\n", b" ")


def _odd_titles(rng):
    for i in range(_NUM_EACH):
        title = "".join(
            rng.choice(_ODD_PIECES) for _ in range(rng.randint(0, 8))
        )
        row = {
            "record_id": f"t{i}",
            "image": f"{i % 3}.png",
            "sku_id": "sku-0",
            "title": title,
        }
        yield json.dumps(row).encode()


class FuzzRecordsTest(tf.test.TestCase):
    def test_every_line_is_written_or_rejected(self):
        """If it fails, one line in a million ends the job, or disappears."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        pixels = np.random.default_rng(0)
        for i in range(3):
            noise = pixels.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.png")
        rng = random.Random(0)
        lines = [*_mutated_lines(rng), *_odd_titles(rng)]
        num_lines = sum(bool(line.strip()) for line in lines)
        (folder / "records.jsonl").write_bytes(b"\n".join(lines))
        generation = build.build(
            build.Inputs([str(folder / "records.jsonl")]),
            folder / "dataset",
            dataclasses.replace(
                config.with_preset(config.DatasetConfig, "demo"),
                word_vector_dim=4,
                word2vec_epochs=1,
                duplicates="keep",
            ),
            runners.make_pipeline_options(),
        )
        manifest = files.read_json(generation / "manifest.json")
        counts = manifest["counts"]
        self.assertEqual(counts["records_read"], num_lines)
        # Not splitlines: a title may hold other line breaks.
        lines = (generation / "rejects.jsonl").read_text("utf-8").split("\n")
        rejects = [json.loads(line) for line in lines if line]
        reasons = collections.Counter(each["reason"] for each in rejects)
        self.assertEqual(reasons, counts["rejected"])
        self.assertContainsSubset(reasons, reject_reasons.OF_DATASET)
        # Nothing was damaged in a way nobody foresaw.
        self.assertNotIn("unexpected_error", reasons)
        # No odd title is a reason to lose a picture.
        lost = [
            each for each in rejects if str(each["record_id"]).startswith("t")
        ]
        self.assertEqual(lost, [])
        ids = []
        for path in sorted(generation.glob("*.tfrecord")):
            for serialized in tf.data.TFRecordDataset(str(path)):
                example = tf.io.parse_single_example(
                    serialized, records.ALL_FEATURES
                )
                ids.append(example["record_id"].numpy())
        self.assertLen(ids, num_lines - len(rejects))
        self.assertLen(set(ids), len(ids))


if __name__ == "__main__":
    tf.test.main()
