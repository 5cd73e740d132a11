"""sicot_tf: long-tailed product recognition with image and title co-training.

The road that data takes: `beam_jobs.build_dataset` -> `sicot_tf.train` ->
`sicot_tf.evaluate`, `sicot_tf.explain` -> `sicot_tf.export` ->
`sicot_tf.serve`.
"""

__version__ = "0.2.0"
