"""Tests of the assignment of visitors to variants."""

import collections

from absl.testing import absltest
from absl.testing import parameterized

from sicot_tf.recognition.visits import events
from sicot_tf.recognition.visits import variants

_VISITORS = [f"visitor-{number}" for number in range(10_000)]


class AssignTest(parameterized.TestCase):
    def test_known_place(self):
        """Breaks if an update of the code draws all visitors anew.

        `printf 'salt\\nv' | sha256sum` begins with f5c6c0f1: 0xf5c6c0f1 / 2^32
        is 0.960064.
        """
        for share, expected in ((0.96, "b"), (0.9601, "a")):
            shares = {"a": share, "b": 1 - share}
            self.assertEqual(variants.assign("v", shares, "salt"), expected)

    def test_shares(self):
        """Breaks if variants get other shares than they were given.

        Three standard deviations of 10,000 draws with 0.2: 0.012.
        """
        shares = {"b": 0.8, "a": 0.2}
        counts = collections.Counter(
            variants.assign(each, shares, "s") for each in _VISITORS
        )
        self.assertAlmostEqual(counts["a"] / 10_000, 0.2, delta=0.012)
        self.assertEqual(counts["a"] + counts["b"], 10_000)

    def test_other_order(self):
        """Breaks if two replicas whose settings name the variants in another
        order disagree."""
        for each in _VISITORS[:100]:
            self.assertEqual(
                variants.assign(each, {"a": 0.3, "b": 0.7}, "s"),
                variants.assign(each, {"b": 0.7, "a": 0.3}, "s"),
            )

    def test_change_of_shares(self):
        """Breaks if others than the difference of the shares move."""
        moves = collections.Counter(
            (
                variants.assign(each, {"a": 0.1, "b": 0.4, "c": 0.5}, "s"),
                variants.assign(each, {"a": 0.3, "b": 0.2, "c": 0.5}, "s"),
            )
            for each in _VISITORS
        )
        self.assertCountEqual(
            moves, [("a", "a"), ("b", "a"), ("b", "b"), ("c", "c")]
        )
        self.assertAlmostEqual(moves["b", "a"] / 10_000, 0.2, delta=0.012)

    def test_salt(self):
        """Breaks if the groups of one test are those of the next: of two
        independent halves half agree (three standard deviations: 0.015)."""
        shares = {"a": 0.5, "b": 0.5}
        same = sum(
            variants.assign(each, shares, "first")
            == variants.assign(each, shares, "second")
            for each in _VISITORS
        )
        self.assertAlmostEqual(same / 10_000, 0.5, delta=0.015)

    def test_none_for_no_share(self):
        """Breaks if a variant that is switched off still gets visitors."""
        shares = {"a": 0.0, "b": 1.0, "c": 0.0}
        found = {variants.assign(each, shares, "s") for each in _VISITORS}
        self.assertEqual(found, {"b"})

    @parameterized.parameters(
        ({},), ({"a": 0.5},), ({"a": 1.5, "b": -0.5},), ({"a b": 1.0},)
    )
    def test_refuses_shares(self, shares):
        """Breaks if visitors are lost to shares that are no whole."""
        with self.assertRaisesRegex(ValueError, "sum to 1, received"):
            variants.assign("v", shares, "s")


class VariantsTest(parameterized.TestCase):
    def test_parse_shares(self):
        """Breaks if shares are read other than they are written."""
        self.assertEqual(
            variants.parse_shares("current=0.9, new=0.1"),
            {"current": 0.9, "new": 0.1},
        )

    @parameterized.parameters("", "a", "a=x,b=1", "a=0.5,a=0.5", "a=nan,b=1")
    def test_refuses_text(self, text):
        """Breaks if a mistyped share becomes another test."""
        with self.assertRaisesRegex(ValueError, "each variant once"):
            variants.parse_shares(text)

    def test_new_visitor(self):
        """Breaks if two visitors share an id, or events refuse it."""
        visitor = variants.new_visitor()
        self.assertNotEqual(visitor, variants.new_visitor())
        row = {"event_id": "e", "event": "visit", "variant": "a"}
        row |= {"time": "2026-11-27T22:00:00Z", "visitor": visitor}
        self.assertEqual(events.parse(row).visitor, visitor)

    @parameterized.parameters(
        (None, True),
        ("", True),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://google.com)", True),
        ("Mozilla/5.0 (compatible; bingbot/2.0)", True),
        ("Mozilla/5.0 (compatible; YandexBot/3.0)", True),
        ("Baiduspider+(+http://www.baidu.com/search/spider.htm)", True),
        ("curl/8.5.0", True),
        ("python-requests/2.32", True),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
            "Gecko) HeadlessChrome/130.0 Safari/537.36",
            True,
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) AppleWebKit/537.36 "
            "(KHTML, like Gecko) Chrome/130.0 Mobile Safari/537.36",
            False,
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) "
            "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari",
            False,
        ),
        ("Mozilla/5.0 (X11; Linux; rv:132.0) Firefox/132.0", False),
    )
    def test_is_robot(self, user_agent, expected):
        """Breaks if robots count as visitors, or people do not."""
        self.assertEqual(variants.is_robot(user_agent), expected)


if __name__ == "__main__":
    absltest.main()
