"""Titles as sellers write them: some of the truth, and promotion around it.

SKU -> words of its attributes, each at its share -> promotion -> shuffled
"""

from collections.abc import Iterator

import numpy as np

from beam_jobs.shop import chance
from beam_jobs.shop import products

# Words that no type is named by: what has one of them is left out.
_NOISE = {
    "en": (
        *("free shipping", "new arrival", "2020", "hot sale", "best seller"),
        *("official store", "limited offer", "discount", "wholesale"),
        *("original", "genuine", "premium quality", "in stock", "must have"),
        *("clearance", "fast delivery", "factory price", "trending now"),
        *("special deal", "top rated", "promotion", "bargain", "exclusive"),
        "2021",
    ),
    "zh": (
        *("包邮", "新品", "正品", "特价", "热卖", "爆款", "限时", "促销"),
        *("官方", "旗舰店", "优惠", "折扣", "现货", "批发", "秒杀", "清仓"),
        *("进口", "高档", "品质", "新款", "经典", "时尚", "2020", "2021"),
    ),
}
_NUM_MODELS = 26 * 26 * 10_000


def noise_words() -> list[str]:
    """The words of all promotion phrases, as a vocabulary has them."""
    phrases = (*_NOISE["en"], *_NOISE["zh"])
    return sorted({word for phrase in phrases for word in phrase.split()})


def reserved_words() -> set[str]:
    """Words that mean something else than a type: no type is named by them."""
    words = {word for name in products.PATTERNS for word in name[:2]}
    words |= {word for name in products.COLOURS for word in name[:2]}
    # Of drawings that people tell apart by their colour.
    words |= {"black", "white", "blue", "gold", "silver", "dark", "light"}
    return words | set(noise_words())


class Titles:
    """The titles of a shop's pictures."""

    def __init__(self, goods: products.Products):
        self._goods = goods
        self._shop = goods.shop
        self._models = chance.Permutation(
            _NUM_MODELS, self._shop.seed, "models"
        )

    def title(
        self, sku: products.Sku, split: str, picture: int
    ) -> tuple[str, str, products.Sku]:
        """The title of a picture.

        Returns:
            The title, its language, and the SKU that it tells of: another
            one if it is wrong.
        """
        shop = self._shop
        rng = chance.generator(shop.seed, "title", sku.number, split, picture)
        chinese, wrong = rng.random(2)
        language = {
            "english": "en",
            "chinese": "zh",
            "mixed": "zh" if chinese < 0.5 else "en",
        }[shop.title_language]
        if wrong < shop.wrong_title_share:
            step = 1 + int(rng.integers(shop.num_skus - 1))
            sku = self._goods.sku((sku.number + step) % shop.num_skus)
        phrases = list(self._attributes(sku, language, rng))
        phrases += self._noise(language, rng)
        order = rng.permutation(len(phrases))
        return " ".join(phrases[each] for each in order), language, sku

    def full_title(self, sku: products.Sku) -> str:
        """Every attribute in English, in order, without promotion."""
        return " ".join(self.words_of(sku, "en"))

    def words_of(self, sku: products.Sku, language: str) -> list[str]:
        """What colour, brand, type and pattern are called; a model number."""
        at = 1 if language == "zh" else 0
        a_type = self._goods.types[sku.type]
        return [
            products.COLOURS[sku.colour][at],
            products.brand(self._shop, sku.brand).name,
            a_type.name_zh if at else a_type.name,
            products.PATTERNS[sku.pattern][at],
            self.model_word(sku, 0),
        ]

    def model_word(self, sku: products.Sku, which: int) -> str:
        """A model number, for example `kx0412`: no other SKU has it."""
        number = self._models(sku.number * self._shop.num_model_words + which)
        letters, digits = divmod(number, 10_000)
        first, second = divmod(letters, 26)
        return f"{chr(97 + first)}{chr(97 + second)}{digits:04d}"

    def _attributes(
        self, sku: products.Sku, language: str, rng: np.random.Generator
    ) -> Iterator[str]:
        shop = self._shop
        which = int(rng.integers(shop.num_model_words))
        words = self.words_of(sku, language)
        words[-1] = self.model_word(sku, which)
        shares = (
            shop.colour_word_share,
            shop.brand_word_share,
            shop.type_word_share,
            shop.pattern_word_share,
            shop.model_word_share,
        )
        for word, share, chance_of_it in zip(words, shares, rng.random(5)):
            if chance_of_it < share:
                yield word

    def _noise(self, language: str, rng: np.random.Generator) -> list[str]:
        least, most = self._shop.min_noise_words, self._shop.max_noise_words
        phrases = _NOISE[language]
        count = int(rng.integers(least, most + 1))
        places = rng.permutation(len(phrases))[:count]
        return [phrases[each] for each in places]
