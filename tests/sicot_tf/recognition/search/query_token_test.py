import base64

import numpy as np
from absl.testing import absltest

from sicot_tf.recognition.search import query_token

_SHA = "0123456789abcdef" * 4


def _unit(*values):
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


class QueryTokenTest(absltest.TestCase):
    def test_round_trip(self):
        """Breaks if another page looks for another vector than the first."""
        for seed in range(200):
            vector = np.random.default_rng(seed).normal(size=256)
            told = query_token.rounded(_unit(*vector))
            for category in (None, "可乐", "\ud800", "x" * 500):
                token = query_token.encode(
                    query_token.Query(told, category), _SHA
                )
                found = query_token.decode(token, _SHA, 256)
                np.testing.assert_array_equal(found.vector, told)
                self.assertEqual(found.category, category)
                self.assertRegex(token, "^[A-Za-z0-9_-]+$")

    def test_other_model(self):
        """Breaks if embeddings of two models are compared."""
        token = query_token.encode(
            query_token.Query(_unit(1, 2), None), "ff" * 32
        )
        with self.assertRaisesRegex(query_token.TokenError, "photo") as caught:
            query_token.decode(token, _SHA, 2)
        self.assertEqual(caught.exception.status, 409)

    def test_no_token(self):
        """Breaks if bytes that are no query are searched for, or raise
        anything else."""
        tag = bytes.fromhex(_SHA)[:8]

        def text(data):
            return base64.urlsafe_b64encode(data).decode().rstrip("=")

        halves = np.array([1, 0], "<f2").tobytes()
        for token in (
            "",
            "A",
            "é",
            "A" * 20_000,
            "a b",
            text(tag),
            text(tag + b"\xff\xff" + halves),
            text(tag + b"\1\0\xff" + halves),
            text(tag + b"\0\0" + halves[:3]),
            text(tag + b"\0\0" + halves * 2),
            text(tag + b"\0\0" + np.array([2, 0], "<f2").tobytes()),
            text(tag + b"\0\0" + np.array([0, 0], "<f2").tobytes()),
            text(tag + b"\0\0" + np.array([np.nan, 1], "<f2").tobytes()),
            text(tag + b"\0\0" + np.array([np.inf, 0], "<f2").tobytes()),
        ):
            with self.subTest(token[:20]):
                with self.assertRaises(query_token.TokenError) as caught:
                    query_token.decode(token, _SHA, 2)
                self.assertIn(caught.exception.status, (409, 422))


if __name__ == "__main__":
    absltest.main()
