"""Makes small look-alikes of WebVision 2.0 and 1.0.

    make_fake_webvision(root) -> the record each line of the lists stands for

They have the traps of the real one: JSON rows in shuffled order and counted
from 1, pictures that were never downloaded or are truncated, empty titles,
HTML entities, tags as text or list, duplicates.
"""

import html
import io
import json
import random

from PIL import Image
from PIL import ImageDraw

_WORDS = (
    "tench, Tinca tinca",
    "handbag, pocketbook, purse",
    "running shoe",
    "cola",
    "umbrella",
    "teapot",
    "violin, fiddle",
    "sunglasses, dark glasses, shades",
    "face powder",
    "lipstick, lip rouge",
    "sweatshirt",
    "water bottle",
    "table lamp",
    "wallet, billfold",
    "running suit",
    "backpack",
)
_FILLERS = (
    "new",
    "cheap",
    "best",
    "Zürich",
    "新款",
    "пример",
    "👜",
    "for sale",
)
_ENTITIES = ("Marks & Spencer", 'the "real" one', "size < 40")


def make_fake_webvision(
    root,
    *,
    version=2,
    arrangement="one_folder",
    num_classes=12,
    queries_per_class=2,
    sources=("google", "flickr"),
    largest_query=24,
    val_per_class=5,
    seed=0,
):
    """Writes a data set.

    Args:
        root: a new folder (pathlib).
        version: 1 or 2: digits of the query folders, form of the tags.
        arrangement: `one_folder`, `development_kit` (meta/,
            train_images_256/) or `resized` (google_images_resized/,
            google_json/).
        largest_query: pictures of the first query; later ones have fewer, as
            Zipf's law has it.
        seed: of everything.

    Returns:
        By record_id: `sku_id`, `title`, `description`, `tags` (a list),
        `split`, `image` (below root), and `state`: `good`, `missing` or
        `truncated`.
    """
    chance = random.Random(seed)
    facts = {}
    info = root / "info"
    info.mkdir(parents=True)
    ids = [f"n{1440764 + 1009 * i:08d}" for i in range(num_classes)]
    _write(
        info / "synsets.txt",
        [f"{ids[i]} {_WORDS[i % len(_WORDS)]}" for i in range(num_classes)],
    )
    folders = {
        "one_folder": ("{}", "{}", "val_images_resized"),
        "development_kit": (
            "train_images_256/{}",
            "meta/{}",
            "val_images_256",
        ),
        "resized": ("{}_images_resized", "{}_json", "val_images_resized"),
    }[arrangement]
    query_digits = 5 if version == 2 else 4

    for source in sources:
        images, metadata = (each.format(source) for each in folders[:2])
        lines, meta_lines = [], []
        for query in range(num_classes * queries_per_class):
            label = query % num_classes
            name = f"q{query + 1:0{query_digits}d}"
            size = max(2, largest_query // (query + 1))
            rows, entries = _make_query(
                root / images / name, label, size, source, version, chance
            )
            for (file_name, state), entry in zip(rows, entries, strict=True):
                facts[f"{source}/{name}/{file_name}"] = {
                    "sku_id": ids[label],
                    "split": "train",
                    "image": f"{images}/{name}/{file_name}",
                    "state": state,
                    "title": entry.get("title", ""),
                    "description": entry.get("description", ""),
                    "tags": entry.get("tags", []),
                }
            # The lists are in another order than the JSON file.
            order = list(range(size))
            chance.shuffle(order)
            for i in order:
                lines.append(f"{source}/{name}/{rows[i][0]} {label}")
                meta_lines.append(f"{source}/{name}.json {i + 1}")
            path = root / metadata / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(entries), "utf-8")
        _write(info / f"train_filelist_{source}.txt", lines)
        _write(info / f"train_meta_list_{source}.txt", meta_lines)

    val = root / folders[2]
    val.mkdir(parents=True)
    lines = []
    for i in range(num_classes * val_per_class):
        label = i % num_classes
        file_name = f"val{i + 1:06d}.jpg"
        (val / file_name).write_bytes(draw(label, chance))
        lines.append(f"{file_name} {label}")
        facts[f"val/{file_name}"] = {
            "sku_id": ids[label],
            "split": "test",
            "image": f"{folders[2]}/{file_name}",
            "state": "good",
            "title": "",
            "description": "",
            "tags": [],
        }
    _write(info / "val_filelist.txt", lines)
    # One column: its labels were never published.
    _write(info / "test_filelist.txt", ["test000001.jpg", "test000002.jpg"])
    return facts


def _make_query(folder, label, size, source, version, chance):
    """Pictures of a query: file names with states, and JSON entries."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, entries = [], []
    for i in range(size):
        image_id = f"{chance.getrandbits(48):012x}"
        rows.append((f"{image_id}.jpg", _write_picture(folder, i, chance)))
        (folder / "new.jpg").rename(folder / rows[-1][0])
        if rows[-1][1] == "missing":
            (folder / rows[-1][0]).unlink()
        entry = {"id": image_id, "description": _words(label, chance, 6)}
        # Absent or empty.
        if chance.random() > 0.04:
            full = chance.random() > 0.04
            entry["title"] = _words(label, chance, 4) if full else ""
        if source == "google":
            entry |= {"url": f"https://example.com/{image_id}", "rank": i}
        else:
            tags = chance.sample(_FILLERS, 3)
            entry["tags"] = tags if version == 1 else " ".join(tags)
        entries.append(entry)
    return rows, entries


def _write_picture(folder, index, chance):
    """Writes new.jpg; returns its state."""
    data = draw(index % 7, chance)
    state = "good"
    kind = chance.random()
    if kind < 0.05:
        state = "missing"
    elif kind < 0.08:
        state, data = "truncated", data[: len(data) // 2]
    elif kind < 0.16 and (others := sorted(folder.glob("*.jpg"))):
        # A duplicate of another: the same bytes, compressed anew, or flipped.
        data = chance.choice(others).read_bytes()
        try:
            picture = Image.open(io.BytesIO(data))
            picture.load()
            if kind > 0.13:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if kind > 0.10:
                data = _encode(picture)
        except OSError:
            state = "truncated"
    (folder / "new.jpg").write_bytes(data)
    return state


def draw(label, chance):
    """JPEG bytes of a shape in the colour of its class on a light pattern."""
    width, height = chance.randint(48, 96), chance.randint(48, 96)
    # Without a pattern all would be near-duplicates.
    pattern = bytes(chance.randint(150, 255) for _ in range(12 * 12 * 3))
    picture = Image.frombytes("RGB", (12, 12), pattern).resize((width, height))
    color = tuple((label * step + 40) % 180 for step in (37, 83, 131))
    left, top = chance.randint(2, width // 3), chance.randint(2, height // 3)
    box = (left, top, width - left // 2, height - top // 2)
    pen = ImageDraw.Draw(picture)
    shape = (pen.ellipse, pen.rectangle, pen.rounded_rectangle)[label % 3]
    shape(box, fill=color)
    return _encode(picture)


def _encode(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def _words(label, chance, count):
    """A title: a word of the class among others, some of it HTML."""
    words = [*chance.sample(_FILLERS, count - 1), chance.choice(_ENTITIES)]
    words.insert(
        chance.randint(0, count), _WORDS[label % len(_WORDS)].split(",")[0]
    )
    return html.escape(" ".join(words))


def _write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
