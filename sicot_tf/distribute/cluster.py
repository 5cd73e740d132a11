"""The workers of a training job, from `TF_CONFIG`."""

import tensorflow as tf


def make_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of every run; without `TF_CONFIG` it is one worker.

    Ring collectives over gRPC work on any machine, NCCL only between GPUs,
    so the choice is left to TensorFlow where there are GPUs.
    """
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.AUTO if has_gpu else implementation.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=options
    )


def num_workers() -> int:
    """How many processes train together, by `TF_CONFIG`."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    jobs = resolver.cluster_spec().as_dict()
    return max(1, len(jobs.get("worker", [])) + len(jobs.get("chief", [])))
