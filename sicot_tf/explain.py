"""Shows which words of a title the attention trusts (Fig. 7 of the paper).

Writes a page with the picture, its words by falling weight, the three most
important green and the three least important red. Titles are tokenised by
the same function as in the Beam job.
"""

import argparse
import pathlib

from sicot_tf import command_line

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


def explain(arguments: argparse.Namespace) -> pathlib.Path:
    """Prints the weights of words and writes the page; the flags of `main`."""
    command_line.import_tensorflow()
    from sicot_tf.data import generations
    from sicot_tf.evaluation import attention_page
    from sicot_tf.training import restoring
    from sicot_tf.training import runs

    run = runs.load(arguments.run_dir)
    legend = attention_page.make_legend(run.model, run.train)
    titles = [attention_page.Title(each) for each in arguments.title]
    if arguments.record_id or not titles:
        generation = generations.resolve_generation(
            arguments.dataset or pathlib.Path(run.dataset["path"])
        )
        names = {each["sku_id"]: each["sku_name"] for each in run.classes}
        titles += attention_page.read_records(
            generation, arguments.record_id, names
        )
        if generation.name != run.dataset["generation"]:
            legend.append(
                f"The pictures are of generation {generation.name}; the run "
                f"was trained on {run.dataset['generation']}."
            )
    explained = attention_page.explain_titles(
        restoring.restore_attention(run),
        run.row_names["words"],
        run.model.max_words,
        titles,
    )
    output = arguments.output or arguments.run_dir / "attention.html"
    attention_page.write_page(
        output, explained, run_name=run.path.name, legend=legend
    )
    for each in explained:
        pairs = zip(each.words, each.weights)
        words = [f"{word} {weight:.3f}" for word, weight in pairs]
        words += [f"({word})" for word in each.unread]
        print(f"{each.title.text}\n  {' '.join(words) or 'no words'}")
    return output


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.explain`."""
    parser = command_line.ArgumentParser("sicot_tf.explain", __doc__, _EXAMPLES)
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
    output = explain(parser.parse_args(argv))
    print(f"Attention page: {output}")


if __name__ == "__main__":
    main()
