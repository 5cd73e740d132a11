"""Damaged gRPC requests, and the status codes that may answer each.

Every function takes a `random.Random` and returns one `Call`. The models are
those of `fuzz_serving.py`.
"""

import dataclasses
import functools
import io
import random
import struct
import zlib
from collections.abc import Callable

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import regression_pb2

Code = grpc.StatusCode
IMAGE_SIZE = 16
_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
# Time limit of a request; some of the pictures are large.
_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Call:
    """One request, the codes that may answer it, and what OK must hold."""

    method: str
    request: bytes
    codes: frozenset
    check: Callable[[bytes], None] | None = None
    metadata: tuple = ()
    timeout: float = _SECONDS


def _predict_request(name, signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(value)
    return request


def _predict(request, *codes, **options):
    return Call(
        _PREDICTION + "Predict",
        request.SerializeToString(),
        frozenset(codes),
        **options,
    )


def _jpeg(rng):
    pixels = np.frombuffer(rng.randbytes(20 * 24 * 3), np.uint8)
    output = io.BytesIO()
    image = Image.fromarray(pixels.reshape(20, 24, 3))
    image.save(output, rng.choice(["JPEG", "PNG"]))
    return output.getvalue()


def good(rng):
    """Undamaged; the value of the answer is checked."""
    x = np.float32([rng.uniform(-9, 9) for _ in range(rng.randrange(1, 9))])

    def check(response):
        outputs = predict_pb2.PredictResponse.FromString(response).outputs
        np.testing.assert_allclose(
            tf.make_ndarray(outputs["y"]), x / 2 + 2, rtol=1e-6
        )

    return _predict(
        _predict_request("half_plus_two", x=x), Code.OK, check=check
    )


def good_picture(rng):
    """Undamaged JPEG or PNG."""

    def check(response):
        outputs = predict_pb2.PredictResponse.FromString(response).outputs
        score = tf.make_ndarray(outputs["score"])
        np.testing.assert_equal(score.shape, (1, 5))

    request = _predict_request("pictures", image_bytes=[_jpeg(rng)])
    return _predict(request, Code.OK, check=check)


def dtype(rng):
    """Every number that may stand for a type, with the values left alone."""
    name, alias, value = rng.choice(
        [
            ("half_plus_two", "x", np.float32([1, 2])),
            ("three_sums", "x", np.ones([2, 3], np.float32)),
            ("strings", "s", ["a", "b"]),
            ("pictures", "image_bytes", [b"a"]),
        ]
    )
    tensor = tf.make_tensor_proto(value)
    before = tensor.dtype
    tensor.dtype = rng.choice([*range(40), *range(100, 133), -1, 2**31 - 1])
    if tensor.dtype == before:
        return good(rng)
    request = _predict_request(name, **{alias: tensor})
    return _predict(request, Code.INVALID_ARGUMENT)


def value_dtype(rng):
    """Good tensors of another type; no silent cast."""
    kind = rng.choice(
        ["f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8"]
    )
    request = _predict_request("half_plus_two", x=np.zeros([2], kind))
    return _predict(request, Code.INVALID_ARGUMENT)


def rank(rng):
    """Pixels of the wrong rank abort an unguarded convolution."""
    shape = [rng.choice([1, 3, IMAGE_SIZE]) for _ in range(rng.randrange(8))]
    if len(shape) == 4 and shape[1:] == [IMAGE_SIZE, IMAGE_SIZE, 3]:
        shape.append(1)
    pixels = np.zeros(shape, np.uint8)
    request = _predict_request("pictures", "serving_pixels", image=pixels)
    return _predict(request, Code.INVALID_ARGUMENT)


def shape(rng):
    """Any shape into models that take many, empty ones too."""
    size = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randrange(6))]
    name, signature, inputs = rng.choice(
        [
            ("half_plus_two", "", {"x": np.zeros(size, np.float32)}),
            ("three_sums", "", {"x": np.zeros(size, np.float32)}),
            ("three_sums", "to_scalar", {"x": np.zeros(size, np.float32)}),
            (
                "three_sums",
                "two_inputs",
                {
                    "a": np.zeros(size, np.float32),
                    "b": np.zeros(size[::-1], np.int64),
                },
            ),
            ("strings", "", {"s": np.full(size, b"x", object)}),
        ]
    )
    request = _predict_request(name, signature, **inputs)
    return _predict(request, Code.OK, Code.INVALID_ARGUMENT)


