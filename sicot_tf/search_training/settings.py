"""Settings of a search training run."""

import dataclasses

from sicot_tf import settings

_setting = settings.setting


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """What is trained, and how; nothing but the epochs may change later."""

    __post_init__ = settings.check

    embedding_dim: int = _setting(256, "size of an embedding", least=1)
    view: str = _setting(
        "mask_and_zoom",
        "what is embedded of a picture: mask, all of it, grey outside of the "
        "box; zoom, the box cut out; or both",
        choices=("mask", "zoom", "mask_and_zoom"),
    )
    steepness: float = _setting(
        20.0, "of the mask's borders, over the picture's longer side", least=1
    )
    without_box: bool = _setting(
        False, "embed the whole picture, for comparison"
    )
    shuffle_clicks: bool = _setting(
        False,
        "give every query the clicked product of another (a fixed "
        "permutation), the control",
    )
    frozen_until: str = _setting(
        "",
        "layer of the backbone up to which nothing is trained; empty: as in "
        "the run of --init_from",
    )
    epochs: int = _setting(4, "passes over the triplets", least=1)
    global_batch_size: int = _setting(
        32, "triplets of a step, over all workers", least=1
    )
    learning_rate: float = _setting(3e-3, "initial learning rate (AdamW)")
    decay_rate: float = _setting(0.6, "its factor after each epoch", most=1)
    warmup_epochs: float = _setting(
        0.1, "epochs in which the learning rate rises"
    )
    backbone_learning_rate_factor: float = _setting(
        0.1, "the backbone's share of the learning rate"
    )
    weight_decay: float = _setting(1e-4, "weight decay of kernels")
    clip_norm: float = _setting(5.0, "longest gradient; 0: any")
    margin: float = _setting(
        0.1, "by which a clicked product is to be more similar", most=2
    )
    temperature: float = _setting(
        0.07,
        "softness of the maximum over a query's negatives; near 0: the "
        "hardest one alone counts",
        least=0.001,
    )
    # At 0.5 boxes end as a part of the object: docs/search_training.md.
    glimpse_loss_weight: float = _setting(
        0.5, "of the same loss on the features under the box branch's weights"
    )
    min_crop_area: float = _setting(
        0.8,
        "pictures are cropped to a random window of at least this share",
        least=0.05,
        most=1,
    )
    seed: int = _setting(0, "of all that is drawn at random")
    log_steps: int = _setting(10, "steps between rows of the curve", least=1)
    val_triplets: int = _setting(
        1000, "validation triplets that are looked at each epoch", least=1
    )
    checkpoint_steps: int = _setting(
        0, "steps between checkpoints; 0: one an epoch"
    )


@dataclasses.dataclass(frozen=True)
class WorkersConfig:
    """How the work is spread; may change whenever a run is resumed."""

    __post_init__ = settings.check

    num_workers: int = _setting(
        0,
        "start so many processes on this machine; 0: this process alone, or "
        "with the others of TF_CONFIG",
    )
    start_timeout: float = _setting(
        300.0,
        "seconds to wait for the other workers, the first step and a "
        "checkpoint",
        least=1,
    )
    worker_timeout: float = _setting(
        120.0,
        "seconds after which a step that waits for another worker ends this "
        "one",
        least=1,
    )
