"""What an experiment's TOML file says, checked before anything runs.

    description = "..."       shown on the page
    dataset = "shop/dataset"  a path or a URL
    output = "runs/shop"      default: runs/<name of the file>
    baseline = "visual"       the arm that differences are taken against
    seeds = [0, 1, 2]
    calibrate = true          default: false; fits each run's calibration

    [train]                   settings of `sicot_tf.train` for all arms
    [choose]                  seeds = "first" (default) or "all"
    [arms.NAME]               settings of this arm; a list of values is a
                              choice, made on the validation records
    [arms.NAME.evaluate]      post hoc settings of `sicot_tf.evaluate`

Beside settings an arm may have `init_from` (starts from that arm's run of the
same seed), `of` (that arm's runs with other post hoc settings, no training),
`combines` (what was chosen for these arms, together) and `reads_titles`
(true for a text method that its settings do not show).
"""

import dataclasses
import difflib
import pathlib
import re
import tomllib
from typing import Any

from sicot_tf import config
from sicot_tf.stores import locations

_POST_HOC = tuple(
    field.name for field in dataclasses.fields(config.PostHocConfig)
)
# The experiment sets these itself.
_OWN_SETTINGS = {
    "seed": "List the `seeds` on top of the file",
    "shuffle_titles": "Every arm that reads titles gets its shuffled twin "
    "by itself",
    "run_dir": "Name the folder of all with `output`",
}
_ARM_KEYS = ("init_from", "of", "combines", "reads_titles", "evaluate")
_TOP_KEYS = (
    *("description", "dataset", "output", "baseline", "seeds", "calibrate"),
    *("train", "choose", "arms"),
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train, as the file has it.

    settings: its own, by the name of the field in `config`; a list is a
    choice. evaluate: post hoc settings, alike.
    """

    name: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
    init_from: str = ""
    of: str = ""
    combines: tuple[str, ...] = ()
    reads_titles: bool = False

    @property
    def stands_on(self) -> list[str]:
        """The arms that must be known before this one."""
        return [
            name for name in (self.init_from, self.of, *self.combines) if name
        ]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The whole file; an arm stands behind those it stands on."""

    name: str
    description: str
    dataset: locations.Location
    output: pathlib.Path
    baseline: str
    seeds: tuple[int, ...]
    train: dict[str, Any]
    choose_on: str
    arms: dict[str, Arm]
    calibrate: bool = False

    @property
    def choose_seeds(self) -> tuple[int, ...]:
        """The seeds on which choices are made."""
        return self.seeds if self.choose_on == "all" else self.seeds[:1]


def read(
    path: pathlib.Path,
    dataset: locations.Location | None = None,
    output: pathlib.Path | None = None,
) -> Experiment:
    """Reads and checks an experiment.

    Args:
        dataset: in place of the file's.
        output: in place of the file's.

    Raises:
        ValueError: naming the arm and the setting that do not fit.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    try:
        return _experiment(path, values, dataset, output)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _experiment(
    path: pathlib.Path,
    values: dict[str, Any],
    dataset: locations.Location | None,
    output: pathlib.Path | None,
) -> Experiment:
    _expect_known("The file", values, _TOP_KEYS)
    seeds = _get(values, "seeds", list, [0, 1, 2])
    if not seeds or {type(each) for each in seeds} != {int} or min(seeds) < 0:
        raise ValueError(
            f"Expected `seeds` like [0, 1, 2], received {seeds!r}."
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"A seed stands twice in {seeds}.")
    choose = _get(values, "choose", dict, {})
    _expect_known("[choose]", choose, ("seeds",))
    choose_on = choose.get("seeds", "first")
    if choose_on not in ("first", "all"):
        raise ValueError(
            'Expected `seeds = "first"` or `seeds = "all"` in [choose], '
            f"received {choose_on!r}."
        )
    dataset = dataset or _get(values, "dataset", str, "")
    if not dataset:
        raise ValueError(
            "Expected a `dataset`, what beam_jobs.build_dataset wrote. Name "
            "it in the file or with --dataset."
        )
    output = output or _get(values, "output", str, f"runs/{path.stem}")
    if locations.is_remote(output):
        raise ValueError(
            f"Expected `output` to be a folder of this machine, received "
            f"{output!r}. Copy it to the store once the experiment is done."
        )
    experiment = Experiment(
        name=path.stem,
        description=_get(values, "description", str, ""),
        dataset=locations.location(str(dataset)),
        output=pathlib.Path(output),
        baseline=_get(values, "baseline", str, ""),
        seeds=tuple(seeds),
        train=_settings("[train]", _get(values, "train", dict, {}), False),
        choose_on=choose_on,
        arms={
            name: _arm(name, table)
            for name, table in _get(values, "arms", dict, {}).items()
        },
        calibrate=_get(values, "calibrate", bool, False),
    )
    _check_arms(experiment)
    return experiment


def _arm(name: str, table: Any) -> Arm:
    where = f"Arm {name!r}"
    if not isinstance(table, dict):
        raise ValueError(f"Expected a table [arms.{name}].")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{where}: a name has letters, digits and _ only, as it names "
            "folders."
        )
    own = {key: table[key] for key in _ARM_KEYS if key in table}
    try:
        combines = _get(own, "combines", list, [])
        if not all(isinstance(each, str) for each in combines):
            raise ValueError("Expected names of arms in `combines`.")
        arm = Arm(
            name=name,
            settings=_settings(
                where,
                {key: each for key, each in table.items() if key not in own},
                True,
            ),
            evaluate=_evaluate_settings(_get(own, "evaluate", dict, {})),
            init_from=_get(own, "init_from", str, ""),
            of=_get(own, "of", str, ""),
            combines=tuple(combines),
            reads_titles=_get(own, "reads_titles", bool, False),
        )
    except ValueError as error:
        text = str(error)
        raise ValueError(
            text if text.startswith(where) else f"{where}: {text}"
        ) from error
    if "reads_titles" in own and not arm.reads_titles:
        raise ValueError(
            f"{where}: whether it reads titles is seen from its settings; "
            "`reads_titles` can only be true."
        )
    if arm.of and (arm.settings or arm.init_from or arm.combines):
        raise ValueError(
            f"{where} is `of` {arm.of!r}, so it trains nothing: only "
            f"[arms.{name}.evaluate] can follow."
        )
    if arm.of and not arm.evaluate:
        raise ValueError(
            f"{where} is `of` {arm.of!r} and evaluates it as it is; give it "
            f"settings in [arms.{name}.evaluate]."
        )
    return arm


def _check_arms(experiment: Experiment) -> None:
    """Arms name each other, and their settings fit together."""
    arms = experiment.arms
    if not arms:
        raise ValueError("Expected at least one arm, a table [arms.NAME].")
    if experiment.baseline not in arms:
        raise ValueError(
            f"Expected `baseline` to name one of the arms {list(arms)}, "
            f"received {experiment.baseline!r}."
        )
    known: list[str] = []
    for arm in arms.values():
        for name in arm.stands_on:
            if name not in known:
                raise ValueError(
                    f"Arm {arm.name!r} stands on {name!r}, which is not among "
                    f"the arms above it: {known}."
                )
        known.append(arm.name)
        if arm.of and arms[arm.of].of:
            raise ValueError(
                f"Arm {arm.name!r} is `of` {arm.of!r}, which has no training "
                f"of its own. Name {arms[arm.of].of!r}."
            )
        for name in arm.combines:
            if arms[name].of:
                raise ValueError(
                    f"Arm {arm.name!r} combines {name!r}, which has no "
                    "training of its own. Give the arm that setting in "
                    f"[arms.{arm.name}.evaluate]."
                )


def _settings(
    where: str, table: dict[str, Any], may_choose: bool
) -> dict[str, Any]:
    """Settings by the names of their fields; `arms` checks the values."""
    fields = {
        name: field.name
        for config_class in config.RunConfig.__annotations__.values()
        for field in dataclasses.fields(config_class)
        for name in (field.name, field.metadata["flag"] or field.name)
    }
    found = {}
    for key, value in table.items():
        if key in _OWN_SETTINGS:
            raise ValueError(
                f"{where} sets {key!r}. {_OWN_SETTINGS[key]}; remove it."
            )
        if isinstance(value, list) and not (may_choose and value):
            raise ValueError(
                f"{where}: expected one value of {key!r}, received {value!r}."
                " Choices stand in arms and name at least one value."
            )
        if key == "preset":
            if value not in config.PRESETS or where != "[train]":
                raise ValueError(
                    f"{where}: expected `preset` in [train], one of "
                    f"{sorted(config.PRESETS)}, received {value!r}."
                )
        elif key not in fields:
            names = [*fields, "preset", *_ARM_KEYS]
            raise ValueError(
                f"{where}: unknown setting {key!r}. {_nearest(key, names)}All "
                "of them: python -m sicot_tf.train --help"
            )
        name = fields.get(key, key)
        if name in found:
            raise ValueError(f"{where} sets {name!r} twice.")
        found[name] = value
    return found


def _evaluate_settings(table: dict[str, Any]) -> dict[str, Any]:
    """Post hoc settings; `arms.candidates` checks their values."""
    _expect_known("[evaluate]", table, _POST_HOC)
    if [] in table.values():
        raise ValueError(f"Expected at least one value in {table}.")
    return dict(table)


def _expect_known(
    where: str, table: dict[str, Any], known: tuple[str, ...]
) -> None:
    for key in table:
        if key not in known:
            raise ValueError(
                f"{where} has an unknown entry {key!r}. "
                f"{_nearest(key, list(known))}Known ones: {list(known)}."
            )


def _nearest(key: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(key, names, n=1)
    return f"Did you mean {nearest[0]!r}? " if nearest else ""


def _get(table: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    if key not in table:
        return default
    _expect_kind("The file", key, table[key], kind)
    return table[key]


def _expect_kind(where: str, key: str, value: Any, kind: type) -> None:
    if type(value) is not kind:
        names = {
            str: "a text",
            bool: "true or false",
            list: "a list",
            dict: "a table",
        }
        raise ValueError(
            f"{where}: expected {key!r} to be {names[kind]}, received "
            f"{value!r}."
        )
