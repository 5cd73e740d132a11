"""Reads a traced function, with all functions that it calls."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf


def ops(function: tf.types.experimental.ConcreteFunction) -> Iterator[Any]:
    """Node definitions as often as they run, both branches of a condition."""
    graph = function.graph.as_graph_def(add_shapes=True)
    library = {each.signature.name: each for each in graph.library.function}

    def walk(nodes: Any) -> Iterator[Any]:
        for node in nodes:
            yield node
            for attribute in node.attr.values():
                for called in (attribute.func, *attribute.list.func):
                    if called.name:
                        yield from walk(library[called.name].node_def)

    yield from walk(graph.node)


def num_collectives(
    function: tf.types.experimental.ConcreteFunction,
) -> dict[str, int]:
    """How many ops of each kind talk to the other workers."""
    return collections.Counter(
        node.op for node in ops(function) if node.op.startswith("Collective")
    )


def tensor_shapes(
    function: tf.types.experimental.ConcreteFunction,
) -> set[tuple[int, ...]]:
    """Shapes of everything that is computed; None where not known."""
    shapes = set()
    for node in ops(function):
        for shape in node.attr["_output_shapes"].list.shape:
            shapes.add(tuple(tf.TensorShape(shape).as_list()))
    return shapes


def largest_size(shapes: set[tuple[int, ...]]) -> int:
    """Elements of the largest tensor."""
    return max(int(np.prod(shape)) for shape in shapes)
