"""Settings of every test process."""

import os
import pathlib
import sys

# Before TensorFlow is imported: no GPU, and its chatter kept down.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("TF_CONFIG", None)

# Helpers of the tests lie beside them.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
