"""What a LiteRT model answers, by the library that phones run."""

import importlib.util

import numpy as np


def check_installed() -> None:
    """Raises ValueError if LiteRT isn't installed."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError(
            "Expected the package ai-edge-litert, by which the models for "
            "phones are tried. Install it: pip install ai-edge-litert"
        )


class PhoneModel:
    """A model in memory, ready to answer one picture after the other.

    Attributes:
        input_scale: what a step of the input is worth in pixel values, 0 for
            a float model.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert import interpreter

        # The interpreter reads the bytes as long as it lives.
        self._interpreter = interpreter.Interpreter(model_content=content)
        self._answer = self._interpreter.get_signature_runner()
        (details,) = self._answer.get_input_details().values()
        self.input_scale, self.input_zero_point = details["quantization"]

    def scores(self, picture: np.ndarray) -> np.ndarray:
        """`[image_size, image_size, 3]` uint8 to `[num_classes]` float32."""
        return self._answer(image=picture[np.newaxis])["score"][0]
