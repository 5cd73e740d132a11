"""The statistics of a dataset as one HTML page."""

import html
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.records import raw_records
from sicot_tf.data import records
from sicot_tf.pages import page
from sicot_tf.pages import pieces

# Table 1 and the boundaries of section 4.1 of the paper; it calls the parts
# it was tested on test sets and has no validation sets.
_PAPER_ROWS = (
    ("iMaterialist Product 2019", 2_019, 440_438, 9_986, 175_208, 200),
    ("WebVision 2.0, selected 1k", 1_000, 2_230_968, 59_040, 162_541, 5_000),
    ("Alibaba, 34k SKUs", 34_258, 2_305_853, 171_290, 19_762, 100),
    ("Alibaba, 1M SKUs", 998_131, 55_776_960, 7_675_690, 345_656, 200),
)

_BUILT = "How it was built"

# Of a title among the examples; some are whole descriptions.
_SHOWN_CHARACTERS = 500
_SHOWN_WORDS = 100


def write_page(
    path: pathlib.Path,
    *,
    statistics: Mapping[str, Any],
    most_frequent: Sequence[Mapping[str, Any]],
    sampled_classes: Sequence[Mapping[str, Any]],
    examples: Mapping[str, Sequence[Mapping[str, Any]]],
    plots: pathlib.Path,
) -> None:
    """Writes the page; it loads nothing from elsewhere.

    Args:
        statistics: of `long_tail_statistics.describe`, with `generation`.
        most_frequent: words with `word`, `head` and `tail` (occurrences).
        sampled_classes: `sku_id`, `sku_name`, `train`, `head` (bool) and
            `records` (with `record_id` and `thumbnail`) of some classes.
        examples: split to some records.
        plots: folder of the SVG files.
    """
    sections = [
        ("The numbers of the paper's Table 1", _table_1(statistics)),
        ("Classes: the long tail", _classes(statistics, plots)),
        ("Images against words", _balance(plots)),
        ("Words", _words(statistics, most_frequent)),
        ("Titles", _titles(statistics, plots)),
        ("Pictures", _pictures(statistics["pictures"], plots)),
        ("Contact sheet", _contact_sheet(sampled_classes)),
        ("Example records", _examples(examples)),
        ("Rejected records", _rejects(statistics)),
        (_BUILT, _settings(statistics)),
    ]
    page.write_page(
        path,
        title=f"Dataset {statistics['generation']}",
        body=pieces.STYLE
        + _tiles(statistics)
        + _findings(statistics)
        + "".join(f"<h2>{name}</h2>\n{body}" for name, body in sections),
    )


def findings(statistics: Mapping[str, Any]) -> list[str]:
    """The paper's two observations (section 1), as this dataset has them."""
    classes, words = statistics["classes"], statistics["words"]
    support = statistics["tail_support"]
    if not words["occurrences"]:
        return ["No title has a word: pictures are all there is to learn from."]
    more = "more" if words["gini"] < classes["gini"] else "not more"
    first = (
        f"Images over classes: Gini {classes['gini']:.2f}; words over the "
        f"vocabulary: Gini {words['gini']:.2f}. So words are {more} balanced "
        "than images here (the paper finds them much more balanced)."
    )
    if support["occurrences_of_its_words"] is not None:
        images = pieces.count(support["images_of_its_class"], "image")
        times = pieces.count(support["occurrences_of_its_words"], "time")
        first += (
            " Half of the tail's training images are in classes of at most "
            f"{images}, while half of the words in their titles occur at "
            f"least {times} in the training titles."
        )
    second = (
        f"{pieces.percent(words['share_of_vocabulary'])} of the "
        "vocabulary is shared by head and tail classes (paper: about 12 %). "
        "These words make up "
        f"{pieces.percent(words['share_of_tail_occurrences'])} of the "
        "words in titles of tail classes."
    )
    return [first, second]


