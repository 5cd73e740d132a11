"""What a worker of a search training is made of; `loop` runs it."""

import dataclasses
import pathlib
from collections.abc import Callable

import tensorflow as tf

from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.data.schedule import Schedule
from sicot_tf.model.search import network
from sicot_tf.search_training import runs
from sicot_tf.search_training import settings
from sicot_tf.search_training import start
from sicot_tf.search_training import triplets
from sicot_tf.search_training.step import SearchStep
from sicot_tf.search_training.validation import Validation
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.workers.collectives import Collectives


@dataclasses.dataclass(frozen=True)
class Job:
    """Batches, step, validation and checkpoints of one worker.

    batches: those of this worker from a step on, to the last one.
    restore_from: starts from the backbone of a recogniser's run, and from its
    features of the first triplets.
    validation: None without validation triplets.
    """

    schedule: Schedule
    last_step: int
    batches: Callable[[int], tf.data.Dataset]
    step: Callable[..., dict[str, tf.Tensor]]
    validation: Validation | None
    checkpoints: checkpoints.Checkpoints
    restore_from: Callable[[pathlib.Path], None]


def build(
    generation: pathlib.Path,
    run_dir: pathlib.Path,
    search: settings.SearchConfig,
    model: config.ModelConfig,
    strategy: tf.distribute.Strategy,
    collectives: Collectives,
) -> Job:
    """Builds the network with its initial weights, and what trains it.

    All variables are made outside the scope of the strategy.
    """
    # === Triplets ===
    files = triplets.open_training(generation)
    val_files = triplets.TripletFiles(generation, "val")
    schedule = Schedule(
        (len(files),), search.global_batch_size, collectives.num_workers
    )
    last_step = search.epochs * schedule.steps_per_epoch
    # Frozen backbones change the number of pixels, not of pictures.
    size = network.whole_size(model.image_size)

    def batches(first_step: int) -> tf.data.Dataset:
        return triplets.training_batches(
            files,
            schedule,
            first_step=first_step,
            last_step=last_step,
            worker_index=collectives.worker_index,
            whole_size=size,
            min_crop_area=search.min_crop_area,
            seed=search.seed,
            shuffle_clicks=search.shuffle_clicks,
        )

    # === Network ===
    model_of_search = runs.build_network(model, search)
    optimizer = StreamsOptimizer(
        model_of_search, _train_config(search), schedule.steps_per_epoch
    )
    step = SearchStep(model_of_search, optimizer, search, collectives)
    backbone = network.backbone_variables(model_of_search)

    def restore_from(run_dir: pathlib.Path) -> None:
        collectives.call_on_all(
            lambda: checkpoints.restore_variables(
                run_dir / "checkpoints", backbone
            )
        )
        pictures, *_ = triplets.plain_pictures(
            files, size, start.NUM_PICTURES // 2
        )
        start.start_embedding(model_of_search, pictures, collectives)

    return Job(
        schedule=schedule,
        last_step=last_step,
        batches=batches,
        step=step.compiled(strategy),
        validation=Validation(
            model_of_search,
            val_files,
            batch_size=3 * search.global_batch_size,
            max_triplets=search.val_triplets,
            collectives=collectives,
        )
        if len(val_files)
        else None,
        checkpoints=checkpoints.Checkpoints(
            run_dir / "checkpoints",
            model_of_search.variables + optimizer.keras_optimizer.variables,
            collectives=collectives,
        ),
        restore_from=restore_from,
    )


def _train_config(search: settings.SearchConfig) -> config.TrainConfig:
    """What the optimizer of the streams is told of these settings."""
    return config.TrainConfig(
        optimizer="adamw",
        epochs=search.epochs,
        learning_rate=search.learning_rate,
        decay_rate=search.decay_rate,
        decay_epochs=1.0,
        warmup_epochs=search.warmup_epochs,
        weight_decay=search.weight_decay,
        backbone_learning_rate_factor=search.backbone_learning_rate_factor,
    )