def empty_batch(rng):
    """Zero pictures."""
    if rng.random() < 0.5:
        pixels = np.zeros([0, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
        request = _predict_request("pictures", "serving_pixels", image=pixels)
    else:
        request = _predict_request(
            "pictures", image_bytes=np.zeros([0], object)
        )
    return _predict(request, Code.OK, Code.INVALID_ARGUMENT)


def lying_size(rng):
    """The shape says more or less than there are values."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
    sizes = [
        rng.choice([-(2**63), -2, -1, 0, 1, 3, 2**40, 2**62, 2**63 - 1])
        for _ in range(rng.choice([1, 1, 2, 3, 260]))
    ]
    for size in sizes:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_shape.unknown_rank = rng.random() < 0.1
    if rng.random() < 0.5:
        tensor.tensor_content = rng.randbytes(rng.choice([1, 4, 7, 12]))
    else:
        tensor.float_val.extend([1.0] * rng.choice([0, 1, 2, 5]))
    request = _predict_request("half_plus_two", x=tensor)
    return _predict(request, Code.OK, Code.INVALID_ARGUMENT)


def huge_shape(rng):
    """One value, to be repeated until the memory is full."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1])
    bits = rng.randrange(33, 63)
    if rng.random() < 0.5:
        tensor.tensor_shape.dim.add().size = 1 << bits
    else:
        tensor.tensor_shape.dim.add().size = 1 << (bits // 2)
        tensor.tensor_shape.dim.add().size = 1 << (bits - bits // 2)
    request = _predict_request("half_plus_two", x=tensor)
    return _predict(request, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED)


def string_content(rng):
    """Strings packed into bytes with lengths that lie."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    tensor.tensor_shape.dim.add().size = rng.choice([0, 1, 2, 50])
    tensor.tensor_content = rng.choice(
        [
            rng.randbytes(rng.randrange(1, 30)),
            b"\xff" * 9 + b"\x7f",
            b"\x01\x01ab",
            b"\x05ab",
        ]
    )
    request = _predict_request("strings", s=tensor)
    return _predict(request, Code.OK, Code.INVALID_ARGUMENT)


def other_values(rng):
    """Values in the field of another type, and of two types at once."""
    tensor = tf.make_tensor_proto(np.float32([1, 2]))
    tensor.ClearField(rng.choice(["tensor_content", "dtype", "tensor_shape"]))
    tensor.int_val.append(rng.randrange(-(2**31), 2**31))
    tensor.string_val.append(rng.randbytes(5))
    tensor.half_val.append(2**31 - 1)
    tensor.resource_handle_val.add(
        device="/cpu:0", name="a", maybe_type_name=""
    )
    tensor.variant_val.add(type_name="tensorflow::Tensor", metadata=b"x")
    request = _predict_request("half_plus_two", x=tensor)
    return _predict(request, Code.OK, Code.INVALID_ARGUMENT)


def damaged_picture(rng):
    """Cut, flipped, or no picture at all."""
    data = bytearray(_jpeg(rng))
    kind = rng.randrange(4)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(rng.choice([1, 5, 50])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[rng.randrange(12) :] = rng.randbytes(rng.randrange(200))
    else:
        prefix = [b"GIF89a", b"BM", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
        prefix += [b"RIFF\0\0\0\0WEBPVP8 ", b"", b"\xff\x0a"]
        data[:] = rng.choice(prefix) + rng.randbytes(rng.randrange(300))
    signature = rng.choice(["serving_default", "embedding"])
    pictures = [bytes(data)]
    if rng.random() < 0.3:
        pictures.insert(rng.randrange(2), _jpeg(rng))
    request = _predict_request("pictures", signature, image_bytes=pictures)
    # JPEG XL may promise more pixels than there is memory.
    return _predict(
        request, Code.OK, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED
    )


def _png(width, height, data):
    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def giant_picture(rng):
    """A header of up to 2^31 pixels a side, with little behind it."""
    width, height = (rng.choice([1, 2000, 65535, 2**27, 2**31 - 1]),) * 2
    if rng.random() < 0.3:
        width = 2**31 - width
    kind = rng.randrange(3)
    if kind == 0:
        data = _png(width, height, zlib.compress(bytes(1000)))
    elif kind == 1:
        data = bytearray(_jpeg(random.Random(1)))
        start = max(data.find(b"\xff\xc0"), 0)
        size = struct.pack(">HH", min(height, 65500), min(width, 65500))
        data[start + 5 : start + 9] = size
    else:
        data = b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20)
    request = _predict_request("pictures", image_bytes=[bytes(data)])
    return _predict(
        request, Code.INVALID_ARGUMENT, Code.OK, Code.RESOURCE_EXHAUSTED
    )


@functools.cache
def _black_png():
    """36 million pixels in 105 kB."""
    row = bytes(1 + 3 * 6000)
    return _png(6000, 6000, zlib.compress(row * 6000))


def bomb(rng):
    """A good picture that is a thousand times larger when unpacked."""
    request = _predict_request("pictures", image_bytes=[_black_png()])
    return _predict(request, Code.OK, Code.RESOURCE_EXHAUSTED)


def names(rng):
    """Models, versions, labels, signatures, inputs that are not there."""
    request = _predict_request("half_plus_two", x=np.float32([1]))
    text = rng.choice(
        [
            "",
            "x" * rng.choice([1, 1100, 100_000]),
            "可乐 %00\n\0\r\t",
            "\U0001f37a" * 400,
            "../../etc/passwd",
            "{}[]()%s%n",
        ]
    )
    kind = rng.randrange(6)
    if kind == 0:
        request.model_spec.name = text
        codes = [Code.NOT_FOUND, Code.INVALID_ARGUMENT]
    elif kind == 1:
        request.model_spec.version.value = rng.choice(
            [0, -1, 2, 2**63 - 1, -(2**63)]
        )
        codes = [Code.NOT_FOUND]
    elif kind == 2:
        request.model_spec.version_label = text
        codes = [Code.INVALID_ARGUMENT]
    elif kind == 3:
        request.model_spec.signature_name = text or "-"
        codes = [Code.FAILED_PRECONDITION]
    elif kind == 4:
        request.output_filter.extend(["y", text])
        codes = [Code.INVALID_ARGUMENT]
    else:
        del request.inputs["x"]
        for i in range(rng.choice([0, 1, 2, 1000])):
            request.inputs[f"{text}{i}"].CopyFrom(tf.make_tensor_proto(1.0))
        codes = [Code.INVALID_ARGUMENT]
    return _predict(request, *codes)


_SERIALIZED = {
    method: request.SerializeToString()
    for method, request in {
        "Predict": _predict_request(
            "pictures", image_bytes=[_jpeg(random.Random(2))]
        ),
        "Classify": classification_pb2.ClassificationRequest(
            model_spec={
                "name": "half_plus_two",
                "signature_name": "classify_x_to_sign",
            }
        ),
        "Regress": regression_pb2.RegressionRequest(
            model_spec={
                "name": "half_plus_two",
                "signature_name": "regress_x_to_y",
            }
        ),
        "MultiInference": inference_pb2.MultiInferenceRequest(),
        "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec={"name": "three_sums"}, metadata_field=["signature_def"]
        ),
        "GetModelStatus": get_model_status_pb2.GetModelStatusRequest(
            model_spec={"name": "three_sums"}
        ),
    }.items()
}
_MESSAGES = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}


def broken_message(rng):
    """Bytes that are no message, or another one than was meant."""
    method = rng.choice(list(_MESSAGES))
    other = rng.choice(list(_MESSAGES))
    data = bytearray(_SERIALIZED[method if rng.random() < 0.7 else other])
    kind = rng.randrange(4)
    if kind == 0 and data:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(rng.choice([1, 2, 20])):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[:] = rng.randbytes(rng.randrange(1, 300))
    else:
        start = rng.randrange(len(data) + 1)
        data[start:start] = rng.randbytes(rng.randrange(1, 20))
    codes = {
        Code.OK,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
    }
    if method == "MultiInference":
        # An unknown method_name.
        codes.add(Code.UNIMPLEMENTED)
    try:
        _MESSAGES[method].FromString(bytes(data))
    except message.DecodeError:
        # What gRPC itself answers to bytes that it can't parse.
        codes = {Code.INTERNAL, Code.INVALID_ARGUMENT}
    service = _MODEL if method == "GetModelStatus" else _PREDICTION
    return Call(service + method, bytes(data), frozenset(codes))


def examples(rng):
    """Examples without the feature, of another type, torn, none."""
    method = rng.choice(["Classify", "Regress", "MultiInference"])
    request = _MESSAGES[method]()
    spec = {"name": "half_plus_two", "signature_name": "regress_x_to_y"}
    if method == "MultiInference":
        for _ in range(rng.randrange(3)):
            task = request.tasks.add(
                method_name=rng.choice(
                    ["tensorflow/serving/regress", "tensorflow/serving/x", ""]
                )
            )
            task.model_spec.name = rng.choice(["half_plus_two", "strings", ""])
            task.model_spec.signature_name = rng.choice(
                ["regress_x_to_y", "classify_x_to_y", "x", ""]
            )
    else:
        spec["signature_name"] = rng.choice(
            ["", "x", "serving_default", "classes_only", "regress_x_to_y"]
        )
        request.model_spec.CopyFrom(type(request.model_spec)(**spec))
    field = rng.choice(["example_list", "example_list_with_context"])
    added = getattr(request.input, field).examples
    for _ in range(rng.choice([0, 1, 3])):
        feature = added.add().features.feature[rng.choice(["x", "z"])]
        kind = rng.randrange(4)
        if kind == 0:
            feature.float_list.value.extend([1.0] * rng.choice([0, 1, 2]))
        elif kind == 1:
            feature.int64_list.value.append(1)
        elif kind == 2:
            feature.bytes_list.value.append(rng.randbytes(5))
    codes = [
        Code.OK,
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
    ]
    if method == "MultiInference":
        codes.append(Code.UNIMPLEMENTED)
    return Call(
        _PREDICTION + method, request.SerializeToString(), frozenset(codes)
    )


def bad_config(rng):
    """Configs that may never replace the present one."""
    request = model_management_pb2.ReloadConfigRequest()
    configs = request.config.model_config_list.config
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(2):
            configs.add(
                name="a", base_path="/nowhere", model_platform="tensorflow"
            )
    elif kind == 1:
        configs.add(
            name="a", base_path="not/absolute", model_platform="tensorflow"
        )
    elif kind == 2:
        configs.add(name="a", base_path="/nowhere")
    else:
        request.config.custom_model_config.type_url = "x"
    return Call(
        _MODEL + "HandleReloadConfigRequest",
        request.SerializeToString(),
        frozenset([Code.INVALID_ARGUMENT]),
    )


def unknown_method(rng):
    """Methods and services that nobody serves."""
    method = rng.choice(
        [
            _PREDICTION + "Predicts",
            _PREDICTION,
            "/",
            "/a",
            "/tensorflow.serving.SessionService/SessionRun",
            "/x" * 500,
        ]
    )
    return Call(method, rng.randbytes(9), frozenset([Code.UNIMPLEMENTED]))


def headers(rng):
    """Metadata from one byte to far over the limit of gRPC."""
    size = rng.choice([1, 1000, 7000, 20_000, 200_000])
    codes = {Code.OK} if size < 8000 else {Code.OK, Code.RESOURCE_EXHAUSTED}
    metadata = [("x-a", "v" * size)]
    if rng.random() < 0.3:
        metadata = [(f"x-{i}-bin", rng.randbytes(8)) for i in range(size // 50)]
        codes = {Code.OK, Code.RESOURCE_EXHAUSTED}
    return dataclasses.replace(
        good(rng), metadata=tuple(metadata), codes=frozenset(codes)
    )


def deadline(rng):
    """Time limits that may pass before, in, or after the run."""
    call = rng.choice([good, good_picture])(rng)
    return dataclasses.replace(
        call,
        timeout=rng.choice([1e-6, 0.0005, 0.002, 0.01]),
        codes=frozenset([Code.OK, Code.DEADLINE_EXCEEDED]),
    )


# What batching answers besides: outputs that can't be split among requests,
# and requests that waited too long.
BATCHING_CODES = {
    shape: Code.FAILED_PRECONDITION,
    deadline: Code.RESOURCE_EXHAUSTED,
}

# How often each comes; a bomb costs a second.
KINDS = {
    good: 6,
    good_picture: 2,
    dtype: 6,
    value_dtype: 3,
    rank: 6,
    shape: 6,
    empty_batch: 1,
    lying_size: 8,
    huge_shape: 3,
    string_content: 3,
    other_values: 3,
    damaged_picture: 6,
    giant_picture: 3,
    bomb: 0.02,
    names: 8,
    broken_message: 10,
    examples: 8,
    bad_config: 1,
    unknown_method: 2,
    headers: 3,
    deadline: 3,
}