def _tiles(statistics: Mapping[str, Any]) -> str:
    table, classes = statistics["table_1"], statistics["classes"]
    words, number = statistics["words"], pieces.number
    tiles = [
        (number(table["train_images"]), "training images"),
        (number(table["val_images"]), "validation images"),
        (number(table["test_images"]), "test images"),
        (number(table["vocabulary"]), "words in the vocabulary"),
        (number(table["classes"]), "classes"),
        (f"{number(classes['imbalance'])} : 1", "largest to smallest class"),
        (
            pieces.percent(classes["head"]["share_of_classes"]),
            f"of the classes are head ({number(table['head_threshold'])} "
            "training images or more)",
        ),
        (
            pieces.percent(words["share_of_vocabulary"]),
            "of the words are shared by head and tail",
        ),
    ]
    cells = (
        f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>\n'


def _findings(statistics: Mapping[str, Any]) -> str:
    return "".join(
        f'<p class="finding">{html.escape(each)}</p>\n'
        for each in findings(statistics)
    )


def _table_1(statistics: Mapping[str, Any]) -> str:
    table = statistics["table_1"]
    ours = ("classes", "train_images", "test_images", "vocabulary")
    rows = [
        ["This dataset", *(table[key] for key in (*ours, "head_threshold"))],
        *_PAPER_ROWS,
    ]
    lines = []
    for name, *numbers in rows:
        num_classes, num_train, num_test, *_ = numbers
        cells = [*map(pieces.number, numbers)]
        for images in (num_train, num_test):
            cells.append(f"{images / max(1, num_classes):,.1f}")
        lines.append([name, *cells])
    header = ["", "classes", "training images", "test images", "vocabulary"]
    header += ["head from", "train / class", "test / class"]
    return pieces.table(header, lines, "compared") + pieces.note(
        "Head from: training images of the smallest head class."
    )


def _classes(statistics: Mapping[str, Any], plots: pathlib.Path) -> str:
    classes, splits = statistics["classes"], statistics["splits"]
    groups = [classes["head"], classes["tail"]]
    number, percent = pieces.number, pieces.percent
    group_rows = [
        [name, *(show(each[key]) for each in groups)]
        for name, key, show in (
            ("classes", "classes", number),
            ("share of classes", "share_of_classes", percent),
            ("training images", "train_images", number),
            ("share of images", "share_of_train_images", percent),
        )
    ]
    sizes = [splits[split]["records_per_class"] for split in records.SPLITS]
    return (
        pieces.beside(
            pieces.figure("long_tail", "The long tail (Fig. 6).", plots),
            pieces.table(["", "head", "tail"], group_rows),
        )
        + pieces.beside(
            pieces.figure(
                "class_sizes", "Classes by number of training images.", plots
            ),
            _quantiles("images of a class", records.SPLITS, sizes),
        )
        + pieces.note(
            pieces.count(classes["without_training_images"], "class", "es")
            + " without training images. The paper tests on about equally "
            "many images of each class."
        )
    )


def _balance(plots: pathlib.Path) -> str:
    return pieces.figure(
        "balance",
        "Gini coefficient: 0 if all are equal, 1 if one has everything. The "
        "further a curve hangs below the dotted line, the fewer have the most.",
        plots,
    ) + pieces.note(
        "Counted are classes with training images and words that occur in "
        "training titles. The paper does not say how it measured balance; it "
        "drops the most and least frequent words first, which flattens the "
        "curve of words."
    )


def _words(
    statistics: Mapping[str, Any], most_frequent: Sequence[Mapping[str, Any]]
) -> str:
    words, number = statistics["words"], pieces.number
    parts = [
        ("head", "in titles of head classes only", words["head_only"]),
        ("both", "shared", words["shared"]),
        ("tail", "in titles of tail classes only", words["tail_only"]),
        ("rest", "in no training title", words["unused"]),
    ]
    highest = max((w["head"] + w["tail"] for w in most_frequent), default=1)
    ranking = ""
    for each in most_frequent:
        word = html.escape(each["word"])
        bar = pieces.bar(
            [("head", each["head"]), ("tail", each["tail"])], highest
        )
        ranking += (
            f'<li><span title="{word}">{word}</span>{bar}'
            f"<em>{number(each['head'] + each['tail'])}</em></li>\n"
        )
    return (
        pieces.bar([(k, n) for k, _, n in parts], words["vocabulary"])
        + pieces.key([(k, f"{number(n)} {name}") for k, name, n in parts])
        + pieces.note(
            f"{number(words['vocabulary'])} words occur "
            f"{number(words['occurrences'])} times in training titles; the "
            "shared words are "
            f"{pieces.percent(words['share_of_occurrences'])} of that."
        )
        + "<h3>The most frequent words</h3>\n"
        + pieces.key([("head", "head classes"), ("tail", "tail classes")])
        + f'<ol class="ranking">{ranking}</ol>\n'
    )


def _titles(statistics: Mapping[str, Any], plots: pathlib.Path) -> str:
    splits = [statistics["splits"][split] for split in records.SPLITS]
    number, percent = pieces.number, pieces.percent
    rows = [
        ["titles", *(number(each["records"]) for each in splits)],
        [
            "without known words",
            *(number(each["titles_without_words"]) for each in splits),
        ],
        [
            "words per title",
            *(number(each["words_per_title"]["mean"]) for each in splits),
        ],
        [
            "unknown words",
            *(percent(each["unknown_word_rate"]) for each in splits),
        ],
    ]
    for kind in sorted({kind for each in splits for kind in each["scripts"]}):
        shares = (
            each["scripts"].get(kind, 0) / max(1, each["records"])
            for each in splits
        )
        rows.append([f"script: {kind}", *map(percent, shares)])
    letters = statistics["letters"]
    total = max(1, sum(letters.values()))
    shares = ", ".join(
        f"{script} {percent(letters[script] / total)}" for script in letters
    )
    return pieces.beside(
        pieces.figure("title_lengths", "Lengths of the titles.", plots),
        pieces.table(["", *records.SPLITS], rows),
    ) + pieces.note(
        "Known words are those of the vocabulary. Training records hold no "
        "others; what was left out of them stands under "
        f"“{_BUILT}”. Letters of all titles: {shares}."
    )


def _pictures(pictures: Mapping[str, Any], plots: pathlib.Path) -> str:
    columns = {
        "shorter_side": "shorter side, pixels",
        "longer_side": "longer side, pixels",
        "kilobytes": "size, kB",
    }
    note = ""
    if pictures["unreadable"]:
        text = pieces.count(pictures["unreadable"], "picture")
        note = pieces.note(f"{text} without a readable header.")
    return (
        pieces.figure(
            "picture_sizes", "Pictures of all splits, as stored.", plots
        )
        + _quantiles(
            "",
            list(columns.values()),
            [pictures[key]["quantiles"] for key in columns],
        )
        + note
    )


def _quantiles(
    name: str,
    columns: Sequence[str],
    quantiles: Sequence[Mapping[str, int]],
) -> str:
    """A column of quantiles for each of several distributions."""
    percents = max(quantiles, key=len)
    rows = [
        [
            pieces.quantile(each),
            *(pieces.number(column.get(each)) for column in quantiles),
        ]
        for each in percents
    ]
    return pieces.table([name, *columns], rows)


def _contact_sheet(sampled_classes: Sequence[Mapping[str, Any]]) -> str:
    cards = []
    for each in sampled_classes:
        name = each["sku_name"] or each["sku_id"]
        pictures = "".join(
            pieces.image(row["thumbnail"], row["record_id"])
            for row in each["records"]
        )
        cards.append(
            f'<div class="of-{"head" if each["head"] else "tail"}">'
            f"<b>{html.escape(name)}</b><br><small>"
            f"{html.escape(each['sku_id'])}, "
            f"{pieces.count(each['train'], 'training image')}</small>"
            f"<br>{pictures}</div>"
        )
    return (
        pieces.note(
            "Some classes and some of their training images, drawn by seed."
        )
        + pieces.key([("head", "head class"), ("tail", "tail class")])
        + f'<div class="sheet">{"".join(cards)}</div>\n'
    )


def _examples(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = []
    for split in records.SPLITS:
        for each in examples.get(split, ()):
            words = " ".join(
                f'<span class="word{"" if known else " unread"}">'
                f"{html.escape(word)}</span>"
                for word, known in list(
                    zip(each["words"], each["known"], strict=True)
                )[:_SHOWN_WORDS]
            )
            picture = pieces.image(each["thumbnail"], each["record_id"])
            rows.append(
                f"<tr><td>{picture}"
                f"<td>{html.escape(each['record_id'])}<br><small>{split}, "
                f"class {html.escape(each['sku_id'])}</small>"
                f"<td>{html.escape(each['title'][:_SHOWN_CHARACTERS])}<td>{words}</tr>"
            )
    head = "<tr><th>picture<th>record<th>title<th>words (faint: unknown)</tr>"
    return (
        f'<div class="scroll"><table class="facts"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _rejects(statistics: Mapping[str, Any]) -> str:
    read, rejected = statistics["records_read"], statistics["rejected"]
    total = sum(rejected.values())
    text = f"{pieces.count(read, 'record')} read, {total:,} rejected"
    if total:
        text += (
            f" ({pieces.percent(total / read)}); each stands, with its "
            "reason, in rejects.jsonl"
        )
    rows = "".join(
        f"<tr><td>{html.escape(reason)}<td>{pieces.number(count)}<td>"
        + html.escape(raw_records.REJECT_REASONS.get(reason, ""))
        for reason, count in sorted(
            rejected.items(), key=lambda pair: (-pair[1], pair[0])
        )
    )
    head = "<tr><th>reason<th>records<th>meaning"
    table = f'<table class="facts"><thead>{head}</thead>{rows}</table>\n'
    return f"<p>{text}.</p>\n" + (table if rows else "")


def _settings(statistics: Mapping[str, Any]) -> str:
    rows = [
        *((each["name"], each["sha256"]) for each in statistics["inputs"]),
        *statistics["vocabulary_selection"].items(),
        *statistics["config"].items(),
    ]
    cells = "".join(
        f"<tr><td>{html.escape(str(name))}<td>{html.escape(str(value))}"
        for name, value in rows
    )
    return (
        "<details><summary>Record files, vocabulary, settings</summary>"
        f'<table class="facts">{cells}</table></details>\n'
    )
