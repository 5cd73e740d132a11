"""Trains a ranker from click logs and product features; writes a generation.

    logs -> pages of people -> similarities -> examples -> examination
        -> LambdaRank -> floor -> OUTPUT/<date>-<id>/, OUTPUT/LATEST

Equal input and settings give equal bytes; only `run.json` differs.
"""

import dataclasses
import datetime
import importlib.metadata
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.ranking import log_pages
from sicot_tf.ranking import metrics
from sicot_tf.ranking import page_similarities
from sicot_tf.ranking import position_bias
from sicot_tf.ranking import product_features
from sicot_tf.ranking import ranker
from sicot_tf.ranking import report
from sicot_tf.ranking import training
from sicot_tf.ranking import training_examples

REJECTS = "rejects.jsonl"
_REPETITIONS = 1000


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a ranker is made from.

    Attributes:
        clicks: paths or globs of click logs.
        features: of `beam_jobs.product_features`.
        vector_index: for similarities that the log does not have.
        saved_model: the version that made its vectors.
        examination: a JSON file; None: estimated from the log.
    """

    clicks: Sequence[str]
    features: pathlib.Path
    vector_index: pathlib.Path | None = None
    saved_model: pathlib.Path | None = None
    examination: pathlib.Path | None = None


def build(
    sources: Sources,
    output: pathlib.Path,
    settings: training.Settings,
    *,
    date: str,
    debiasing: str,
    max_pages_per_day: int = 1000,
) -> pathlib.Path:
    """Trains and points `output/LATEST` to the result.

    Returns:
        The folder of the generation.

    Raises:
        ValueError: if a source can't be used, or has too few clicks.
    """
    log = log_pages.read(sources.clicks, max_pages_per_day=max_pages_per_day)
    folder, of_features = product_features.open_generation(sources.features)
    features = product_features.ProductFeatures(
        folder / product_features.FEATURES,
        (*product_features.NAMES, *product_features.FOLD_NAMES),
    )
    by_split, origin = make_examples(log, sources, features, of_features)
    train, val = by_split["train"], by_split["val"]
    if sources.examination:
        examination = position_bias.read(sources.examination)
    else:
        examination = estimate_examination(train)
    identity = {
        "format_version": ranker.FORMAT_VERSION,
        "date": date,
        "clicks": list(log.inputs),
        "features": {
            "generation": folder.name,
            "sha256": files.sha256(folder / product_features.FEATURES),
            "as_of": of_features["as_of"],
        },
        "similarities": origin,
        "debiasing": debiasing,
        "examination": np.round(examination, 6).tolist(),
        "examination_estimated": sources.examination is None,
        "max_pages_per_day": max_pages_per_day,
        "settings": dataclasses.asdict(settings),
        "library_versions": {
            name: importlib.metadata.version(name)
            for name in ("lightgbm", "numpy")
        },
    }
    generation = output / f"{date}-{files.json_sha256(identity)[:12]}"
    with generations.only_builder(output):
        if not generation.exists():
            trained = training.train(
                train, val, examination, debiasing, settings
            )
            _write(
                *(output, generation, identity, log),
                *(by_split, examination, trained, features),
            )
        generations.check_complete(generation)
        generations.point_latest(generation)
    return generation


def make_examples(
    log: log_pages.Log,
    sources: Sources,
    features: product_features.ProductFeatures,
    of_features: dict[str, Any],
) -> tuple[dict[str, training_examples.Examples], dict[str, Any]]:
    """Examples of each split, and where their similarities are from.

    Raises:
        ValueError: if there is no way to similarities.
    """
    origin: dict[str, Any] = {"of": "log"}
    similar = page_similarities.of_log(log.pages)
    if sources.vector_index and sources.saved_model:
        search = page_similarities.Similarities(
            sources.vector_index, sources.saved_model
        )
        similar = search.of_pages(log.pages)
        origin = {
            "of": "vector_index",
            "generation": search.generation.name,
            "saved_model_sha256": search.saved_model_sha256,
            "unreadable": dict(search.unreadable),
        }
    elif similar is None:
        raise ValueError(
            "Expected --vector_index and --saved_model, or a log with "
            "similarities on every page: a ranker has to know how similar "
            "what was shown is."
        )
    by_split = {}
    for split in generations.SPLITS:
        places = [
            place for place, page in enumerate(log.pages) if page.split == split
        ]
        by_split[split] = training_examples.make(
            [log.pages[place] for place in places],
            [similar[place] for place in places],
            features,
            of_features["as_of"],
            by_fold=split == "train",
        )
    return by_split, origin


def estimate_examination(train: training_examples.Examples) -> np.ndarray:
    """Examination from train, see `position_bias.fit`."""
    if not len(train.pages):
        raise ValueError(
            "Expected pages of train with similarities, found none. Are the "
            "products of the log those of the vector index?"
        )
    cells = position_bias.cells(train.rows[:, 0], train.rows[:, 1])
    return position_bias.fit(cells, train.positions, train.clicked)


def measure(
    scores: dict[str, np.ndarray],
    examples: training_examples.Examples,
    examination: np.ndarray,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Click metrics of some orders of the same pages, with intervals.

    Args:
        scores: of each order, `[n]`.

    Returns:
        For each order: metrics, each with its 95 % interval; for those after
        the first also `gain` of NDCG at 20 over the first, on the same pages.
    """
    sums = {
        name: metrics.click_sums(each, examples, examination)
        for name, each in scores.items()
    }
    first = next(iter(sums))

    def of_pages(pages: np.ndarray) -> dict[str, float]:
        found = {}
        for name, own in sums.items():
            drawn = metrics.click_metrics(
                {key: each[pages] for key, each in own.items()}
            )
            found |= {f"{name}|{key}": each for key, each in drawn.items()}
            found[f"{name}|gain"] = drawn["ndcg@20"] - found[f"{first}|ndcg@20"]
        return found

    values = of_pages(np.arange(len(examples.pages)))
    intervals = metrics.bootstrap(
        len(examples.pages), of_pages, seed=seed, repetitions=_REPETITIONS
    )
    measured: dict[str, dict[str, Any]] = {name: {} for name in scores}
    for key, value in values.items():
        name, _, metric = key.rpartition("|")
        low, high = intervals[key]
        measured[name][metric] = {"value": value, "low": low, "high": high}
    del measured[first]["gain"]
    return measured


