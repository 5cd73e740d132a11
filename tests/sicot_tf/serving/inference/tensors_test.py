import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.framework import types_pb2

from sicot_tf.serving.inference import tensors

_NUMBER_TYPES = (
    tf.bfloat16,
    tf.bool,
    tf.complex64,
    tf.complex128,
    tf.float16,
    tf.float32,
    tf.float64,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
)


def shape(*sizes):
    return tensor_shape_pb2.TensorShapeProto(
        dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in sizes]
    )


def float_tensor(sizes, values=(), **fields):
    return tensor_pb2.TensorProto(
        dtype=types_pb2.DT_FLOAT,
        tensor_shape=shape(*sizes),
        float_val=values,
        **fields,
    )


def make_tensor(datatype, value, **options):
    proto = tensor_pb2.TensorProto()
    tensors.fill_tensor(proto, datatype, value, **options)
    return proto


def parse_by_tensorflow(proto):
    """What `Tensor::FromProto` of TensorFlow reads, in C++."""
    return tf.io.parse_tensor(
        proto.SerializeToString(), tf.as_dtype(proto.dtype)
    ).numpy()


class ParseTensorTest(tf.test.TestCase):
    def assert_equals_tensorflow(self, proto):
        expected = parse_by_tensorflow(proto)
        received = tensors.parse_tensor("x", proto)
        self.assertEqual(received.dtype, expected.dtype)
        self.assertEqual(received.shape, expected.shape)
        self.assertEqual(received.tolist(), expected.tolist())

    def assert_refused(self, proto):
        with self.assertRaises(tf.errors.InvalidArgumentError) as raised:
            tensors.parse_tensor("pixels", proto)
        self.assertEqual(
            raised.exception.message, "tensor parsing error: pixels"
        )

    def test_every_type_in_both_forms(self):
        """Clients choose: bytes, or a list of values of the type's field."""
        for dtype in _NUMBER_TYPES:
            array = np.array([[0, 1, 1], [2, 0, 3]]).astype(
                dtype.as_numpy_dtype
            )
            for as_content in (False, True):
                with self.subTest(dtype=dtype.name, as_content=as_content):
                    proto = make_tensor(
                        dtype.as_datatype_enum, array, as_content=as_content
                    )
                    self.assertEqual(bool(proto.tensor_content), as_content)
                    received = tensors.parse_tensor("x", proto)
                    self.assertEqual(received.dtype, array.dtype)
                    self.assertEqual(received.tolist(), array.tolist())
                    self.assert_equals_tensorflow(proto)

    def test_extreme_values(self):
        """A sign or an infinity lost on the way would be a wrong answer."""
        for values in (
            np.float32([np.inf, -np.inf, 1e-45, -0.0, 3.4028235e38]),
            np.float64([np.inf, 5e-324, -1.7976931348623157e308]),
            np.int8([-128, 127]),
            np.int64([-(2**63), 2**63 - 1]),
            np.uint64([2**64 - 1]),
        ):
            datatype = tf.as_dtype(values.dtype).as_datatype_enum
            proto = make_tensor(datatype, values)
            received = tensors.parse_tensor("x", proto)
            self.assertEqual(received.tobytes(), values.tobytes())
            self.assert_equals_tensorflow(proto)
        nan = tensors.parse_tensor("x", float_tensor([1], [np.nan]))
        self.assertTrue(np.isnan(nan[0]))

    def test_strings(self):
        """Encoded pictures hold any byte, zeros too."""
        values = [b"", b"\x00\xff\x00", "可乐".encode(), b"x" * 300]
        proto = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING,
            tensor_shape=shape(2, 2),
            string_val=values,
        )
        received = tensors.parse_tensor("x", proto)
        self.assertEqual(received.dtype, object)
        self.assertEqual(received.tolist(), [values[:2], values[2:]])
        self.assert_equals_tensorflow(proto)
        array = np.array(values, object)
        content = make_tensor(types_pb2.DT_STRING, array, as_content=True)
        self.assertEqual(
            tensors.parse_tensor("x", content).tolist(), array.tolist()
        )

    def test_number_of_values_and_shape(self):
        """As in C++: the last value is repeated, too many are left out.

        Without room for a value none is looked at.
        """
        for values in ([], [7.0], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]):
            for sizes in ([3], [], [0], [2, 0, 9]):
                self.assert_equals_tensorflow(float_tensor(sizes, values))
                self.assert_equals_tensorflow(
                    tensor_pb2.TensorProto(
                        dtype=types_pb2.DT_INT32,
                        tensor_shape=shape(*sizes),
                        int_val=[int(value) for value in values],
                    )
                )
            self.assert_equals_tensorflow(
                tensor_pb2.TensorProto(
                    dtype=types_pb2.DT_STRING,
                    tensor_shape=shape(3),
                    string_val=[b"%f" % value for value in values],
                )
            )
        self.assert_equals_tensorflow(
            float_tensor([0], tensor_content=bytes(3))
        )

    def test_values_of_another_type_are_not_seen(self):
        """As in C++; a client that fills the wrong list gets zeros."""
        proto = float_tensor([2], double_val=[1.0, 2.0], int_val=[3])
        self.assertAllEqual(tensors.parse_tensor("x", proto), [0.0, 0.0])
        self.assert_equals_tensorflow(proto)

    def test_many_typed_values(self):
        """A picture as `float_val`: read in C++, a hundred times faster."""
        array = np.random.default_rng(0).random((50, 100), np.float32)
        proto = float_tensor(array.shape, array.ravel())
        self.assertAllEqual(tensors.parse_tensor("x", proto), array)
        self.assert_equals_tensorflow(float_tensor([50, 100], [1.0, 2.0]))

    def test_refused(self):
        """A contradiction must be an answer, not a crash."""
        for proto in (
            float_tensor([3], tensor_content=bytes(8)),
            float_tensor([3], tensor_content=bytes(13)),
            float_tensor([-1], [1.0]),
            float_tensor([2**62, 2**62], [1.0]),
            float_tensor([1] * 255, [1.0]),
            tensor_pb2.TensorProto(
                dtype=types_pb2.DT_FLOAT,
                tensor_shape=tensor_shape_pb2.TensorShapeProto(
                    unknown_rank=True
                ),
            ),
            tensor_pb2.TensorProto(float_val=[1.0]),
            tensor_pb2.TensorProto(dtype=types_pb2.DT_RESOURCE),
            tensor_pb2.TensorProto(dtype=types_pb2.DT_VARIANT),
            tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT_REF),
            tensor_pb2.TensorProto(dtype=777),
            tensor_pb2.TensorProto(
                dtype=types_pb2.DT_STRING,
                tensor_shape=shape(2),
                tensor_content=b"\x05\x05abc",
            ),
        ):
            with self.subTest(proto=str(proto)[:60]):
                self.assert_refused(proto)

    def test_few_bytes_can_not_take_all_memory(self):
        """One value for a shape of 400 GB would end the server."""
        for datatype in (
            types_pb2.DT_FLOAT,
            types_pb2.DT_STRING,
            types_pb2.DT_INT8,
        ):
            self.assert_refused(
                tensor_pb2.TensorProto(
                    dtype=datatype, tensor_shape=shape(100_000, 1_000_000)
                )
            )


