"""Shows which words of a title the attention trusts (Fig. 7 of the paper).

Writes a page with the picture, its words by falling weight, the three most
important green and the three least important red. Titles are tokenised by
the same function as in the Beam job.
"""

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


def explain(
    run_dir: pathlib.Path,
    output: pathlib.Path,
    *,
    raw_titles: list[str],
    record_ids: list[str],
    dataset_dir: pathlib.Path | None = None,
) -> None:
    """Writes the attention page of a run, and prints the weights.

    Args:
        run_dir: a co-training run.
        output: the HTML file.
        raw_titles: titles to explain.
        record_ids: training records to explain; without any and without
            titles, the first eight.
        dataset_dir: a dataset; by default the one the run trained on.

    Raises:
        ValueError: if the run has no semantic stream, or a record is not
            there.
    """
    command_line.import_tensorflow()
    from sicot_tf.data import generations
    from sicot_tf.evaluation import attention_page
    from sicot_tf.training import restoring
    from sicot_tf.training import runs

    run = runs.load(run_dir)
    legend = attention_page.make_legend(run.model, run.train)
    titles = [attention_page.Title(each) for each in raw_titles]
    if record_ids or not titles:
        generation = generations.resolve_generation(
            dataset_dir or pathlib.Path(run.dataset["path"])
        )
        names = {each["sku_id"]: each["sku_name"] for each in run.classes}
        titles += attention_page.read_records(generation, record_ids, names)
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
    attention_page.write_page(
        output, explained, run_name=run.path.name, legend=legend
    )
    for each in explained:
        pairs = zip(each.words, each.weights)
        words = [f"{word} {weight:.3f}" for word, weight in pairs]
        words += [f"({word})" for word in each.unread]
        print(f"{each.title.text}\n  {' '.join(words) or 'no words'}")


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
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.run_dir / "attention.html"
    explain(
        arguments.run_dir,
        output,
        raw_titles=arguments.title,
        record_ids=arguments.record_id,
        dataset_dir=arguments.dataset,
    )
    print(f"Attention page: {output}")


if __name__ == "__main__":
    main()
