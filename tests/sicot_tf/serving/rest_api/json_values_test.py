"""Tests of sicot_tf.serving.rest_api.json_values."""

import base64
import json
import math
import time

import numpy as np
import tensorflow as tf

from sicot_tf.serving.rest_api import json_values


class JsonValuesTest(tf.test.TestCase):
    """Documents and single values as TensorFlow Serving reads them."""

    def parse_error(self, body):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            json_values.parse(body)
        return caught.exception.message

    def test_syntax_errors_have_the_texts_of_rapidjson(self):
        """Clients and their logs search for these texts."""
        for body, text in (
            (b"", "The document is empty"),
            (b" ", "The document is empty. at offset: 1"),
            (b"{", "Missing a name for object member. at offset: 1"),
            (b'{"a" 1}', "Missing a colon after a name of object member. at"),
            (b'{"a":nul}', "Invalid value. at offset: 8"),
            (b'{"a":1' + 400 * b"0" + b"}", "Number too big to be stored in"),
            (b'{"a":1e999}', "Number too big to be stored in double. at off"),
            (b'{"a":"b', "Missing a closing quotation mark in string. at"),
            (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid."),
            (b'{"a":"\xff"}', "Invalid encoding in string. at offset: 6"),
            (b'{"a":1 \xff', "Invalid encoding in string. at offset: 7"),
            # Only UTF-8 is read.
            ('{"a":1}'.encode("utf-16"), "Invalid encoding in string. at off"),
            (
                '{"a":1}'.encode("utf-16-be"),
                "The document is empty. at offset: 0",
            ),
            (b"\xef\xbb\xbf", "The document is empty"),
        ):
            with self.subTest(body=body):
                self.assertStartsWith(
                    self.parse_error(body), f"JSON Parse error: {text}"
                )

    def test_what_stands_around_the_object(self):
        """Windows writes a byte order mark, C programs send their NUL."""
        text = '{"a": ["\ufeff你", 1.5]}'
        for extra in (
            b"",
            b" \r\n",
            b"\0",
            b"\0\xff\0{",
            b" x",
            b"}",
            b'{"a": 2}',
            b"\xff\xfe",
            b"\n--boundary--\n",
            b"[" * 1000,
        ):
            for document in (text, text.replace("1.5", "1.5, Infinity")):
                for start in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"):
                    parsed = json_values.parse(
                        start + document.encode() + extra
                    )
                    self.assertEqual(parsed["a"][:2], ["\ufeff你", 1.5])

    def test_document_is_an_object(self):
        self.assertEqual(
            self.parse_error(b"[1, 2.5]"),
            "JSON Value: [\n    1,\n    2.5\n] Is not object",
        )

    def test_values_of_errors_are_cut(self):
        """A wrong body of megabytes must not come back, nor fill the log."""
        text = json_values.to_text({"é" * 300: [1] * 1000})
        self.assertEqual(text, '{\n    "' + "é" * 124)
        self.assertLen(
            self.parse_error(json.dumps(["x"] * 99999).encode()), 282
        )

    def test_nan_and_infinity(self):
        """No standard JSON, but TensorFlow Serving reads and writes them."""
        document = json_values.parse(b'{"a": [NaN, Infinity, -Infinity, 1e-9]}')
        self.assertTrue(math.isnan(document["a"][0]))
        self.assertEqual(document["a"][1:], [math.inf, -math.inf, 1e-9])

    def test_numbers_are_exact(self):
        """RapidJSON's own are wrong in the last bits, one in four of them."""
        bits = np.random.default_rng(1).integers(0, 0x7FE << 52, 2000)
        numbers = bits.view(np.float64).tolist() + [2**64 - 1, -(2**63)]
        for extra in ([], [math.inf]):
            body = json.dumps({"a": extra + numbers}).encode()
            self.assertEqual(json_values.parse(body)["a"], extra + numbers)

    def test_integers_above_64_bits_are_decimals(self):
        for extra in (b"", b", NaN"):
            document = json_values.parse(
                b'{"a": [1' + 30 * b"0" + extra + b"]}"
            )
            self.assertEqual(float(document["a"][0]), 1e30)

    def test_deep_nesting_is_refused_before_it_is_parsed(self):
        """CVE-2025-0649: brackets alone overflowed a server's stack."""
        deep = b'{"a":' + 63 * b"[" + 63 * b"]" + b"}"
        self.assertLen(json_values.parse(deep), 1)
        too_deep = "nested deeper than 64 levels"
        for body in (
            b'{"a":' + 64 * b"[" + 64 * b"]" + b"}",
            b'{"a":' * 65 + b"1" + b"}" * 65,
            b"[" * 10**6,
            b'{"a":' * 10**5,
            b'["\\"]", ' * 10**5,
        ):
            self.assertIn(too_deep, self.parse_error(body))

    def test_brackets_that_nest_nothing(self):
        """Many short lists, and brackets within strings, are not deep."""
        value = {"a": [[1]] * 1000, 'b"]\\': "[{" * 1000 + '"[\\'}
        self.assertEqual(json_values.parse(json.dumps(value).encode()), value)

    def test_depth_is_measured_in_linear_time(self):
        """A string without an end must not be searched again and again."""
        start = time.process_time()
        for body in (b'[{"' * 30, b"[" * 65 + b'"' + b'\\"' * 10**6):
            self.parse_error(body)
        # 10 ms; a search from each quotation mark would take hours.
        self.assertLess(time.process_time() - start, 30)

    def test_base64_as_absl_reads_it(self):
        """White space anywhere; padding, or none."""
        for text, expected in (
            ("", b""),
            ("+/8=", b"\xfb\xff"),
            ("+/8", b"\xfb\xff"),
            ("YQ", b"a"),
            ("Y\nW\tJ j", b"abc"),
            ("YR==", b"a"),
        ):
            self.assertEqual(json_values.to_bytes({"b64": text}), expected)
        for text in ("Y", "YQ=", "YWJj=", "Y-_j", "Y=Q=", "é", "YQ==YQ=="):
            with self.assertRaises(json_values.DoesNotFit, msg=text):
                json_values.to_bytes({"b64": text})

    def test_only_an_object_of_b64_alone_is_base64(self):
        for value in ({"b64": 1}, {"b64": "", "c": 1}, {"B64": ""}, "", []):
            self.assertFalse(json_values.is_base64(value))
        self.assertTrue(json_values.is_base64({"b64": ""}))

    def test_base64_images_cost_little(self):
        """Bodies of one image take the quick way past every slow check."""
        image = bytes(range(256)) * 240  # 61 KB.
        body = json.dumps(
            {"instances": [{"b64": base64.b64encode(image).decode()}]}
        ).encode()
        [row] = json_values.parse(body)["instances"]
        self.assertEqual(json_values.to_bytes(row), image)


if __name__ == "__main__":
    tf.test.main()
