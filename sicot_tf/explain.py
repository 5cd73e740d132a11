"""Shows which words of a title the attention trusts (Fig. 7 of the paper).

Writes a page with the picture, its words by falling weight, the three most
important green and the three least important red, or, with --noise_words,
known words of promotion. Titles are tokenised by the same function as in the
Beam job.
"""

import argparse
import pathlib

from sicot_tf import command_line
from sicot_tf.stores import locations

_EXAMPLES = """
examples:
  # Eight records of the training set:
  python -m sicot_tf.explain --run_dir runs/cotrain

  # Your own titles:
  python -m sicot_tf.explain --run_dir runs/cotrain \\
      --title "new arrival cola soft drink 330ml free shipping"

  # Certain records:
  python -m sicot_tf.explain --run_dir runs/cotrain \\
      --record_id sku-000017/train-0 sku-000023/train-2

  # A generated shop (beam_jobs.shop_records) knows its words of promotion:
  python -m sicot_tf.explain --run_dir runs/cotrain \\
      --noise_words shop/noise_words.txt
"""


def explain(arguments: argparse.Namespace) -> pathlib.Path:
    """Prints the weights of words and writes the page; the flags of `main`."""
    command_line.import_tensorflow()
    from sicot_tf.data import dataset
    from sicot_tf.data import generation_cache
    from sicot_tf.evaluation import attention_page
    from sicot_tf.evaluation import noise_words
    from sicot_tf.training import restoring
    from sicot_tf.training import runs

    run = runs.load(arguments.run_dir)
    noise = arguments.noise_words and noise_words.read(arguments.noise_words)
    legend = attention_page.make_legend(
        run.model, run.train, knows_noise_words=bool(noise)
    )
    titles = [attention_page.Title(each) for each in arguments.title]
    explains_records = bool(arguments.record_id or not titles)
    attention = restoring.restore_attention(run)
    findings = []
    if explains_records or noise:
        generation = generation_cache.local_generation(
            arguments.dataset or run.dataset_location,
            dataset.wanted(train=(1, 0)),
        )
        if generation.name != run.dataset["generation"]:
            legend.append(
                f"The records are of generation {generation.name}; the run "
                f"was trained on {run.dataset['generation']}."
            )
    if explains_records:
        names = {each["sku_id"]: each["sku_name"] for each in run.classes}
        titles += attention_page.read_records(
            generation, arguments.record_id, names
        )
    if noise:
        weight = noise_words.measure(attention, run, generation, noise)
        findings.append(weight.sentence())
    explained = attention_page.explain_titles(
        attention, run.row_names["words"], run.model.max_words, titles
    )
    output = arguments.output or arguments.run_dir / "attention.html"
    attention_page.write_page(
        output,
        explained,
        run_name=run.path.name,
        legend=legend,
        findings=findings,
        noise_words=noise,
    )
    for each in explained:
        words = [f"{word.label} {word.weight:.3f}" for word in each.words]
        words += [f"({word.label})" for word in each.unread]
        print(f"{each.title.text}\n  {' '.join(words) or 'no words'}")
    for finding in findings:
        print(finding)
    return output


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.explain`."""
    parser = command_line.ArgumentParser("sicot_tf.explain", __doc__, _EXAMPLES)
    parser.add_run_dir("a co-training run")
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
        "--noise_words",
        type=command_line.local_path,
        metavar="FILE",
        help="known words of promotion, one a line: they are red, and what "
        "weight they have over all training titles is printed",
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        help="another place of the dataset (default: where the run saw it)",
    )
    parser.add_argument(
        "--output",
        type=command_line.local_path,
        help="the page (default: RUN_DIR/attention.html)",
    )
    output = explain(parser.parse_args(argv))
    print(f"Attention page: {output}")


if __name__ == "__main__":
    main()
