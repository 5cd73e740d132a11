"""The statistics of a dataset as one HTML page."""

import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.records import reject_reasons
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

_TEMPLATE = pathlib.Path(__file__).with_name("statistics.html.jinja")


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
        statistics: of `long_tail.describe`, with `generation`.
        most_frequent: words with `word`, `head` and `tail` (occurrences).
        sampled_classes: `sku_id`, `sku_name`, `train`, `head` (bool) and
            `records` (with `record_id` and `thumbnail`) of some classes.
        examples: split to some records.
        plots: folder of the SVG files.
    """
    page.write_page(
        path,
        template=_TEMPLATE,
        title=f"Dataset {statistics['generation']}",
        statistics=statistics,
        findings=findings(statistics),
        table_1=_table_1(statistics["table_1"]),
        plots=plots,
        splits=list(records.SPLITS),
        images_of_a_class=_quantile_rows(
            statistics["splits"][split]["records_per_class"]
            for split in records.SPLITS
        ),
        most_frequent=most_frequent,
        highest=max((w["head"] + w["tail"] for w in most_frequent), default=1),
        titles=_title_rows(
            [statistics["splits"][split] for split in records.SPLITS]
        ),
        pictures=_quantile_rows(
            statistics["pictures"][key]["quantiles"]
            for key in ("shorter_side", "longer_side", "kilobytes")
        ),
        sampled_classes=sampled_classes,
        examples=examples,
        rejected=_reject_rows(statistics["rejected"]),
        settings=[
            *((each["name"], each["sha256"]) for each in statistics["inputs"]),
            *statistics["vocabulary_selection"].items(),
            *statistics["config"].items(),
        ],
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


def _table_1(table: Mapping[str, Any]) -> list[list[str]]:
    """This dataset above those of the paper."""
    ours = ("classes", "train_images", "test_images", "vocabulary")
    lines = []
    for name, *numbers in (
        ["This dataset", *(table[key] for key in (*ours, "head_threshold"))],
        *_PAPER_ROWS,
    ):
        num_classes, num_train, num_test, *_ = numbers
        cells = [*map(pieces.number, numbers)]
        for images in (num_train, num_test):
            cells.append(f"{images / max(1, num_classes):,.1f}")
        lines.append([name, *cells])
    return lines


def _title_rows(splits: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """What the titles of each split are like."""
    rows = [
        [name, *map(show, splits)]
        for name, show in (
            ("titles", lambda each: pieces.number(each["records"])),
            (
                "without known words",
                lambda each: pieces.number(each["titles_without_words"]),
            ),
            (
                "words per title",
                lambda each: pieces.number(each["words_per_title"]["mean"]),
            ),
            (
                "unknown words",
                lambda each: pieces.percent(each["unknown_word_rate"]),
            ),
        )
    ]
    for script in sorted({kind for each in splits for kind in each["scripts"]}):
        shares = (
            each["scripts"].get(script, 0) / max(1, each["records"])
            for each in splits
        )
        rows.append([f"script: {script}", *map(pieces.percent, shares)])
    return rows


def _quantile_rows(
    distributions: Iterable[Mapping[str, int]],
) -> list[list[str]]:
    """A column of quantiles for each of several distributions."""
    columns = list(distributions)
    names = {"0": "smallest", "50": "median", "100": "largest"}
    return [
        [
            names.get(each, f"{each} %"),
            *(pieces.number(column.get(each)) for column in columns),
        ]
        for each in max(columns, key=len)
    ]


def _reject_rows(rejected: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """The most frequent reason first."""
    return [
        (
            reason,
            pieces.number(times),
            reject_reasons.OF_DATASET.get(reason, ""),
        )
        for reason, times in sorted(
            rejected.items(), key=lambda pair: (-pair[1], pair[0])
        )
    ]
