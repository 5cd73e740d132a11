"""Arms with one value for each setting, their shuffled twins, their folders."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

from sicot_tf import class_balance
from sicot_tf import config
from sicot_tf.experiments.experiment_file import Arm
from sicot_tf.experiments.experiment_file import Experiment

_SHUFFLED = "-shuffled"


@dataclasses.dataclass(frozen=True)
class Trial:
    """An arm, or its twin, with one value for each setting.

    Attributes:
        arm: name of the arm.
        values: what this one has of the arm's lists, for people.
        picked: arms and the values they picked: before its own those of
            the arms it stands on. The values are part of `run`.
        run: its runs are the folders `<run>-seed<k>`.
        own: settings of the arm; `settings` adds those of all arms.
        evaluate: post hoc settings.
        init_from: whose runs it starts from.
        reads_titles: whether it does in training, or stands on one that did.
        is_twin: trains on shuffled titles.
    """

    arm: str
    values: str
    picked: tuple[tuple[str, str], ...]
    run: str
    own: dict[str, Any]
    settings: dict[str, Any]
    evaluate: dict[str, Any]
    init_from: "Trial | None"
    reads_titles: bool
    is_twin: bool = False

    def run_dir(self, experiment: Experiment, seed: int) -> pathlib.Path:
        """The folder of its run."""
        return experiment.output / "runs" / f"{self.run}-seed{seed}"


def candidates(
    experiment: Experiment, arm: Arm, chosen: Mapping[str, Trial]
) -> list[Trial]:
    """All combinations of an arm's listed values, in the order of the lists.

    Args:
        chosen: what was chosen for the arms it stands on.

    Raises:
        ValueError: naming the arm whose settings do not fit.
    """
    combined = [chosen[name] for name in arm.combines]
    own, evaluate, starts = {}, {}, []
    for each in combined:
        own |= each.own
        evaluate |= each.evaluate
        starts.append(each.init_from)
    starts.append(chosen.get(arm.init_from))
    start = next((each for each in reversed(starts) if each), None)
    before = [
        pick for each in [*combined, start] if each for pick in each.picked
    ]
    found = []
    for train_values, own_now in _choices(own | arm.settings):
        for evaluate_values, evaluate_now in _choices(evaluate | arm.evaluate):
            values = train_values | evaluate_values
            picked = before + [
                (arm.name, _text(value)) for value in train_values.values()
            ]
            # One that comes on two ways is named once.
            picked = tuple(dict.fromkeys(picked))
            trial = Trial(
                arm=arm.name,
                values=", ".join(f"{k} {_text(v)}" for k, v in values.items()),
                picked=picked,
                run="-".join([arm.name, *(text for _, text in picked)]),
                own=own_now,
                settings=experiment.train | own_now,
                evaluate=evaluate_now,
                init_from=start,
                reads_titles=False,
            )
            if arm.of:
                trial = dataclasses.replace(
                    chosen[arm.of],
                    arm=arm.name,
                    values=trial.values,
                    evaluate=evaluate_now,
                )
            try:
                made = run_config(trial.settings)
                class_balance.check_post_hoc(post_hoc(trial), made.train)
            except ValueError as error:
                raise ValueError(f"Arm {arm.name!r}: {error}") from error
            reads = arm.reads_titles or _reads_titles(made)
            reads |= any(chosen[each].reads_titles for each in arm.stands_on)
            found.append(dataclasses.replace(trial, reads_titles=reads))
    return found


def twin(trial: Trial) -> Trial | None:
    """The control: the same on shuffled titles; None without titles.

    It has the settings that were chosen for the real one, and starts from
    the twin of what that starts from.
    """
    if not trial.reads_titles:
        return None
    start = trial.init_from
    return dataclasses.replace(
        trial,
        run=trial.run + _SHUFFLED,
        init_from=start and (twin(start) or start),
        is_twin=True,
    )


def has_attention(trial: Trial) -> bool:
    """Whether words have weights that can be looked at."""
    model = run_config(trial.settings).model
    return model.streams == "cotrain" and model.title_encoder in (
        "bilinear",
        "bilstm_attention",
    )


def run_config(settings: Mapping[str, Any]) -> config.RunConfig:
    """The configuration of a run with these settings, its seed left out.

    Raises:
        ValueError: if a value is none of its setting, or some do not fit
            each other.
    """
    preset = settings.get("preset", "demo")
    made = []
    for config_class in config.RunConfig.__annotations__.values():
        names = {field.name for field in dataclasses.fields(config_class)}
        given = {key: settings[key] for key in settings if key in names}
        made.append(
            dataclasses.replace(
                config.with_preset(config_class, preset), **given
            )
        )
    found = config.RunConfig(*made)
    config.check_together(found)
    return found


def post_hoc(trial: Trial) -> config.PostHocConfig:
    """What is changed after training."""
    # Whole numbers, too, stand as `1.0` in the names of folders.
    return config.PostHocConfig(
        **{
            key: float(value) if type(value) is int else value
            for key, value in trial.evaluate.items()
        }
    )


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as flags of a command."""
    names = {
        field.name: field.metadata["flag"] or field.name
        for config_class in config.RunConfig.__annotations__.values()
        for field in dataclasses.fields(config_class)
    }
    words = []
    for key, value in settings.items():
        name = names.get(key, key)
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return words


def _choices(
    settings: Mapping[str, Any],
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of what was chosen among lists, and all settings with it."""
    lists = {
        key: value for key, value in settings.items() if type(value) is list
    }
    return [
        (picked, {**settings, **picked})
        for values in itertools.product(*lists.values())
        for picked in [dict(zip(lists, values))]
    ]


def _reads_titles(made: config.RunConfig) -> bool:
    return (
        made.model.streams == "cotrain"
        or made.train.word_loss_weight > 0
        or made.train.word_rows_scale > 0
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
