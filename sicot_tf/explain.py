"""Shows which words of a title the attention trusts (Fig. 7 of the paper).

Writes a page with the picture, its words by falling weight, the three most
important green and the three least important red. Titles are tokenised by
the same function as in the Beam job.
"""

import argparse
import base64
import dataclasses
import html
import itertools
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sicot_tf import command_line
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.data import titles
from sicot_tf.pages import page
from sicot_tf.training import restoring
from sicot_tf.training import runs

_EXAMPLES = """
examples:
  # Eight records of the training set:
  python -m sicot_tf.explain --run_dir runs/cotrain

  # Your own titles:
  python -m sicot_tf.explain --run_dir runs/cotrain \\
      --title "new arrival cola soft drink 330ml free shipping"

  # Certain records:
  python -m sicot_tf.explain --run_dir runs/cotrain \\
      --record_id noto/1F34C fluent3d/1F34C
"""
_NUM_COLOURED = 3


@dataclasses.dataclass(frozen=True)
class ExplainedTitle:
    """A title with the weight of each of its words.

    `words` come by falling weight. Words outside the vocabulary, and known
    ones behind the first `max_words` of them, have no weight; they stand in
    `unread`, in the order of the title.
    """

    title: str
    words: list[str]
    weights: list[float]
    unread: list[str]
    # JPEG, or empty for a title alone.
    image: bytes = b""
    caption: str = ""


def explain_titles(
    run: runs.Run, raw_titles: Sequence[str]
) -> list[ExplainedTitle]:
    """Word weights of titles as they come.

    The model reads the words that training would have: `pad_word_ids`.

    Raises:
        ValueError: if the run has no semantic stream.
    """
    # Row 0 of the names is the padding's.
    word_ids = {word: i for i, word in enumerate(run.row_names["words"])}
    words = titles.tokenize(raw_titles)
    ids = [
        [word_ids.get(word, records.PADDING_ID) for word in each]
        for each in words
    ]
    attention = restoring.restore_attention(run)(
        {
            "title_ids": tf.stack(
                [
                    dataset.pad_word_ids(
                        tf.constant(each, tf.int32), run.model.max_words
                    )
                    for each in ids
                ]
            )
        },
        training=False,
    )
    return [
        _explain(title, title_words, title_ids, weights)
        for title, title_words, title_ids, weights in zip(
            raw_titles, words, ids, np.asarray(attention, np.float32)
        )
    ]


def explain_records(
    run: runs.Run, generation: pathlib.Path, record_ids: Sequence[str]
) -> list[ExplainedTitle]:
    """Word weights of records of the training set, with their pictures.

    Args:
        record_ids: which ones; empty: the first eight.

    Raises:
        ValueError: if a record is not there.
    """
    files = dataset.RecordFiles(generation, "train")
    wanted = list(record_ids)
    found = {}
    for index in range(len(files)):
        if len(found) == (len(wanted) or 8):
            break
        record = tf.io.parse_single_example(
            files.read(index), records.ALL_FEATURES
        )
        record_id = record["record_id"].numpy().decode()
        if not wanted or record_id in wanted:
            found[record_id] = record
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise ValueError(
            f"No training records {missing} in {generation}; its rejects.jsonl "
            "says whether they were left out."
        )
    chosen = [found[record_id] for record_id in wanted or found]
    explained = explain_titles(
        run, [each["title"].numpy().decode() for each in chosen]
    )
    names = {each["sku_id"]: each["sku_name"] for each in run.classes}
    return [
        dataclasses.replace(
            each,
            image=record["image"].numpy(),
            caption=_caption(record, names),
        )
        for each, record in zip(explained, chosen)
    ]


def write_page(
    path: pathlib.Path,
    explained: Sequence[ExplainedTitle],
    *,
    run_name: str,
    legend: Sequence[str] = (),
) -> None:
    """Writes the attention page; `legend` says how to read it."""
    rows = "".join(_html_row(each) for each in explained)
    body = (
        f"<p>{html.escape(' '.join(legend))}</p>"
        '<div class="scroll"><table><tr><th>picture</th><th>title</th>'
        f"<th>words and weights</th></tr>{rows}</table></div>"
    )
    page.write_page(
        path, title=f"{run_name}: what the attention trusts", body=body
    )


