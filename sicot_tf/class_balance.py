"""Ways to make up for rare classes, and that no run does it twice.

Each way corrects for the same thing, that a class has few training records.
Two of them correct twice: rare classes win where frequent ones are right.

    training    --logit_adjustment              of the loss
                --sampling                      of the records of a step
    afterwards  --logit_adjustment              of evaluation and export
                --weight_normalization          of evaluation and export

A second stage (`--second_stage`) makes up for them by its sampling. Smoothing
of labels by class (`--label_aware_smoothing`) corrects how sure a prediction
is, not which one it is, and goes with all of them.
"""

from typing import Any
from typing import NamedTuple


class _Way(NamedTuple):
    """A way that is taken, as its flag, and what to do instead."""

    flag: str
    instead: str


def check_training(train: Any) -> None:
    """Raises ValueError if the settings of a training do not go together.

    Args:
        train: a `config.TrainConfig`.
    """
    _expect_one(_in_training(train))
    sampling = train.record_sampling
    if sampling != "records" and train.order == "files":
        raise ValueError(
            f"Expected --order exact with --sampling {sampling}, received "
            "--order files: a worker that sees its own files only can't draw "
            "a class whose records lie in those of another. Drop --order, or "
            "take --sampling records."
        )
    if sampling == "records" and train.sampling_from_epoch:
        raise ValueError(
            "Expected --sampling square_root or balanced with "
            f"--sampling_from_epoch {train.sampling_from_epoch}: there is "
            "nothing to begin then. Add it, or drop --sampling_from_epoch."
        )


def check_post_hoc(post_hoc: Any, train: Any = None) -> None:
    """Raises ValueError if a run would make up for rare classes twice.

    Args:
        post_hoc: a `config.PostHocConfig`.
        train: the `config.TrainConfig` of the run; None: not known yet.
    """
    ways = _afterwards(post_hoc)
    if ways and train is not None:
        ways = [
            way._replace(instead="take a run trained without it")
            for way in _in_training(train) or _in_second_stage(train)
        ] + ways
    _expect_one(ways)


def _in_training(train: Any) -> list[_Way]:
    ways = []
    if train.logit_adjustment:
        ways.append(
            _Way(
                f"--logit_adjustment {train.logit_adjustment} in training",
                "drop --logit_adjustment",
            )
        )
    if train.record_sampling != "records":
        flag = f"--sampling {train.record_sampling}"
        if train.sampling == "auto":
            flag += f", the default of --second_stage {train.second_stage},"
        ways.append(_Way(flag, "take --sampling records"))
    return ways


def _in_second_stage(train: Any) -> list[_Way]:
    """A second stage, also one that samples no class more often."""
    if train.second_stage == "none":
        return []
    flag = f"--second_stage {train.second_stage}"
    return [_Way(flag, "drop it")]


def _afterwards(post_hoc: Any) -> list[_Way]:
    ways = []
    for name in ("logit_adjustment", "weight_normalization"):
        value = getattr(post_hoc, name)
        if value:
            ways.append(
                _Way(f"--{name} {value} after training", f"drop --{name}")
            )
    return ways


def _expect_one(ways: list[_Way]) -> None:
    if len(ways) > 1:
        first, second = ways[:2]
        raise ValueError(
            f"{first.flag} and {second.flag} both make up for rare classes; "
            f"together they do it twice. Either {first.instead}, or "
            f"{second.instead}."
        )
