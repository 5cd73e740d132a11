"""What an evaluation leaves: numbers, predictions, plots and a page."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.evaluation import accuracy
from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import plots
from sicot_tf.evaluation import report
from sicot_tf.training import runs

_NUM_EXAMPLES = 12


def write(output: pathlib.Path, measured: accuracy.Measured) -> None:
    """Writes `metrics.json`, `predictions.npz`, plots and `report.html`."""
    run, split = measured.run, measured.files.split
    files.write_json(output / "metrics.json", _numbers(measured))
    np.savez_compressed(
        output / "predictions.npz", **measured.found[run.path.name]
    )
    report.write_report(
        output / "report.html",
        title=f"{run.path.name}: accuracy on the {split} records",
        notes=measured.notes,
        dataset_facts=_dataset_facts(measured),
        tables=measured.tables,
        comparison=measured.comparison,
        calibration=measured.calibration,
        plots=_write_plots(output, measured),
        examples=_examples(measured),
        settings={
            each.path.name: {
                **config.to_dict(each.model),
                **config.to_dict(each.train),
            }
            for each in measured.compared
        },
    )


def _numbers(measured: accuracy.Measured) -> dict[str, Any]:
    """The contents of `metrics.json`."""
    changes = measured.changes.given()
    return {
        "split": measured.files.split,
        "generation": measured.files.generation.name,
        "trained_on": {
            each.path.name: each.dataset["generation"]
            for each in measured.compared
        },
        "classes": measured.classes.facts(),
        "records": {
            "tested": len(measured.kept),
            "left_out": measured.num_left_out,
        },
        "notes": measured.notes,
        "runs": measured.tables,
        "comparison": measured.comparison,
        **({"post_hoc": changes} if changes else {}),
        "calibration": measured.calibration,
    }


def _write_plots(
    output: pathlib.Path, measured: accuracy.Measured
) -> list[tuple[str, pathlib.Path]]:
    """The plots of the report, as (caption, path)."""
    run = measured.run
    threshold = run.dataset["head_threshold"]
    labels = measured.found[run.path.name]["labels"]
    long_tail = output / "long_tail.svg"
    plots.long_tail_plot(run.train_counts, threshold, long_tail)
    bars = output / "head_tail.svg"
    plots.head_tail_bars(measured.tables, bars)
    by_images = output / "accuracy_by_training_images.svg"
    plots.accuracy_by_training_images(
        {
            name: metrics.accuracy_by_training_images(
                labels, each["top_labels"], run.train_counts, threshold
            )
            for name, each in measured.found.items()
        },
        by_images,
    )
    curves = output / "loss_curves.svg"
    plots.loss_curves(
        {
            each.path.name: runs.read_curve(each.path / "metrics.jsonl")
            for each in measured.compared
        },
        curves,
    )
    return [
        ("Training images of each class", long_tail),
        ("Top-1 accuracy with 95 % intervals", bars),
        ("Accuracy against training images of a class", by_images),
        ("Training", curves),
    ]


def _dataset_facts(measured: accuracy.Measured) -> dict[str, Any]:
    """What a reader wants to know of the data first."""
    tested, run = measured.files, measured.run
    unknown = f"{tested.split} images of unknown classes, left out"
    heads = sum(each["head"] for each in run.classes)
    return {
        "dataset generation": tested.generation.name,
        "classes": len(run.classes),
        "head classes": heads,
        "tail classes": len(run.classes) - heads,
        "head from": f"{run.dataset['head_threshold']} training images",
        "training images": int(run.train_counts.sum()),
        f"{tested.split} images": len(tested),
        "the first of them from": _first_source(tested),
        unknown: measured.num_left_out,
        "words in the vocabulary": run.dataset["vocabulary_size"],
    }


def _first_source(tested: dataset.RecordFiles) -> str:
    """Where the first record says that it comes from."""
    feature = {"source": records.ALL_FEATURES["source"]}
    first = tf.io.parse_single_example(tested.read(0), feature)
    return first["source"].numpy().decode() or "-"


def _examples(measured: accuracy.Measured) -> list[dict[str, Any]]:
    """The first records: stored order is random, so they are a fair sample."""
    classes = measured.run.classes
    found = measured.found[measured.run.path.name]
    examples = []
    for index, number in enumerate(measured.kept[:_NUM_EXAMPLES]):
        record = tf.io.parse_single_example(
            measured.files.read(int(number)), records.EVALUATION_FEATURES
        )
        true = classes[int(found["labels"][index])]
        best = classes[int(found["top_labels"][index, 0])]
        examples.append(
            {
                "image": record["image"].numpy(),
                "record_id": str(found["record_ids"][index]),
                "true_sku": true["sku_id"],
                "true_name": true.get("sku_name") or "",
                "predicted_sku": best["sku_id"],
                "predicted_name": best.get("sku_name") or "",
                "score": float(found["top_scores"][index, 0]),
            }
        )
    return examples
