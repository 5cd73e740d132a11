"""Tests of the titles: what they say how often, and in which words."""

import collections
import math
import unittest

from beam_jobs.shop import products
from beam_jobs.shop import settings
from beam_jobs.shop import titles
from sicot_tf.data import titles as title_words

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"物品{number}", "a/b")
    for number in range(120)
]
_NUM = 2000


def _make(**changes):
    shop = settings.ShopConfig(**changes)
    goods = products.Products(shop, _TYPES)
    return goods, titles.Titles(goods)


def _titles(goods, names):
    """One title of each SKU, twice."""
    for number in range(_NUM):
        sku = goods.sku(number % goods.shop.num_skus)
        yield sku, *names.title(sku, "train", number // goods.shop.num_skus)


class TitlesTest(unittest.TestCase):
    def assert_share(self, count, share, what):
        """Within 4.5 standard deviations of a binomial."""
        spread = 4.5 * math.sqrt(_NUM * share * (1 - share)) + 1e-9
        self.assertAlmostEqual(count, _NUM * share, delta=spread, msg=what)

    def test_shares(self):
        """Breaks if a knob of the titles does not do what its help says."""
        shares = {
            "colour_word_share": 0.8,
            "brand_word_share": 0.85,
            "type_word_share": 0.9,
            "pattern_word_share": 0.0,
            "model_word_share": 0.5,
        }
        goods, names = _make(**shares)
        said = collections.Counter()
        num_noise = collections.Counter()
        for sku, title, language, told in _titles(goods, names):
            self.assertEqual((language, told), ("en", sku))
            words = title.split()
            facts = names.words_of(sku, "en")
            for share, fact in zip(shares, facts, strict=True):
                said[share] += fact in words
            noise = [word for word in words if word not in facts]
            self.assertLessEqual(set(noise), set(titles.noise_words()))
            num_noise[len(noise)] += 1
        for name, share in shares.items():
            self.assert_share(said[name], share, name)
        # One to four phrases of one or two words.
        self.assertEqual(sorted(num_noise), list(range(1, 9)))

    def test_wrong_titles(self):
        """Breaks if the rate of wrong titles is not the one asked for."""
        goods, names = _make(wrong_title_share=0.25, brand_word_share=1.0)
        num_wrong = 0
        for sku, title, _, told in _titles(goods, names):
            num_wrong += told != sku
            brand = products.brand(goods.shop, told.brand)
            self.assertIn(brand.name, title.split())
        self.assert_share(num_wrong, 0.25, "wrong")

    def test_languages(self):
        """Breaks if Chinese titles have English words, or the mix is off."""
        goods, names = _make(title_language="mixed", type_word_share=1.0)
        num_chinese = 0
        for sku, title, language, _ in _titles(goods, names):
            num_chinese += language == "zh"
            kind = goods.types[sku.type]
            self.assertIn(
                kind.name_zh if language == "zh" else kind.name, title.split()
            )
        self.assert_share(num_chinese, 0.5, "Chinese")

    def test_model_numbers(self):
        """Breaks if a word that should be an SKU's own is another's too."""
        goods, names = _make(num_skus=300, num_model_words=3)
        words = [
            names.model_word(goods.sku(number), which)
            for number in range(300)
            for which in range(3)
        ]
        self.assertEqual(len(set(words)), 900)
        for word in words:
            self.assertRegex(word, r"\A[a-z]{2}[0-9]{4}\Z")

    def test_words_stay_words(self):
        """Breaks if a promotion word or an attribute falls apart, so that
        `noise_words.txt` names words that no vocabulary has."""
        known = titles.noise_words() + [
            word
            for names in (*products.COLOURS, *products.PATTERNS)
            for word in names[:2]
        ]
        self.assertEqual(
            title_words.tokenize(known), [[word] for word in known]
        )
        taken = titles.reserved_words()
        self.assertLess(set(known), taken)

    def test_the_number_decides(self):
        """Breaks if a title depends on which were written before it."""
        goods, names = _make()
        sku = goods.sku(7)
        first = names.title(sku, "train", 1)
        names.title(sku, "test", 0)
        self.assertEqual(names.title(sku, "train", 1), first)
        others = {names.title(sku, "train", each)[0] for each in range(9)}
        self.assertGreater(len(others), 5)


if __name__ == "__main__":
    unittest.main()
