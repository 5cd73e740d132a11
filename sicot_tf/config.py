"""Configuration: frozen dataclasses, one JSON file beside every artefact.

A field's default is the product's choice; what the paper says stands in
`PRESETS["paper"]`. Where the paper is silent the help text says so.
"""

import argparse
import dataclasses
import logging
import typing
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from sicot_tf import class_balance
from sicot_tf import settings

Config = TypeVar("Config")
_setting = settings.setting
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """What `beam_jobs.build_dataset` does to raw records."""

    __post_init__ = settings.check

    title_field: str = _setting(
        "title", "record field that holds the title, for example title_zh"
    )
    encoding: str = _setting(
        "utf-8",
        "of the text of JSON Lines and CSV, for example gb18030 or utf-16",
    )
    strict: bool = _setting(
        False, "reject records with fields outside the contract"
    )
    image_size: int = _setting(
        256,
        "shorter side of stored images in pixels; smaller images are kept as "
        "they are",
        least=1,
    )
    jpeg_quality: int = _setting(
        95, "quality of re-encoded JPEG images", least=1, most=100
    )
    min_image_side: int = _setting(
        8, "images with a shorter side below this are rejected", least=1
    )
    # Pillow's own decompression-bomb limit.
    max_image_pixels: int = _setting(
        89_478_485,
        "images with more pixels are rejected before decoding",
        least=1,
    )
    drop_frequent_percent: float = _setting(
        0.0, "drop this share of the most frequent words (paper: 5)", most=100
    )
    drop_rare_percent: float = _setting(
        0.0, "drop this share of the least frequent words (paper: 5)", most=100
    )
    drop_by: str = _setting(
        "types",
        "what the two shares count: distinct words (the paper's plain "
        "reading, which removes most of the text) or occurrences",
        choices=("types", "token_mass"),
    )
    min_word_count: int = _setting(
        1, "words seen less often in the training titles are dropped", least=1
    )
    require_words: bool = _setting(
        False,
        "training records left without words leave the training set (paper); "
        "otherwise they train on the picture alone",
    )
    head_threshold: int = _setting(
        0,
        "classes with at least this many training images are head; 0 takes "
        "the count at head_share",
    )
    # 17 % is the head share of both Alibaba sets (paper, Table 4).
    head_share: float = _setting(
        0.17, "share of classes that are head when head_threshold is 0", most=1
    )
    word_vector_dim: int = _setting(
        128, "size of the word2vec vectors", least=1
    )
    word2vec_epochs: int = _setting(
        10, "passes of word2vec over the titles", least=1
    )
    unknown_words: str = _setting(
        "mean_of_characters",
        "vectors of words that a file of --word_vectors lacks; random where "
        "no character is known either",
        choices=("mean_of_characters", "random", "zero"),
    )
    val_percent: int = _setting(
        10, "validation share of records that carry no split", most=100
    )
    test_percent: int = _setting(
        10, "test share of records that carry no split", most=100
    )
    val_per_class: int = _setting(
        0,
        "validation records of each class, instead of the percentages, for "
        "records that carry no split",
    )
    test_per_class: int = _setting(0, "the same for test records")
    min_train_per_class: int = _setting(
        1, "records of a class that val_per_class and test_per_class leave"
    )
    duplicates: str = _setting(
        "drop",
        "drop: of a picture a class keeps one, training pictures that are in "
        "val or test (or nearly) leave, similar ones stay on one side of a "
        "split; keep: only record ids are looked at",
        choices=("drop", "keep"),
    )
    near_duplicate_distance: int = _setting(
        4,
        "pictures whose hashes of 128 bits differ in at most so many bits are "
        "similar; -1: only equal ones are",
        least=-1,
        most=128,
    )
    shard_megabytes: int = _setting(128, "size of a TFRecord shard", least=1)
    seed: int = _setting(
        0, "seed of order, splits and word vectors", most=2**32 - 1
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The streams and the shared classifier."""

    __post_init__ = settings.check

    streams: str = _setting(
        "cotrain",
        "cotrain trains visual and mixed stream, visual the baseline",
        choices=("cotrain", "visual"),
    )
    backbone: str = _setting(
        "ResNet50",
        "a name of keras.applications, EfficientNetLite0, or SmallCNN",
    )
    backbone_weights: str = _setting(
        "imagenet", "imagenet, none, or the path of a .weights.h5 file"
    )
    freeze_backbone: bool = _setting(False, "train all but the backbone")
    frozen_until: str = _setting(
        "",
        "name of a layer of the backbone: it and all before it are not "
        "trained, for example block5c_add of EfficientNetLite0",
    )
    image_size: int = _setting(
        224, "side of the square the model sees", least=1
    )
    neck_dim: int = _setting(
        0,
        "size of a dense layer with ReLU behind the backbone; 0: none, the "
        "plain backbone of the paper",
    )
    max_words: int = _setting(32, "longer titles are cut", least=1)
    title_encoder: str = _setting(
        "bilinear",
        "how the words of a title become one vector (paper, Table 3): by "
        "bilinear word attention, their mean, the final states of a bi-LSTM, "
        "or self attention over its states",
        choices=("mean", "bilstm", "bilstm_attention", "bilinear"),
    )
    attention_activation: str = _setting(
        "softmax",
        "how scores of bilinear word attention become word weights",
        choices=("softmax", "sigmoid", "sigmoid_norm"),
    )
    attention_rank: int = _setting(
        0, "rank of the bilinear form; 0: one full matrix"
    )
    attention_gain: float = _setting(
        0.0, "initial gain of the scores; 0: the square root of the word size"
    )
    train_word_vectors: bool = _setting(
        True, "go on training the word2vec vectors"
    )
    dtype_policy: str = _setting(
        "float32",
        # float16 would need loss scaling, which can deadlock several workers.
        "Keras dtype policy",
        choices=("float32", "mixed_bfloat16"),
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How `sicot_tf.train` trains it."""

    def __post_init__(self) -> None:
        settings.check(self)
        class_balance.check_training(self)

    mixed_loss_weight: float = _setting(
        1.0, "lambda of Eq. 1 (not given in the paper)", flag="lambda"
    )
    word_loss_weight: float = _setting(
        0.0,
        "weight of predicting the title's words from the picture's features, "
        "those words that two classes or more share; 0: not predicted",
    )
    max_predicted_words: int = _setting(
        10_000, "predict at most so many, the most frequent", least=1
    )
    word_rows_scale: float = _setting(
        0.0,
        "adds this much of a projection of their titles' words to the rows of "
        "the classes, of words that two classes or more share; 0: free rows "
        "alone",
    )
    epochs: int = _setting(
        25, "passes over the training set (not given)", least=1
    )
    global_batch_size: int = _setting(
        256, "records of a step over all workers", least=1
    )
    learning_rate: float = _setting(0.1, "initial learning rate")
    decay_rate: float = _setting(0.8, "factor of each decay (paper: gamma)")
    decay_epochs: float = _setting(
        1.0, "epochs between decays (paper: step 1)", least=0.001
    )
    warmup_epochs: float = _setting(
        0.0, "epochs of linear warm-up before the schedule"
    )
    optimizer: str = _setting("sgd", "optimizer", choices=("sgd", "adamw"))
    momentum: float = _setting(0.9, "SGD momentum (not given)", most=1)
    weight_decay: float = _setting(
        1e-4,
        "on kernels, not on biases, norms and word vectors; L2 for sgd, "
        "decoupled for adamw",
    )
    clip_norm: float = _setting(
        0.0,
        "longest gradient, over all weights of all workers and before weight "
        "decay; 0: not clipped",
    )
    label_smoothing: float = _setting(
        0.0, "share of the label's probability spread over all classes", most=1
    )
    label_aware_smoothing: float = _setting(
        0.0,
        "smoothing of the most frequent class; that of the others falls with "
        "their training records to label_smoothing for the rarest (arXiv "
        "2104.00466); 0: label_smoothing for all",
    )
    logit_adjustment: float = _setting(
        0.0,
        "tau: adds tau * log(share of the training records) to the logits of "
        "a class while training (arXiv 2007.07314)",
    )
    sampling: str = _setting(
        "auto",
        "which records a step takes: records: each once an epoch; square_root "
        "and balanced: a class in proportion to the square root of its "
        "records, or all alike, then a record of it; auto: balanced in a "
        "second stage, otherwise records",
        choices=("auto", "records", "square_root", "balanced"),
    )
    sampling_from_epoch: int = _setting(
        0,
        "epochs that take each record once before --sampling begins (deferred "
        "re-sampling, arXiv 1906.07413)",
    )
    second_stage: str = _setting(
        "none",
        "with --init_from: the streams stay as they are, the classifier alone "
        "is trained; crt: class rows start anew; lws: each keeps its "
        "direction and learns its length (arXiv 1910.09217)",
        choices=("none", "crt", "lws"),
    )
    sample_rate: float = _setting(
        1.0,
        "share of the classes a step compares with, those of the batch always "
        "among them (Partial FC); 1: all, exactly",
        least=1e-6,
        most=1,
    )
    backbone_learning_rate_factor: float = _setting(
        1.0, "learning rate of the backbone relative to the rest"
    )
    augmentation: str = _setting(
        "crop_flip",
        "random resized crop, and for crop_flip a mirror image",
        choices=("none", "crop", "crop_flip"),
    )
    min_crop_area: float = _setting(
        0.25, "smallest crop, share of the area", least=0.01, most=1
    )
    cached_views: int = _setting(
        0,
        "with --freeze_backbone or --frozen_until: so many augmented views of "
        "each picture pass the frozen layers once, epochs take them in turn, "
        "and other runs of these layers find them; 0: a new view each epoch",
    )
    order: str = _setting(
        "exact",
        "exact: the same global batches for any number of workers; files: "
        "every worker reads its own files only",
        choices=("exact", "files"),
    )
    shuffle_titles: bool = _setting(
        False, "control: every picture trains with another record's title"
    )
    word_dropout: float = _setting(
        0.0,
        "chance of a title's word to be left out of a step; one known word "
        "stays",
        most=1,
    )
    mixup: float = _setting(
        0.0,
        "alpha of Beta(alpha, alpha), by which a picture and its label are "
        "mixed with another record's (arXiv 1710.09412); 0: not mixed",
    )
    dropout: float = _setting(
        0.0,
        "share of the features x_v that a step sets to 0, before classifier "
        "and mixed stream",
        most=0.99,
    )
    distillation_weight: float = _setting(
        0.0,
        "weight of the squared distance of x_v from x_m, which is held: the "
        "visual stream learns from the mixed one (arXiv 1412.6550)",
    )
    seed: int = _setting(
        0,
        "seed of initial weights, order of records and augmentation",
        most=2**32 - 1,
    )
    log_steps: int = _setting(
        10, "steps between rows of the loss curve", least=1
    )
    val_records: int = _setting(
        10_000, "validation records looked at after each epoch; 0: all"
    )
    checkpoint_steps: int = _setting(
        0, "steps between checkpoints; 0: once an epoch"
    )
    keep_checkpoints: int = _setting(3, "checkpoints kept", least=1)

    @property
    def record_sampling(self) -> str:
        """`sampling`, what it is for `auto`."""
        if self.sampling != "auto":
            return self.sampling
        return "records" if self.second_stage == "none" else "balanced"


@dataclasses.dataclass(frozen=True)
class PostHocConfig:
    """What evaluation and export change in a trained classifier."""

    logit_adjustment: float = _setting(
        0.0,
        "tau: subtracts tau * log(share of the training records) from the "
        "logits of a class (arXiv 2007.07314)",
    )
    weight_normalization: float = _setting(
        0.0,
        "tau: divides each class row by its length to the power of tau; above "
        "0 the biases are left out (arXiv 1910.09217)",
    )

    def __post_init__(self) -> None:
        settings.check(self)
        class_balance.check_post_hoc(self)

    def given(self) -> dict[str, float]:
        """The settings that change something."""
        return {name: each for name, each in to_dict(self).items() if each}

    def flags(self) -> str:
        """The settings that change something, as they are given."""
        return " ".join(
            f"--{name} {each}" for name, each in self.given().items()
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
    classifier: str = _setting(
        "auto",
        "sharded: each worker holds a part of the classes; replicated: all "
        "hold all; auto: by their size",
        choices=("auto", "sharded", "replicated"),
        old_flag="head",
    )
    logit_memory: int = _setting(
        256,
        "megabytes of logits a worker may keep; beyond, they are computed a "
        "second time",
        old_flag="head_memory",
    )
    start_timeout: float = _setting(
        300.0,
        "seconds to wait for the other workers, the first step and a "
        "checkpoint",
        least=1,
    )
    worker_timeout: float = _setting(
        120.0,
        "seconds after which a step or a validation batch that waits for "
        "another worker ends this one",
        least=1,
    )


class RunConfig(NamedTuple):
    """All settings of a training run."""

    model: ModelConfig
    train: TrainConfig
    workers: WorkersConfig


def check_together(settings: RunConfig) -> None:
    """Raises ValueError for settings that mean nothing beside each other."""
    model, train = settings.model, settings.train
    of_bilinear = ("attention_activation", "attention_rank", "attention_gain")
    has_mixed_stream = model.streams == "cotrain"
    for is_wrong, reason in (
        (
            model.title_encoder != "bilinear"
            and any(
                getattr(model, name) != getattr(ModelConfig, name)
                for name in of_bilinear
            ),
            "--" + ", --".join(of_bilinear) + " are of --title_encoder "
            f"bilinear; leave them out with {model.title_encoder}.",
        ),
        (
            train.word_dropout and not has_mixed_stream,
            "--word_dropout leaves out words of the titles that co-training "
            "reads; leave it out with --streams visual.",
        ),
        (
            train.distillation_weight and not has_mixed_stream,
            "--distillation_weight wants a mixed stream to learn from; train "
            "with --streams cotrain.",
        ),
        (
            train.distillation_weight and not train.mixed_loss_weight,
            "--distillation_weight wants a mixed stream that is trained; "
            "--lambda 0 does not train it.",
        ),
        (
            train.distillation_weight
            and model.freeze_backbone
            and not model.neck_dim,
            "--distillation_weight changes x_v, which --freeze_backbone "
            "holds; leave out one of them, or add a --neck_dim.",
        ),
    ):
        if is_wrong:
            raise ValueError(reason)


# Overrides of the defaults by name of the preset and of the dataclass.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "DatasetConfig": {
            "drop_frequent_percent": 5.0,
            "drop_rare_percent": 5.0,
            "require_words": True,
        },
        "ModelConfig": {},
        "TrainConfig": {},
        "WorkersConfig": {},
    },
    "demo": {
        "DatasetConfig": {
            "image_size": 112,
            "word2vec_epochs": 30,
        },
        "ModelConfig": {
            "backbone": "EfficientNetLite0",
            "image_size": 64,
        },
        # Chosen on the validation records of the generated shop; no mirror
        # images, for letters read one way.
        "TrainConfig": {
            "global_batch_size": 64,
            "epochs": 7,
            "decay_rate": 0.65,
            "weight_decay": 5e-4,
            "augmentation": "crop",
            "min_crop_area": 0.5,
        },
        "WorkersConfig": {},
    },
}

