"""Rates of answers against labels, with their intervals."""

import statistics
from collections.abc import Sequence
from typing import Any

from beam_jobs.conversion import significance
from sicot_tf.recognition import answers
from sicot_tf.recognition.stages import localization

# Answers whose box covers an object, as is usual.
_GOOD_IOU = 0.5
_Labelled = Sequence[tuple[dict[str, Any], answers.Answer]]


def wilson(successes: int, trials: int) -> dict[str, float | int | None]:
    """A rate and its 95 % interval; None without trials."""
    interval = significance.wilson_interval(successes, trials)
    low, high = interval or (None, None)
    return {
        "rate": successes / trials if trials else None,
        "low": low,
        "high": high,
        "of": trials,
        "count": successes,
    }


def format_value(value: Any) -> str:
    """A rate with its interval, or a number."""
    if not isinstance(value, dict):
        return f"{value:.3f}" if isinstance(value, float) else str(value)
    if value["rate"] is None:
        return "none to count"
    return (
        f"{value['rate']:6.1%} [{value['low']:.1%}, {value['high']:.1%}] "
        f"{value['count']} of {value['of']}"
    )


def of_pictures(found: _Labelled) -> dict[str, Any]:
    """Coverage, accuracy and categories on pictures of one SKU each."""
    num_recognised = num_right = num_both = 0
    by_voter = {"model": 0, "search": 0, "both": 0}
    num_categories = num_searched = 0
    for row, answer in found:
        main = answer.objects[0]
        is_right = main.sku_id == row["sku_id"]
        num_recognised += main.recognised
        num_right += is_right
        num_both += main.recognised and is_right
        if answer.category is None or row.get("category") is None:
            continue
        num_categories += 1
        wanted = row["category"]
        by_voter["both"] += answer.category.name == wanted
        by_voter["model"] += _best(answer.category.by_model) == wanted
        if answer.category.by_search:
            num_searched += 1
            by_voter["search"] += _best(answer.category.by_search) == wanted
    total = len(found)
    return {
        "recognised": wilson(num_recognised, total),
        "right among the recognised": wilson(num_both, num_recognised),
        "right of all (top 1)": wilson(num_right, total),
        "category by the model": wilson(by_voter["model"], num_categories),
        "category by the search": wilson(by_voter["search"], num_searched),
        "category by both": wilson(by_voter["both"], num_categories),
    }


def of_scenes(found: _Labelled) -> dict[str, Any]:
    """Boxes and SKUs on scenes with several objects."""
    num_main = num_found = num_objects = num_covered = num_good = 0
    num_boxes = num_recognised = num_recognised_right = 0
    overlaps, main_overlaps = [], []
    for row, answer in found:
        wanted = {each["sku_id"] for each in row["objects"]}
        seen = {each.sku_id for each in answer.objects}
        main = answer.objects[0]
        num_main += main.sku_id in wanted
        num_recognised += main.recognised
        num_recognised_right += main.recognised and main.sku_id in wanted
        num_found += len(wanted & seen)
        num_objects += len(wanted)
        boxes = [each.box for each in answer.objects]
        num_boxes += len(boxes)
        main_overlaps.append(
            max(
                localization.overlap(main.box, each["box"])
                for each in row["objects"]
            )
        )
        for each in row["objects"]:
            overlaps.append(
                max(localization.overlap(box, each["box"]) for box in boxes)
            )
            num_covered += overlaps[-1] >= _GOOD_IOU
        # The object under the main box is the one that is named.
        under = max(
            row["objects"],
            key=lambda each: localization.overlap(main.box, each["box"]),
        )
        num_good += main.sku_id == under["sku_id"]
    total = len(found)
    return {
        "main SKU is on the scene": wilson(num_main, total),
        "main SKU is the object under its box": wilson(num_good, total),
        "main object recognised": wilson(num_recognised, total),
        "right among the recognised": wilson(
            num_recognised_right, num_recognised
        ),
        "SKUs of the scenes that are found": wilson(num_found, num_objects),
        f"objects with a box of IoU {_GOOD_IOU:g}": wilson(
            num_covered, len(overlaps)
        ),
        "mean IoU of the objects' best boxes": statistics.fmean(overlaps),
        "mean IoU of the main boxes": statistics.fmean(main_overlaps),
        "boxes a scene": num_boxes / total,
    }


def _best(shares: dict[str, float]) -> str | None:
    return max(shares, key=shares.get, default=None)
