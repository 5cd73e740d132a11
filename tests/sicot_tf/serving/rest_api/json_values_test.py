"""Documents and single values as TensorFlow Serving reads them."""

import base64
import json
import math

import numpy as np
import tensorflow as tf

from sicot_tf.serving.rest_api import json_values


class JsonValuesTest(tf.test.TestCase):
    def parse_error(self, body):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            json_values.parse(body)
        return caught.exception.message

    def test_what_is_no_json(self):
        """Breaks if one of these is read, or is a fault of the server."""
        for body in (
            *(b"", b" ", b"{", b'{"a" 1}', b'{"a":nul}', b'{"a":"b'),
            # Numbers that no double holds.
            *(b'{"a":1' + 400 * b"0" + b"}", b'{"a":1e999}'),
            b'{"a":1' + 5000 * b"0" + b"}",
            # Strings that are no UTF-8; half of a character.
            *(b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"\\ud800":NaN}'),
            *('{"a":1}'.encode("utf-16"), b"\xef\xbb\xbf"),
        ):
            with self.subTest(body=body[:40]):
                error = self.parse_error(body)
                self.assertStartsWith(error, "JSON Parse error: ")
                self.assertLess(len(error), 200)
        self.assertEqual(
            self.parse_error(b"[1, 2.5]"), "JSON Value: [1, 2.5] Is not object"
        )

    def test_what_stands_around_the_object(self):
        """Breaks if a byte order mark of Windows, or the NUL of a C program,
        makes a request fail."""
        text = '{"a": ["\ufeff你", 1.5]}'
        for extra in (
            b"",
            b" \r\n",
            b"\0",
            b" x",
            b"}",
            b"\xff\xfe",
            b"[" * 99,
        ):
            for document in (text, text.replace("1.5", "1.5, Infinity")):
                for start in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"):
                    parsed = json_values.parse(
                        start + document.encode() + extra
                    )
                    self.assertEqual(parsed["a"][:2], ["\ufeff你", 1.5])

    def test_errors_are_short(self):
        """Breaks if a wrong body of megabytes comes back, or fills the log."""
        error = self.parse_error(json.dumps(["x" * 99] * 99999).encode())
        self.assertLess(len(error), 300)
        error = json_values.about("é" * 999, "is wrong").message
        self.assertEqual(error, 'JSON Value: "' + "é" * 255 + " is wrong")

    def test_numbers(self):
        """Breaks if NaN or Infinity is refused, or a number is not exact."""
        document = json_values.parse(b'{"a": [NaN, Infinity, -Infinity, 1e-9]}')
        self.assertTrue(math.isnan(document["a"][0]))
        self.assertEqual(document["a"][1:], [math.inf, -math.inf, 1e-9])
        bits = np.random.default_rng(1).integers(0, 0x7FE << 52, 2000)
        numbers = bits.view(np.float64).tolist() + [2**64 - 1, -(2**63)]
        for extra in ([], [math.inf]):
            body = json.dumps({"a": extra + numbers}).encode()
            self.assertEqual(json_values.parse(body)["a"], extra + numbers)
        for extra in (b"", b", NaN"):
            # What 64 bits do not hold is a decimal.
            body = b'{"a": [1' + 30 * b"0" + b", 18446744073709551616" + extra
            [large, least, *_] = json_values.parse(body + b"]}")["a"]
            self.assertEqual((large, least), (1e30, 2.0**64))
            self.assertIsInstance(least, float)

    def test_deep_nesting(self):
        """Breaks if brackets alone can end the server (CVE-2025-0649)."""
        deep = b'{"a":' + 63 * b"[" + 63 * b"]" + b"}"
        self.assertLen(json_values.parse(deep), 1)
        for body in (
            b'{"a":' + 64 * b"[" + 64 * b"]" + b"}",
            b'{"a":' * 65 + b"NaN" + b"}" * 65,
            b"[" * 10**6,
            b'{"a":' * 10**5,
        ):
            self.assertIn("deeper than 64 levels", self.parse_error(body))
        # Many short lists, and brackets within strings, are not deep.
        value = {"a": [[1]] * 1000, 'b"]\\': "[{" * 1000 + '"[\\'}
        self.assertEqual(json_values.parse(json.dumps(value).encode()), value)

    def test_base64(self):
        """Breaks if line ends or missing padding spoil a picture."""
        image = bytes(range(256)) * 240
        for text, expected in (
            ("", b""),
            ("+/8=", b"\xfb\xff"),
            ("+/8", b"\xfb\xff"),
            ("YQ", b"a"),
            ("Y\nW\tJ j", b"abc"),
            ("YR==", b"a"),
            (base64.b64encode(image).decode(), image),
            (base64.encodebytes(image).decode(), image),
        ):
            self.assertEqual(json_values.to_bytes({"b64": text}), expected)
        for text in ("Y", "Y-_j", "Y=Q=", "é", "YQ==YQ=="):
            with self.assertRaises(tf.errors.InvalidArgumentError, msg=text):
                json_values.to_bytes({"b64": text})
        for value in ({"b64": 1}, {"b64": "", "c": 1}, {"B64": ""}, "", []):
            self.assertFalse(json_values.is_base64(value))


if __name__ == "__main__":
    tf.test.main()
