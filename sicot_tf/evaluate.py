"""Top-1 and top-3 accuracy of a run, overall, head and tail, held-out records.

Only the visual stream is built, and records are read without their titles.
Intervals are 95 % bootstrap intervals over classes. A second run can be
compared on the same records. Labels of another dataset are joined by SKU id;
records of classes that the run does not know are left out, and counted.
"""

import argparse
import base64
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.evaluation import known_classes
from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import plots
from sicot_tf.evaluation import prediction
from sicot_tf.evaluation import report
from sicot_tf.training import restoring
from sicot_tf.training import runs

_EXAMPLES = """
examples:
  python -m sicot_tf.evaluate --run_dir runs/cotrain

  # Against the baseline, on the same records:
  python -m sicot_tf.evaluate --run_dir runs/cotrain \\
      --compare_to runs/visual
"""
_NUM_EXAMPLES = 12


def evaluate(
    run_dir: pathlib.Path,
    *,
    compare_to: pathlib.Path | None = None,
    dataset_dir: pathlib.Path | None = None,
    split: str = "test",
    batch_size: int = 64,
) -> pathlib.Path:
    """Writes `metrics.json`, plots and `report.html` into the run's folder.

    Args:
        run_dir: a training run.
        compare_to: another run on the same classes, the baseline.
        dataset_dir: a dataset; by default the one the run trained on.
        split: whose records are recognised.

    Returns:
        `run_dir/evaluation-<split>`.

    Raises:
        ValueError: if there are no records, the run knows none of their
            classes, or the runs do not fit.
    """
    if batch_size < 1:
        raise ValueError(
            f"Expected a batch_size of 1 or more, received {batch_size}."
        )
    run = runs.load(run_dir.resolve())
    # The baseline first, as in the paper's tables.
    compared = ([runs.load(compare_to.resolve())] if compare_to else []) + [run]
    if len({each.path.name for each in compared}) < len(compared):
        raise ValueError(
            f"{run_dir} and {compare_to} have the same folder name, which "
            "stands for the run in tables; rename one of them."
        )
    for other in compared[:-1]:
        if other.classes != run.classes:
            raise ValueError(
                f"{other.path} and {run.path} were trained on other classes "
                f"({known_classes.difference(other.sku_ids, run.sku_ids)}); "
                "only runs on one dataset generation can be compared."
            )
    generation = generations.resolve_generation(
        dataset_dir or pathlib.Path(run.dataset["path"])
    )
    files = dataset.RecordFiles(generation, split)
    if not len(files):
        raise ValueError(f"{generation} holds no records of split {split!r}.")
    classes = known_classes.KnownClasses.join(
        run.sku_ids,
        runs.read_row_names(generation)["classes"],
    )
    output = run_dir / f"evaluation-{split}"
    output.mkdir(exist_ok=True)

    # === Predict ===
    found = {
        each.path.name: _predict(each, files, batch_size, classes)
        for each in compared
    }
    kept = found[run.path.name].pop("kept")
    if not len(kept):
        raise ValueError(
            f"The run knows none of the classes of the {len(files):,} {split} "
            f"records of {generation}."
        )
    notes = [
        note
        for note in (
            classes.note(len(files), len(files) - len(kept)),
            *(_note_on_generation(each, generation) for each in compared),
        )
        if note
    ]
    train_counts = np.array([each["train"] for each in run.classes])
    threshold = run.dataset["head_threshold"]

    # === Measure ===
    labels = found[run.path.name]["labels"]
    tops = {name: each["top_labels"] for name, each in found.items()}
    tables = {
        name: metrics.accuracy_table(labels, top, train_counts, threshold)
        for name, top in tops.items()
    }
    comparison = None
    if compare_to:
        comparison = metrics.compare(
            labels,
            tops[compared[0].path.name],
            tops[run.path.name],
            train_counts,
            threshold,
            name_a=compared[0].path.name,
            name_b=run.path.name,
        )
    config.write_json(
        output / "metrics.json",
        {
            "split": split,
            "generation": generation.name,
            "trained_on": {
                each.path.name: each.dataset["generation"] for each in compared
            },
            "classes": classes.facts(),
            "records": {
                "tested": len(kept),
                "left_out": len(files) - len(kept),
            },
            "notes": notes,
            "runs": tables,
            "comparison": comparison,
        },
    )
    np.savez_compressed(output / "predictions.npz", **found[run.path.name])

    # === Show ===
    figures = _write_plots(
        output, compared, labels, tops, train_counts, threshold, tables
    )
    report.write_report(
        output / "report.html",
        title=f"{run.path.name}: accuracy on the {split} records",
        notes=notes,
        dataset_facts=_dataset_facts(files, run, len(files) - len(kept)),
        tables=tables,
        comparison=comparison,
        plots=figures,
        examples=_examples(files, kept, run.classes, found[run.path.name]),
        settings={
            each.path.name: {
                **config.to_dict(each.model),
                **config.to_dict(each.train),
            }
            for each in compared
        },
    )
    print(report.format_table(tables))
    print("\n".join([*report.headline(tables, comparison), *notes]))
    return output


