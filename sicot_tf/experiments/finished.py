"""What the folders of runs say is finished; nothing else remembers it."""

import json
import pathlib
from typing import Any

from sicot_tf import config
from sicot_tf import files
from sicot_tf.checkpoints import step_folders
from sicot_tf.experiments import arms


def is_trained(run_dir: pathlib.Path, settings: dict[str, Any]) -> bool:
    """Whether the last epoch is done, and its checkpoint there."""
    last = None
    curve = run_dir / "metrics.jsonl"
    if curve.exists():
        for line in curve.read_text("utf-8").splitlines(keepends=True):
            row = json.loads(line) if line.endswith("\n") else {}
            last = row if "epoch" in row else last
    epochs = arms.run_config(settings).train.epochs
    return (
        last is not None
        and last["epoch"] >= epochs - 1e-6
        and step_folders.latest_step(run_dir / "checkpoints") == last["step"]
    )


def is_evaluated(folder: pathlib.Path) -> bool:
    """Whether an evaluation has come to its end: its page is its last file."""
    return (folder / "report.html").exists()


def macro_top1(folder: pathlib.Path) -> float:
    """Top-1 accuracy of an evaluation, mean over all classes."""
    measured = files.read_json(folder / "metrics.json")["runs"]
    (table,) = measured.values()
    return table["groups"]["overall"]["top1"]["macro"]["value"]


def conflict(
    run_dir: pathlib.Path,
    settings: dict[str, Any],
    seed: int,
    shuffle_titles: bool,
    generation: str,
) -> str:
    """How a run that is there differs from the one expected; "" if it fits.

    More epochs are no difference: training goes on.
    """
    path = run_dir / "config.json"
    if not path.exists() or not any(run_dir.glob("checkpoints/step-*")):
        return ""
    found = files.read_json(path)
    made = arms.run_config(settings)
    expected = config.to_dict(made.model) | config.to_dict(made.train)
    expected |= {"seed": seed, "shuffle_titles": shuffle_titles}
    there = {
        **config.to_dict(config.from_dict(config.ModelConfig, found["model"])),
        **config.to_dict(config.from_dict(config.TrainConfig, found["train"])),
    }
    expected["generation"] = generation
    there["generation"] = found["dataset"]["generation"]
    if there["epochs"] > expected["epochs"]:
        return f"it has {there['epochs']} epochs, now {expected['epochs']}"
    return "; ".join(
        f"{name}: {there[name]!r}, now {value!r}"
        for name, value in expected.items()
        if there[name] != value and name != "epochs"
    )