def make_legend(run: runs.Run) -> list[str]:
    """How to read the weights of a run, in sentences."""
    sentences = [
        f"Words by falling weight; the {_NUM_COLOURED} most important green, "
        f"the {_NUM_COLOURED} least important red.",
        "Grey words have no weight: the model does not know them, or they "
        f"stand behind the first {run.model.max_words} that it knows.",
        "The weights of each title's other words are numbers from 0 to 1 by "
        "themselves and have no fixed sum."
        if run.model.attention_activation == "sigmoid"
        else "The weights of a title's other words sum to 1, but for rounding.",
    ]
    if run.train.shuffle_titles:
        sentences.append(
            "This is a control (--shuffle_titles): it was trained on pictures "
            "with the titles of other records, not on the pairs shown here."
        )
    return sentences


def _explain(
    title: str,
    words: Sequence[str],
    word_ids: Sequence[int],
    weights: np.ndarray,
) -> ExplainedTitle:
    """Sorts a title's words by weight; equal weights keep their order."""
    is_known = np.array(word_ids, int) != records.PADDING_ID
    # As `dataset.pad_word_ids` cuts.
    is_read = is_known & (np.cumsum(is_known) <= len(weights))
    # The padding behind the last word has no word to stand beside it.
    pairs = zip(weights.tolist(), itertools.compress(words, is_read))
    read = sorted(pairs, key=lambda pair: -pair[0])
    return ExplainedTitle(
        title=title,
        words=[word for _, word in read],
        weights=[weight for weight, _ in read],
        unread=list(itertools.compress(words, ~is_read)),
    )


def _caption(record: dict[str, tf.Tensor], names: dict[str, str]) -> str:
    sku_id = record["sku_id"].numpy().decode()
    record_id = record["record_id"].numpy().decode()
    return f"{names.get(sku_id) or sku_id} ({record_id})"


def _html_row(explained: ExplainedTitle) -> str:
    """One table row: picture, title, coloured words."""
    picture = ""
    if explained.image:
        encoded = base64.b64encode(explained.image).decode()
        picture = (
            f'<img src="data:image/jpeg;base64,{encoded}" alt="" width="96">'
            f"<br><small>{html.escape(explained.caption)}</small>"
        )
    count = len(explained.words)
    spans = []
    for position, (word, weight) in enumerate(
        zip(explained.words, explained.weights)
    ):
        # In a short title the most important words keep their colour.
        kind = ""
        if position < _NUM_COLOURED:
            kind = "most"
        elif position >= count - _NUM_COLOURED:
            kind = "least"
        spans.append(
            f'<span class="word {kind}">{html.escape(word)}'
            f"<small>{weight:.3f}</small></span>"
        )
    spans += [
        f'<span class="word unread">{html.escape(word)}</span>'
        for word in explained.unread
    ]
    return (
        f"<tr><td>{picture}</td><td>{html.escape(explained.title)}</td>"
        f"<td>{' '.join(spans) or 'no words'}</td></tr>"
    )


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.explain`."""
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.explain",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run_dir",
        type=pathlib.Path,
        default=pathlib.Path("runs/cotrain"),
        help="a co-training run (default: %(default)s)",
    )
    parser.add_argument(
        "--title", nargs="+", default=[], help="titles to explain"
    )
    parser.add_argument(
        "--record_id",
        nargs="+",
        default=[],
        help="training records to explain (default: the first eight)",
    )
    parser.add_argument(
        "--dataset",
        type=pathlib.Path,
        help="another place of the dataset (default: where the run saw it)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        help="the page (default: RUN_DIR/attention.html)",
    )
    arguments = parser.parse_args(argv)
    run = runs.load(arguments.run_dir)
    explained, legend = [], make_legend(run)
    if arguments.title:
        explained += explain_titles(run, arguments.title)
    if arguments.record_id or not arguments.title:
        generation = generations.resolve_generation(
            arguments.dataset or pathlib.Path(run.dataset["path"])
        )
        explained += explain_records(run, generation, arguments.record_id)
        if generation.name != run.dataset["generation"]:
            legend.append(
                f"The pictures are of generation {generation.name}; the run "
                f"was trained on {run.dataset['generation']}."
            )
    output = arguments.output or arguments.run_dir / "attention.html"
    write_page(output, explained, run_name=run.path.name, legend=legend)
    for each in explained:
        pairs = zip(each.words, each.weights)
        words = [f"{word} {weight:.3f}" for word, weight in pairs]
        words += [f"({word})" for word in each.unread]
        print(f"{each.title}\n  {' '.join(words) or 'no words'}")
    print(f"Attention page: {output}")


if __name__ == "__main__":
    main()
