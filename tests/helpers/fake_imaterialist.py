"""Makes small look-alikes of iMaterialist Product 2019, with titles."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.helpers import fake_webvision

_BRANDS = ("神仙水", "可口可乐", "SK-II", "回力", "Nike")
_NOUNS = ("手提包", "运动鞋", "汽水", "雨伞", "茶壶", "面霜", "T恤", "台灯")
_ATTRIBUTES = ("红色", "夏季", "330ml", "韩版", "大号")


def make_fake_imaterialist(
    root,
    *,
    num_classes=8,
    per_class=6,
    val_per_class=2,
    arrangement="flat",
    titles="jsonl",
    suffix=".jpg",
    seed=0,
):
    """Writes a data set and its titles.

    Every title has the promotion words 包邮 and 新款. About 60 % of the
    pictures of train are there, about 8 % of the titles are missing and as
    many are empty; two titles are of unknown pictures.

    Args:
        root: a new folder (pathlib).
        arrangement: of the pictures: `flat`, `hashed` (ab/cd/) or `classes`.
        titles: `jsonl`, `csv` (lines end with CR LF) or `parquet`.
        suffix: of the picture files.
        seed: of everything.

    Returns:
        By record_id: `sku_id`, `title`, `split`, and `image` below the root
        or None.
    """
    chance = random.Random(seed)
    root.mkdir(parents=True)
    facts, rows = {}, []
    for name, count in (("train", per_class), ("val", val_per_class)):
        images = []
        for i in range(num_classes * count):
            label = i % num_classes
            bare = f"{chance.getrandbits(128):032x}"
            images.append(
                {
                    "id": f"{bare}.jpg",
                    "url": f"https://example.com/{bare}",
                    "class": label,
                }
            )
            image = None
            if name == "val" or chance.random() < 0.6:
                folder = {
                    "flat": "",
                    "hashed": f"{bare[:2]}/{bare[2:4]}/",
                    "classes": f"{label}/",
                }[arrangement]
                image = f"{folder}{bare}{suffix}"
                path = root / image
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(fake_webvision.draw(label, chance))
            title = ""
            kind = chance.random()
            if kind > 0.16:
                words = [chance.choice(_BRANDS), chance.choice(_ATTRIBUTES)]
                words += [_NOUNS[label % len(_NOUNS)], "新款", "包邮"]
                title = " ".join(words)
            if kind > 0.08:
                rows.append({"id": f"{bare}.jpg", "title": title})
            facts[f"{name}/{bare}"] = {
                "sku_id": str(label),
                "title": title,
                "split": "train" if name == "train" else "test",
                "image": image,
            }
        _write_json(root / f"{name}.json", {"images": images})
    _write_json(
        root / "test.json", {"images": [{"id": "00.jpg", "url": "https://"}]}
    )
    rows += [{"id": f"unknown{i}.jpg", "title": "新款"} for i in range(2)]
    chance.shuffle(rows)
    _write_titles(root / f"titles.{titles}", rows)
    return facts


def _write_titles(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, ["id", "title"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_json(path, value):
    path.write_text(json.dumps(value), "utf-8")
