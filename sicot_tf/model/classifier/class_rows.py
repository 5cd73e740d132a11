"""The class rows of a classifier with the optimizer's slots beside them."""

import tensorflow as tf

from sicot_tf.checkpoints import row_slices
from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import class_sampling
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense


class ClassRows:
    """Updates kernels, biases and slots of a layer where they lie.

    Args:
        layer: built.
        optimizer: its slots start at 0; `slots` has those of each block.
        weight_decay: on kernels, not on biases.
    """

    def __init__(
        self,
        layer: ClassShardedDense,
        optimizer: row_optimizers.RowOptimizer,
        weight_decay: float,
    ):
        self._layer = layer
        self._optimizer = optimizer
        self._weight_decay = weight_decay
        self.slots = [
            tuple(
                block_softmax.Block(
                    *(
                        tf.Variable(tf.zeros_like(each), trainable=False)
                        for each in block
                    )
                )
                for _ in optimizer.slot_names
            )
            for block in layer.blocks
        ]
        # Compiled once for each size of block, of which there are two.
        self._compiled_assign = tf.function(
            self._assign, autograph=False, jit_compile=True
        )
        self._compiled_updated = tf.function(
            self._updated, autograph=False, jit_compile=True
        )

    def slices(self) -> list[row_slices.RowSlice]:
        """Class rows and slots as a checkpoint knows them."""
        slices = self._layer.slices()
        for (first, _), slots in zip(self._layer.block_ranges(), self.slots):
            for slot_name, slot in zip(self._optimizer.slot_names, slots):
                for name, variable in slot._asdict().items():
                    slices.append(
                        self._layer.row_slice(
                            f"{name}/{slot_name}", variable, first
                        )
                    )
        return slices

    def assign(
        self,
        gradient: block_softmax.Block,
        block: block_softmax.Block,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """New values of a block's variables; something to wait for."""
        return self._compiled_assign(gradient, block, slots, update)

    def scatter(
        self,
        gradient: block_softmax.Block,
        draw: class_sampling.Draw,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> None:
        """The same for the drawn classes of a block alone."""
        drawn_slots = tuple(
            class_sampling.gather_rows(slot, draw.positions) for slot in slots
        )
        new_blocks = self._compiled_updated(
            gradient, draw.view.block, drawn_slots, update
        )
        for variables, values in zip((draw.variables, *slots), new_blocks):
            for variable, value in zip(variables, values):
                variable.scatter_update(tf.IndexedSlices(value, draw.positions))

    def _assign(
        self,
        gradient: block_softmax.Block,
        block: block_softmax.Block,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """`assign`, compiled."""
        new_blocks = self._updated(gradient, block, slots, update)
        for variables, values in zip((block, *slots), new_blocks):
            for variable, value in zip(variables, values):
                variable.assign(value)
        return update.scale + 0.0

    def _updated(
        self,
        gradient: block_softmax.Block,
        block: block_softmax.Block,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tuple[block_softmax.Block, ...]:
        """New class rows and slots."""
        new_block, new_slots = block_softmax.updated_block(
            gradient,
            block,
            slots,
            update,
            self._optimizer,
            self._weight_decay,
        )
        return new_block, *new_slots