class MakeTensorTest(tf.test.TestCase):
    def test_typed_values(self):
        """Clients in other languages read the list of the type's field."""
        for array, field in (
            (np.float32([[1.5, -2]]), "float_val"),
            (np.float64([[1.5, -2]]), "double_val"),
            (np.int8([[1, -2]]), "int_val"),
            (np.uint16([[1, 2]]), "int_val"),
            (np.int64([[1, -2]]), "int64_val"),
            (np.uint32([[1, 2]]), "uint32_val"),
            (np.uint64([[1, 2]]), "uint64_val"),
            (np.array([[True, False]]), "bool_val"),
            (np.array([[b"a", b"\xff"]], object), "string_val"),
        ):
            with self.subTest(field=field, dtype=array.dtype):
                datatype = (
                    types_pb2.DT_STRING
                    if array.dtype == object
                    else tf.as_dtype(array.dtype).as_datatype_enum
                )
                proto = make_tensor(datatype, array)
                self.assertEqual(proto.dtype, datatype)
                self.assertEqual(proto.tensor_shape, shape(1, 2))
                self.assertEqual(
                    list(getattr(proto, field)), array.ravel().tolist()
                )
                self.assertEqual(proto.tensor_content, b"")
                self.assertAllEqual(tf.make_ndarray(proto), array)

    def test_no_axes_and_no_values(self):
        """A number has a shape without sizes, an empty batch no values."""
        proto = make_tensor(types_pb2.DT_FLOAT, np.float32(2.5))
        self.assertTrue(proto.HasField("tensor_shape"))
        self.assertEqual(list(proto.tensor_shape.dim), [])
        self.assertEqual(list(proto.float_val), [2.5])
        for as_content in (False, True):
            proto = make_tensor(
                types_pb2.DT_FLOAT,
                np.zeros((0, 3), np.float32),
                as_content=as_content,
            )
            self.assertEqual(proto.tensor_shape, shape(0, 3))
            self.assertEqual(tensors.parse_tensor("x", proto).shape, (0, 3))

    def test_not_contiguous(self):
        """Slices of a batch keep the strides of the batch."""
        array = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
        for as_content in (False, True):
            proto = make_tensor(
                types_pb2.DT_FLOAT, array, as_content=as_content
            )
            self.assertAllEqual(tf.make_ndarray(proto), array)


if __name__ == "__main__":
    tf.test.main()
