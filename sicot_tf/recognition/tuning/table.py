"""What was measured, as text of 80 columns."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The table of a result of `job.run`."""
    measured, settings = found["measured"], found["settings"]
    yield (
        f"{measured['num_pictures']:,} {found['split']} pictures of "
        f"{measured['num_skus']:,} SKUs, {measured['num_left_out']:,} left "
        "out; right in %, with 95 % intervals"
    )
    each = measured["category"]
    search, fused = each["by_search"], each["fused"]
    yield f"category ({each['num_pictures']:,} pictures)"
    yield _line("by the model", each["by_model"])
    yield _line(f"by search, sharpness {search['sharpness']:g}", search)
    yield _line(
        f"fused: search {fused['search_weight']:g}, "
        f"sharpness {fused['sharpness']:g}",
        fused,
    )
    yield _line("  chosen on other SKUs", each["fused_on_other_skus"])
    yield f"{'SKU, top-1':<58}{'score':>8}{'log loss':>10}"
    for candidate in measured["sku"]["candidates"]:
        influence = candidate["influence"]
        chosen = influence == settings["category_influence"]
        yield (
            _line(f"influence of the category {influence:g}", candidate)
            + f"{100 * candidate['mean_score']:8.1f}"
            + f"{candidate['log_loss']:10.3f}"
            + (" <-" if chosen else "")
        )
    yield _line("  chosen on other SKUs", measured["sku"]["on_other_skus"])
    yield "recognised by the model's threshold, and still the best SKU"
    for each in measured["sku"]["candidates"]:
        if each["influence"] in (0, settings["category_influence"]):
            yield (
                f"  influence of the category {each['influence']:<8g}"
                f"{each['num_recognised']:>7,} pictures, "
                f"{each['num_recognised_right']:,} right"
            )
    if "search" in measured:
        yield from _search(measured["search"])
    if "boxes" in measured:
        yield from _boxes(measured["boxes"], settings)


def _search(measured: Mapping[str, Any]) -> Iterator[str]:
    """Recogniser, search and both, for SKUs known and unknown to it."""
    yield (
        f"queries: search {measured['weight']:g}, sharpness "
        f"{measured['sharpness']:g}, recognised from "
        f"{measured['threshold']:.3f}"
    )
    for name, group in measured["groups"].items():
        yield f"{name} SKUs ({group['num_queries']:,} queries), top-1"
        for key, text in (
            ("recogniser", "by the recogniser"),
            ("search", "by search"),
            ("fused", "fused"),
            ("fused_on_other_skus", "  chosen on other SKUs"),
        ):
            yield _line(text, group[key])
        for key, text in (
            ("recognised_by_recogniser", "recogniser"),
            ("recognised_by_fused", "fused"),
        ):
            found = group[key]
            yield (
                f"  recognised, {text:<22}{found['num']:>7,} queries, "
                f"{found['num_right']:,} right"
            )
    if "category_of_results" in measured:
        yield "true SKU among the first 20 results"
        for each in measured["category_of_results"]["candidates"]:
            certainty = each["certainty"]
            chosen = certainty == measured["category_of_results"]["certainty"]
            yield _line(
                f"narrowed if surer than {certainty:g} "
                f"({each['num_narrowed']:,})",
                each,
            ) + (" <-" if chosen else "")


def _boxes(
    measured: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[str]:
    """How well boxes fit, before and after."""
    yield (
        f"boxes ({measured['num_scenes']:,} {'+'.join(measured['splits'])} "
        "scenes, "
        f"{measured['num_objects']:,} objects): mean IoU in %"
    )
    for name, numbers in (
        ("default", ""),
        (
            "chosen",
            f": threshold {settings['heat_threshold']:g}, "
            f"mass {settings['heat_mass']:g}, "
            f"margin {settings['box_margin']:g}",
        ),
    ):
        objects, main = measured[name]["objects"], measured[name]["main"]
        yield (
            f"  {name + numbers:<48}objects {100 * objects:4.1f}, "
            f"main {100 * main:4.1f}"
        )


def _line(name: str, accuracy: Mapping[str, float]) -> str:
    value, low, high = (
        100 * accuracy[each] for each in ("right", "low", "high")
    )
    return f"  {name:<34}{value:5.1f} ({low:5.1f} to {high:5.1f})"
