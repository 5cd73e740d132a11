"""Serves signature `serving_pixels` of a SavedModel with NVIDIA's PyTriton.

Runs in an environment of its own, PyTriton wants NumPy 1:
  python3.11 -m venv pytriton
  pytriton/bin/pip install nvidia-pytriton==0.7.0 tensorflow==2.21.0 'numpy<2'
  pytriton/bin/python benchmarks/server/serving_pytriton.py \\
      saved_models/sicot/1 request.bin 8700 8
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher
from pytriton.model_config import ModelConfig
from pytriton.model_config import Tensor
from pytriton.triton import Triton
from pytriton.triton import TritonConfig
from tritonclient.grpc import service_pb2


def main() -> None:
    """Writes the bytes of a request for one black picture, then serves."""
    directory, request_path, port, max_batch_size = sys.argv[1:]
    model = tf.saved_model.load(directory)
    recognize = model.signatures["serving_pixels"]
    shape = recognize.structured_input_signature[1]["image"].shape[1:]

    @batch
    def infer(image: np.ndarray) -> dict[str, np.ndarray]:
        outputs = recognize(image=tf.constant(image))
        return {name: value.numpy() for name, value in outputs.items()}

    request = service_pb2.ModelInferRequest(model_name="sicot")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, *shape])
    request.raw_input_contents.append(bytes(shape.num_elements()))
    pathlib.Path(request_path).write_bytes(request.SerializeToString())

    http_port, metrics_port = int(port) + 1, int(port) + 2
    with Triton(
        config=TritonConfig(
            grpc_port=int(port), http_port=http_port, metrics_port=metrics_port
        )
    ) as triton:
        triton.bind(
            model_name="sicot",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.uint8, shape=tuple(shape))],
            outputs=[
                Tensor(name="sku_id", dtype=np.bytes_, shape=(-1,)),
                Tensor(name="score", dtype=np.float32, shape=(-1,)),
            ],
            config=ModelConfig(
                max_batch_size=int(max_batch_size),
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