# The demo's settings, with titles that are predicted instead of read.
PRESETS["recommended"] = {
    **PRESETS["demo"],
    "ModelConfig": {**PRESETS["demo"]["ModelConfig"], "streams": "visual"},
    "TrainConfig": {
        **PRESETS["demo"]["TrainConfig"],
        "word_loss_weight": 0.3,
    },
}


def to_dict(config: Any) -> dict[str, Any]:
    """The fields of a config as plain types."""
    return dataclasses.asdict(config)


def from_dict(config_class: type[Config], values: dict[str, Any]) -> Config:
    """Builds a config; an unknown key is an error, a missing one a default."""
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"Unknown settings for {config_class.__name__}: {unknown}. "
            f"Known ones: {sorted(known)}."
        )
    return config_class(**values)


def with_preset(config_class: type[Config], preset: str) -> Config:
    """The defaults of `config_class` with the overrides of a preset."""
    if preset not in PRESETS:
        raise ValueError(
            f"Unknown preset {preset!r}; expected one of {sorted(PRESETS)}."
        )
    return from_dict(config_class, PRESETS[preset][config_class.__name__])


def add_arguments(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Adds one flag for each field; unset flags leave the preset's value.

    The help names the default, and each preset that overrides it.
    """
    group = parser.add_argument_group(
        config_class.__name__.removesuffix("Config").lower() + " settings"
    )
    types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        flag = "--" + (field.metadata["flag"] or field.name)
        defaults = [f"default: {field.default}"] + [
            f"{preset}: {overrides[config_class.__name__][field.name]}"
            for preset, overrides in sorted(PRESETS.items())
            # The shop's settings have no presets.
            if field.name in overrides.get(config_class.__name__, ())
        ]
        text = f"{field.metadata['help']} ({'; '.join(defaults)})"
        text = text.replace("%", "%%")
        if types[field.name] is bool:
            group.add_argument(
                flag,
                dest=field.name,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=text,
            )
        else:
            group.add_argument(
                flag,
                dest=field.name,
                type=types[field.name],
                choices=field.metadata["choices"] or None,
                default=None,
                help=text,
            )
        if field.metadata["old_flag"]:
            add_old_flag(
                group,
                "--" + field.metadata["old_flag"],
                flag,
                dest=field.name,
                type=types[field.name],
                choices=field.metadata["choices"] or None,
            )


def add_old_flag(
    parser: argparse._ActionsContainer, old: str, new: str, **settings: Any
) -> None:
    """Keeps the former name of a flag for one version; help hides it."""
    parser.add_argument(
        old,
        action=_OldFlag,
        const=new,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
        **settings,
    )


class _OldFlag(argparse.Action):
    """Takes the value of a renamed flag and says so."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        _log.warning(
            "%s is called %s now; the old name is gone in the next version.",
            *(option_string, self.const),
        )
        setattr(namespace, self.dest, values)


def from_arguments(
    config_class: type[Config],
    arguments: argparse.Namespace,
    preset: str | None = None,
) -> Config:
    """A preset, or the defaults, with the flags the user gave on top."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(config_class)
        if getattr(arguments, field.name) is not None
    }
    start = with_preset(config_class, preset) if preset else config_class()
    return dataclasses.replace(start, **given)
