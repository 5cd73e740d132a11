"""The attention page: which words of a title the model trusts (Fig. 7).

A picture, its words by falling weight, the three most important green and
the three least important red, or known words of promotion. Titles are
tokenised by the same function as in the Beam job.
"""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.data import titles
from sicot_tf.pages import page

_TEMPLATE = pathlib.Path(__file__).with_name("attention_page.html.jinja")
_NUM_COLOURED = 3
# Records that are explained if none is named.
_NUM_RECORDS = 8


@dataclasses.dataclass(frozen=True)
class Title:
    """A title, and the picture it belongs to if there is one."""

    text: str
    # JPEG.
    image: bytes = b""
    caption: str = ""
    # Where the record says that it comes from.
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a title.

    Attributes:
        times: how often the title repeats it.
        weight: of all of them together.
    """

    text: str
    times: int = 1
    weight: float = 0.0

    @property
    def label(self) -> str:
        """As the page shows it."""
        return f"{self.text} × {self.times}" if self.times > 1 else self.text


@dataclasses.dataclass(frozen=True)
class ExplainedTitle:
    """A title with the weight of each of its words.

    `words` come by falling weight. Words outside the vocabulary, and known
    ones behind the first `max_words` of them, have no weight; they stand in
    `unread`, in the order of the title.
    """

    title: Title
    words: list[Word]
    unread: list[Word]


def read_records(
    generation: pathlib.Path,
    record_ids: Sequence[str],
    sku_names: Mapping[str, str | None],
) -> list[Title]:
    """Titles of the training set with their pictures.

    Args:
        record_ids: which ones; empty: the first eight.
        sku_names: names of the products, by SKU id.

    Raises:
        ValueError: if a record is not there.
    """
    files = dataset.RecordFiles(generation, "train")
    found = {}
    for index in range(len(files)):
        if len(found) == (len(set(record_ids)) or _NUM_RECORDS):
            break
        record = tf.io.parse_single_example(
            files.read(index), records.ALL_FEATURES
        )
        record_id, sku_id, text, source = (
            record[name].numpy().decode()
            for name in ("record_id", "sku_id", "title", "source")
        )
        if not record_ids or record_id in record_ids:
            found[record_id] = Title(
                text,
                record["image"].numpy(),
                f"{sku_names.get(sku_id) or sku_id} ({record_id})",
                source,
            )
    missing = sorted(set(record_ids) - set(found))
    if missing:
        raise ValueError(
            f"No training records {missing} in {generation}; its rejects.jsonl "
            "says whether they were left out."
        )
    return [found[record_id] for record_id in record_ids or found]


def explain_titles(
    attention: keras.Model,
    row_names: Sequence[str],
    max_words: int,
    raw_titles: Sequence[Title],
) -> list[ExplainedTitle]:
    """Word weights of titles as they come.

    Args:
        attention: the semantic stream of a run, from ids to weights.
        row_names: its words in the order of their ids; 0 is the padding's.
        max_words: how many known words of a title it reads.
    """
    word_ids = {word: i for i, word in enumerate(row_names)}
    words = titles.tokenize([each.text for each in raw_titles])
    ids = [
        [word_ids.get(word, records.PADDING_ID) for word in each]
        for each in words
    ]
    # As in training.
    padded = [
        dataset.pad_word_ids(tf.constant(each, tf.int32), max_words)
        for each in ids
    ]
    weights = attention({"title_ids": tf.stack(padded)}, training=False)
    return [
        _explain(*each)
        for each in zip(raw_titles, words, ids, np.asarray(weights, np.float32))
    ]


def _explain(
    title: Title,
    words: Sequence[str],
    word_ids: Sequence[int],
    weights: np.ndarray,
) -> ExplainedTitle:
    """Sorts a title's words by weight; equal weights keep their order."""
    is_known = np.array(word_ids, int) != records.PADDING_ID
    # As `dataset.pad_word_ids` cuts.
    is_read = is_known & (np.cumsum(is_known) <= len(weights))
    # The padding behind the last word has no word to stand beside it.
    read = _group(itertools.compress(words, is_read), weights.tolist())
    return ExplainedTitle(
        title=title,
        words=sorted(read, key=lambda word: -word.weight),
        unread=_group(itertools.compress(words, ~is_read)),
    )


def _group(
    words: Iterable[str], weights: Iterable[float] = itertools.repeat(0.0)
) -> list[Word]:
    """Words in the order of their first places, repeated ones once."""
    times, sums = collections.Counter(), collections.Counter()
    for word, weight in zip(words, weights):
        times[word] += 1
        sums[word] += weight
    return [Word(word, times[word], sums[word]) for word in times]


def write_page(
    path: pathlib.Path,
    explained: Sequence[ExplainedTitle],
    *,
    run_name: str,
    legend: Sequence[str] = (),
    findings: Sequence[str] = (),
    noise_words: Collection[str] | None = None,
) -> None:
    """Writes the attention page.

    Args:
        legend: how to read it.
        findings: what was measured of many titles.
        noise_words: known words of promotion, which are red instead of the
            least important ones; None: they are not known.
    """
    page.write_page(
        path,
        template=_TEMPLATE,
        title=f"{run_name}: what the attention trusts",
        explained=explained,
        findings=findings,
        legend=legend,
        noise_words=noise_words,
        num_coloured=_NUM_COLOURED,
    )


def make_legend(
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    *,
    knows_noise_words: bool = False,
) -> list[str]:
    """How to read the weights of a run, in sentences."""
    sentences = [
        f"Words by falling weight; the {_NUM_COLOURED} most important green, "
        + (
            "but known words of promotion red."
            if knows_noise_words
            else f"the {_NUM_COLOURED} least important red."
        ),
        "Grey words have no weight: the model does not know them, or they "
        f"stand behind the first {model_config.max_words} that it knows.",
        "The weights of each title's other words are numbers from 0 to 1 by "
        "themselves and have no fixed sum."
        if model_config.attention_activation == "sigmoid"
        else "The weights of a title's other words sum to 1, but for rounding.",
    ]
    if model_config.title_encoder == "mean":
        sentences.append(
            "This model takes the mean of the words (--title_encoder mean): "
            "all words of a title weigh the same."
        )
    if train_config.shuffle_titles:
        sentences.append(
            "This is a control (--shuffle_titles): it was trained on pictures "
            "with the titles of other records, not on the pairs shown here."
        )
    return sentences
