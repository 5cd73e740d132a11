"""One step of search training under `strategy.run`.

As in `training.step`, variables are plain ones that start equal on all workers
and stay equal by one packed all-reduce. Embeddings are gathered, so that a
query's negatives are those of the global batch: every worker computes the loss
of all, and the gradient of its own.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from sicot_tf.search_training import losses
from sicot_tf.search_training import settings
from sicot_tf.search_training import triplets
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.workers.collectives import Collectives

Batch = dict[str, tf.Tensor]
_IDS = ("query_id", "positive_id", "negative_id")


# Compared and hashed as an object, for it holds tensors.
@dataclasses.dataclass(frozen=True, eq=False)
class SearchStep:
    """Trains on one batch of triplets."""

    search: keras.Model
    optimizer: StreamsOptimizer
    config: settings.SearchConfig
    collectives: Collectives

    def compiled(
        self, strategy: tf.distribute.Strategy
    ) -> Callable[..., dict[str, tf.Tensor]]:
        """The step as a function that every worker calls alike.

        Returns:
            A function of this worker's batch (`triplets.training_batches`),
            the scalar int64 step, and a scalar float32 that is summed and
            returned as `asked_to_stop`. It updates the model, unless
            something is not finite on any worker, and returns `loss`,
            `train_first` (the share of queries whose click is before all
            negatives), `box_area` (mean of queries), `learning_rate`,
            `is_finite` and `gradient_norm`.
        """

        @tf.function(autograph=False)
        def search_step(
            batch: Batch, step: tf.Tensor, asked_to_stop: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            return strategy.run(
                self._on_worker, args=(batch, step, asked_to_stop)
            )

        return search_step

    def _on_worker(
        self, batch: Batch, step: tf.Tensor, asked_to_stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # === Forward ===
        inputs = {
            name: tf.concat(
                [batch[f"{each}/{name}"] for each in triplets.PICTURES], axis=0
            )
            for name in ("image", "extents")
        }
        outputs = self.search(inputs, training=True)
        rows = {"embedding": 1.0, "glimpse": self.config.glimpse_loss_weight}
        rows = {name: each for name, each in rows.items() if name in outputs}

        # === Loss of all, gradient of one's own ===
        ids = {
            f"{name}s": self.collectives.gather(batch[name]) for name in _IDS
        }
        weights = self.collectives.gather(batch["weight"])
        results, by_outputs = {}, []
        for name, factor in rows.items():
            gathered = [
                self.collectives.gather(each)
                for each in tf.split(outputs[name], len(triplets.PICTURES))
            ]
            results[name] = losses.triplet_loss(
                *gathered,
                **ids,
                weights=weights,
                margin=self.config.margin,
                temperature=self.config.temperature,
            )
            size = batch["weight"].shape[0]
            own = size * self.collectives.worker_index
            by_gathered = tf.gradients(results[name][0], gathered)
            by_outputs.append(
                factor
                * tf.concat([each[own : own + size] for each in by_gathered], 0)
            )
        loss, first = results["embedding"]
        variables = self.search.trainable_variables
        gradients = tf.gradients(
            [outputs[name] for name in rows],
            [each.value for each in variables],
            by_outputs,
            # Sums of two, see `training.step`.
            aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
        )

        # === All workers ===
        corners = outputs["box"][: batch["weight"].shape[0]]
        area = tf.reduce_mean(
            tf.reduce_prod(corners[:, 2:] - corners[:, :2], axis=-1)
        )
        *gradients, scalars = self.collectives.all_reduce_packed(
            [tf.convert_to_tensor(each) for each in gradients]
            + [tf.stack([area, asked_to_stop])]
        )
        norm = tf.linalg.global_norm(gradients)
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)

        # === Update ===
        scale = tf.constant(1.0)
        if self.config.clip_norm:
            scale = tf.minimum(1.0, self.config.clip_norm / (norm + 1e-12))
        learning_rate = self.optimizer.learning_rate(step)
        tf.cond(
            is_finite,
            lambda: self._update(
                [scale * each for each in gradients], learning_rate
            ),
            lambda: tf.constant(0),
        )
        return {
            "loss": loss,
            "train_first": first,
            "box_area": scalars[0] / self.collectives.num_workers,
            "asked_to_stop": scalars[1],
            "learning_rate": learning_rate,
            "is_finite": is_finite,
            "gradient_norm": norm,
        }

    def _update(
        self, gradients: list[tf.Tensor], learning_rate: tf.Tensor
    ) -> tf.Tensor:
        self.optimizer.update(gradients, learning_rate)
        return tf.constant(0)
