"""Recogniser alone, index alone, and both, on queries that chose nothing.

Top-1 SKUs for SKUs that the classifier was trained on and for others, what is
recognised and how much of that is right, and the category by the model, by the
search and by both; with the settings that sicot_tf.tune_recognition has chosen
on validation. Pictures are seen whole. Intervals of 95 % draw SKUs anew.

examples:
  python -m benchmarks.search.fusion --product_index index \\
      --vector_index vectors --records 'shop/records-*.jsonl' \\
      --queries 'shop/queries-*.jsonl' --settings recognition.json
"""

import argparse
import pathlib

import numpy as np

from benchmarks import flags
from sicot_tf import command_line
from sicot_tf.data import generations
from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import sku_categories
from sicot_tf.recognition.stages import sku_search
from sicot_tf.recognition.tuning import candidates
from sicot_tf.recognition.tuning import category_choice
from sicot_tf.recognition.tuning import labelled_pictures
from sicot_tf.recognition.tuning import search_choice


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    arguments = _parse_arguments(argv)
    command_line.import_tensorflow()
    from sicot_tf.recognition.tuning import asked_model
    from sicot_tf.recognition.tuning import catalogue_search
    from sicot_tf.recognition.tuning import job

    settings = recognition_settings.read(arguments.settings)
    index = generations.resolve_generation(arguments.product_index)
    model = asked_model.AskedModel(arguments.model)
    with catalogue_search.CatalogueSearch(
        *(model, index),
        generations.resolve_generation(arguments.vector_index),
    ) as catalogue:
        answered, _ = job.ask(
            *(model, catalogue),
            labelled_pictures.read_pictures(arguments.queries, arguments.split),
            settings.num_neighbours,
        )
    known = labelled_pictures.read_sku_ids(arguments.records)
    is_known = np.array([each.sku_id in known for each in answered])
    right, recognised = _judge(
        answered, sku_categories.SkuCategories(index).of, settings
    )
    print(
        f"{arguments.split}: search {settings.sku_search_weight:g}, sharpness "
        f"{settings.sku_search_sharpness:g}, threshold "
        f"{settings.sku_search_threshold:g}"
    )
    for name, group in (
        ("all", np.ones(len(answered), bool)),
        ("known", is_known),
        ("unknown", ~is_known),
    ):
        if not group.any():
            continue
        skus = candidates.numbers(
            [each.sku_id for each, kept in zip(answered, group) if kept]
        )
        print(f"{name} SKUs, {group.sum():,} queries")
        for key, values in right.items():
            found = candidates.accuracy(values[group], skus)
            print(
                f"  {key:28}{found['right']:7.1%} [{found['low']:.1%}, "
                f"{found['high']:.1%}]"
            )
        for key, values in recognised.items():
            num = int((values & group).sum())
            num_right = int((values & group & right[key]).sum())
            print(f"  recognised, {key:16}{num:7,}, {num_right:,} right")


def _judge(
    answered: list[category_choice.AnsweredPicture],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """`[queries]` bool: what is right, and what is recognised, by whom."""
    right, recognised = [], []
    for each in answered:
        by_model = category.by_model(each.sku_ids, each.scores, categories_of)
        by_search = category.by_search(
            each.neighbours, settings.category_sharpness
        )
        both = search_choice.shares_of(each, categories_of, settings)
        own = category.reweight(
            *(each.sku_ids, each.scores, categories_of, both),
            settings.category_influence,
        )
        shares = sku_search.shares(
            each.neighbours, settings.sku_search_sharpness
        )
        fused, scores = sku_search.fuse(
            *own, shares, settings.sku_search_weight
        )
        true = categories_of(each.sku_id)
        right.append(
            {
                "recogniser": own[0][0] == each.sku_id,
                "index": next(iter(shares), None) == each.sku_id,
                "fused": fused[0] == each.sku_id,
                "category by the model": next(iter(by_model), None) in true,
                "category by the search": next(iter(by_search), None) in true,
                "category fused": next(iter(both), None) in true,
            }
        )
        alone = each.recognised and own[0][0] == each.sku_ids[0]
        is_fused = settings.sku_search_weight > 0 and bool(shares)
        recognised.append(
            {
                "recogniser": alone,
                "fused": scores[0] >= settings.sku_search_threshold
                if is_fused
                else alone,
            }
        )
    return tuple(
        {name: np.array([row[name] for row in rows]) for name in rows[0]}
        for rows in (right, recognised)
    )


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    for flag, default in (
        ("model", "saved_models/sicot"),
        ("product_index", "demo/index"),
        ("vector_index", "demo/vectors"),
        ("settings", "recognition.json"),
    ):
        parser.add_argument(
            f"--{flag}", type=pathlib.Path, default=pathlib.Path(default)
        )
    parser.add_argument("--records", default="demo/shop/records-*.jsonl")
    parser.add_argument("--queries", default="demo/shop/queries-*.jsonl")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