def _predict(
    run: runs.Run,
    files: dataset.RecordFiles,
    batch_size: int,
    classes: known_classes.KnownClasses,
) -> dict[str, np.ndarray]:
    """What a run's visual stream sees in the records of known classes.

    Returns:
        What `prediction.predict_records` does with the run's labels, and
        `kept` `[n]` int64, the numbers of these records.
    """
    visual_stream, classifier, _ = restoring.restore_visual(run)
    batches = dataset.make_evaluation_dataset(
        files, image_size=run.model.image_size, batch_size=batch_size
    )
    found = prediction.predict_records(
        prediction.make_predict(visual_stream, classifier),
        batches,
        description=run.path.name,
    )
    found["labels"] = classes.run_labels[found["labels"]]
    kept = np.flatnonzero(found["labels"] >= 0)
    return {name: each[kept] for name, each in found.items()} | {"kept": kept}


def _note_on_generation(run: runs.Run, generation: pathlib.Path) -> str:
    """Where a run has learned from another dataset than the tested one."""
    if run.dataset["generation"] == generation.name:
        return ""
    return (
        f"{run.path.name} was trained on generation "
        f"{run.dataset['generation']}, not on {generation.name}: it may have "
        "seen some of these records in training. Head and tail are those of "
        "its training."
    )


def _write_plots(
    output: pathlib.Path,
    compared: list[runs.Run],
    labels: np.ndarray,
    tops: dict[str, np.ndarray],
    train_counts: np.ndarray,
    threshold: int,
    tables: dict[str, Any],
) -> list[tuple[str, pathlib.Path]]:
    """The plots of the report, as (caption, path)."""
    long_tail = output / "long_tail.svg"
    plots.long_tail_plot(train_counts, threshold, long_tail)
    bars = output / "head_tail.svg"
    plots.head_tail_bars(tables, bars)
    by_images = output / "accuracy_by_training_images.svg"
    plots.accuracy_by_training_images(
        {
            name: metrics.accuracy_by_training_images(
                labels, top, train_counts, threshold
            )
            for name, top in tops.items()
        },
        by_images,
    )
    curves = output / "loss_curves.svg"
    plots.loss_curves(
        {
            run.path.name: runs.read_curve(run.path / "metrics.jsonl")
            for run in compared
        },
        curves,
    )
    return [
        ("Training images of each class", long_tail),
        ("Top-1 accuracy with 95 % intervals", bars),
        ("Accuracy against training images of a class", by_images),
        ("Training", curves),
    ]


def _dataset_facts(
    files: dataset.RecordFiles, run: runs.Run, num_left_out: int
) -> dict[str, Any]:
    """What a reader wants to know of the data first."""
    heads = sum(each["head"] for each in run.classes)
    return {
        "dataset generation": files.generation.name,
        "classes": len(run.classes),
        "head classes": heads,
        "tail classes": len(run.classes) - heads,
        "head from": f"{run.dataset['head_threshold']} training images",
        "training images": sum(each["train"] for each in run.classes),
        f"{files.split} images": len(files),
        f"{files.split} images of unknown classes, left out": num_left_out,
        "words in the vocabulary": run.dataset["vocabulary_size"],
    }


def _examples(
    files: dataset.RecordFiles,
    kept: np.ndarray,
    classes: list[dict[str, Any]],
    found: dict[str, np.ndarray],
) -> list[dict[str, Any]]:
    """The first records: stored order is random, so they are a fair sample."""
    examples = []
    for index, number in enumerate(kept[:_NUM_EXAMPLES]):
        record = tf.io.parse_single_example(
            files.read(int(number)), records.EVALUATION_FEATURES
        )
        image = base64.b64encode(record["image"].numpy()).decode()
        true = classes[int(found["labels"][index])]
        best = classes[int(found["top_labels"][index, 0])]
        examples.append(
            {
                "image": f"data:image/jpeg;base64,{image}",
                "record_id": str(found["record_ids"][index]),
                "true_sku": true["sku_id"],
                "true_name": true.get("sku_name") or "",
                "predicted_sku": best["sku_id"],
                "predicted_name": best.get("sku_name") or "",
                "score": float(found["top_scores"][index, 0]),
            }
        )
    return examples


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.evaluate",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run_dir",
        type=pathlib.Path,
        default=pathlib.Path("runs/cotrain"),
        help="a training run (default: %(default)s)",
    )
    parser.add_argument(
        "--compare_to",
        type=pathlib.Path,
        help="another run on the same data, usually the baseline",
    )
    parser.add_argument(
        "--dataset",
        type=pathlib.Path,
        help="another place of the dataset (default: where the run saw it)",
    )
    parser.add_argument(
        "--split", choices=records.SPLITS, default="test", help="(test)"
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, help="(default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    output = evaluate(
        arguments.run_dir,
        compare_to=arguments.compare_to,
        dataset_dir=arguments.dataset,
        split=arguments.split,
        batch_size=arguments.batch_size,
    )
    print(f"Report: {output / 'report.html'}")
    print(f"Numbers: {output / 'metrics.json'}")
    print(f"Next: python -m sicot_tf.export --run_dir {arguments.run_dir}")


if __name__ == "__main__":
    main()