def _write(
    output: pathlib.Path,
    generation: pathlib.Path,
    identity: dict[str, Any],
    log: log_pages.Log,
    by_split: dict[str, training_examples.Examples],
    examination: np.ndarray,
    trained: training.Trained,
    features: product_features.ProductFeatures,
) -> None:
    val = by_split["val"]
    floor = training.choose_floor(
        trained.booster.predict(val.rows, num_threads=1), val, examination
    )
    measured = {}
    for split in ("val", "test"):
        examples = by_split[split]
        if examples.clicked.any():
            plain = trained.booster.predict(examples.rows, num_threads=1)
            orders = {
                "similarity": examples.rows[:, 0],
                "ranker": training.with_floor(plain, examples, floor.value),
                "ranker without floor": plain,
            }
            seed = identity["settings"]["seed"]
            measured[split] = measure(orders, examples, examination, seed)
    importance = trained.booster.feature_importance("gain")
    found = {
        "similarity_floor": floor.value,
        "floors_tried": [list(each) for each in floor.tried],
        "counts": {
            **log.counts,
            **{
                f"pages_used_{split}": len(each.pages)
                for split, each in by_split.items()
            },
            "clicks_train": int(by_split["train"].clicked.sum()),
            "clicks_val": int(val.clicked.sum()),
        },
        "num_trees": trained.booster.best_iteration,
        "ndcg_by_tree": [round(each, 6) for each in trained.ndcg],
        "importance": {
            name: float(each / max(importance.sum(), 1e-12))
            for name, each in zip(ranker.NAMES, importance, strict=True)
        },
        "metrics": measured,
    }
    with generations.work_folder(output, generation.name) as work:
        folder = generations.result_folder(work)
        files.write_text(
            folder / ranker.MODEL, trained.booster.model_to_string()
        )
        features.write(folder / product_features.FEATURES)
        files.write_lines(
            folder / REJECTS,
            (json.dumps(each, ensure_ascii=True) for each in log.rejects),
        )
        report.write(folder, {**identity, **found})
        files.write_json(
            folder / generations.MANIFEST,
            {
                **identity,
                **found,
                "files": generations.describe_files(folder),
            },
        )
        files.write_json(
            folder / generations.RUN,
            {"built_at": datetime.datetime.now(datetime.UTC).isoformat()},
        )
        generations.publish(folder, generation)
