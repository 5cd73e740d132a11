"""How much weight the attention leaves to known words of promotion.

"free shipping" tells nothing of a product. Where such words are known, as in
the generated shop, what the attention has learned of them is a number: their
weight against the one that uniform weights would give them.
"""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.data import titles
from sicot_tf.training import runs

# Training titles that are measured, spread over all of them.
_NUM_TITLES = 10_000
_BATCH_SIZE = 1024
_NUM_RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)


@dataclasses.dataclass(frozen=True)
class RelativeWeight:
    """Weight of known promotion words over that of uniform weights.

    Attributes:
        mean: over titles; 1: as if all words of a title weighed the same.
        low: of its 95 % interval, a bootstrap over titles.
        high: of the same.
        num_titles: those that hold such words and others.
    """

    mean: float
    low: float
    high: float
    num_titles: int

    def sentence(self) -> str:
        """What a reader has to know of it."""
        return (
            f"Known words of promotion have {self.mean:.2f} times the weight "
            f"that uniform weights would give them [{self.low:.2f}, "
            f"{self.high:.2f}]: mean over {self.num_titles:,} training titles "
            "that hold such words and others, 95 % interval over titles."
        )


def read(path: pathlib.Path) -> frozenset[str]:
    """The words of a file, as a vocabulary has them.

    Raises:
        OSError: if there is no such file.
        ValueError: if it holds no word.
    """
    lines = path.read_text("utf-8").splitlines()
    words = frozenset(word for each in titles.tokenize(lines) for word in each)
    if not words:
        raise ValueError(
            f"Expected words of promotion in {path}, one a line, found none."
        )
    return words


def measure(
    attention: keras.Model,
    run: runs.Run,
    generation: pathlib.Path,
    noise_words: frozenset[str],
) -> RelativeWeight:
    """The weight of known promotion words in training titles.

    Args:
        attention: the semantic stream of the run, from ids to weights.
        generation: whose titles are read, without their pictures.

    Raises:
        ValueError: if no title holds such words beside others.
    """
    word_ids = _read_titles(run, generation)
    weights = [
        attention({"title_ids": word_ids[i : i + _BATCH_SIZE]}, training=False)
        for i in range(0, len(word_ids), _BATCH_SIZE)
    ]
    is_noise = np.isin(run.row_names["words"], sorted(noise_words))
    ratios = _relative_weights(
        np.concatenate(weights).astype(np.float64),
        word_ids != records.PADDING_ID,
        is_noise[word_ids],
    )
    if not len(ratios):
        raise ValueError(
            f"Expected words of promotion that titles of {generation} hold "
            f"beside others, received {sorted(noise_words)[:8]}. Give the "
            "words as the run's vocabulary.txt has them."
        )
    chance = np.random.default_rng(0)
    drawn = [
        chance.choice(ratios, len(ratios)).mean() for _ in range(_NUM_RESAMPLES)
    ]
    low, high = np.quantile(drawn, _QUANTILES)
    return RelativeWeight(
        float(ratios.mean()), float(low), float(high), len(ratios)
    )


def _read_titles(run: runs.Run, generation: pathlib.Path) -> np.ndarray:
    """`[num_titles, max_words]` int32, as training reads them, without ids
    that the run does not know."""
    files = dataset.RecordFiles(generation, "train")
    numbers = np.linspace(0, len(files) - 1, min(_NUM_TITLES, len(files)))
    feature = {"word_ids": records.TRAINING_FEATURES["word_ids"]}
    examples = files.read_many(numbers.astype(np.int64))
    found = tf.io.parse_example(examples, feature)["word_ids"]
    # Another generation numbers its words in another way.
    run_ids = {word: i for i, word in enumerate(run.row_names["words"])}
    words = runs.read_row_names(generation)["words"]
    table = np.array(
        [run_ids.get(word, records.PADDING_ID) for word in words], np.int32
    )
    found = tf.ragged.map_flat_values(lambda ids: tf.gather(table, ids), found)
    found = tf.ragged.boolean_mask(found, found != records.PADDING_ID)
    shape = [None, run.model.max_words]
    return found.to_tensor(records.PADDING_ID, shape=shape).numpy()


def _relative_weights(
    weights: np.ndarray, is_word: np.ndarray, is_noise: np.ndarray
) -> np.ndarray:
    """Share of a title's weight over share of its words, for noise words.

    Args:
        weights: `[num_titles, max_words]`, not negative.
        is_word: the same shape, where there is no padding.
        is_noise: the same shape, within `is_word`.

    Returns:
        `[n]`, of the titles that hold both kinds of words: in others every
        weight is as uniform.
    """
    num_noise, num_words = is_noise.sum(1), is_word.sum(1)
    has_both = (num_noise > 0) & (num_noise < num_words)
    # A sigmoid's weights may all be 0.
    total = np.maximum((weights * is_word).sum(1), np.finfo(np.float64).tiny)
    share = (weights * is_noise).sum(1) / total
    return share[has_both] * num_words[has_both] / num_noise[has_both]
