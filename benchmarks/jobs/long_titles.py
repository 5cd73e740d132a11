"""What a build costs whose titles are long, over one with the same words.

Builds as many words in titles of 500 as in titles of 32 and prints the ratio
of the seconds, from the tokens to the word vectors (the rest of a build does
not know titles). A ratio of 1 is a cost in proportion to the words.

examples:
  python -m benchmarks.jobs.long_titles
  python -m benchmarks.jobs.long_titles --long 10000 --words 20000
"""

import argparse
import collections
import statistics
import time

import numpy as np

_SHORT = 32


def _seconds(num_words: int, words_of_a_title: int) -> float:
    """Seconds to split the titles into words and to train their vectors."""
    from beam_jobs.words import word_vectors
    from sicot_tf.data import titles

    numbers = np.random.default_rng(0).integers(0, 3000, num_words)
    texts = [
        " ".join(f"w{number}" for number in numbers[i : i + words_of_a_title])
        for i in range(0, num_words, words_of_a_title)
    ]
    started = time.perf_counter()
    words = titles.tokenize(texts)
    counts = collections.Counter(word for title in words for word in title)
    word_vectors.train_word2vec(
        words, sorted(counts), counts, dim=128, epochs=10, seed=0
    )
    return time.perf_counter() - started


def main() -> None:
    """Prints the ratio: median, lowest and highest of the rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--words", type=int, default=10_000, help="in all titles together"
    )
    parser.add_argument("--long", type=int, default=500, help="words a title")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    _seconds(_SHORT, _SHORT)
    short, ratios = [], []
    for _ in range(arguments.rounds):
        short.append(_seconds(arguments.words, _SHORT))
        ratios.append(_seconds(arguments.words, arguments.long) / short[-1])
    print(
        f"{arguments.words:,} words in titles of {_SHORT}: "
        f"{statistics.median(short):.2f} s"
    )
    print(
        f"titles of {arguments.long:,} over titles of {_SHORT}: "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}, {arguments.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
