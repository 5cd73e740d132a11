"""The products: an SKU is a type in a colour, by a brand, with a pattern.

    number of an SKU -> its combination, among all of them
                     -> its rank, which says how many pictures it has

Each is computed alone, and no two SKUs are one combination.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from beam_jobs.shop import chance
from beam_jobs.shop import settings

# English, Chinese, RGB. All differ in hue: a tint keeps the luminance.
COLOURS = (
    ("red", "红色", (222, 30, 40)),
    ("blue", "蓝色", (40, 70, 225)),
    ("green", "绿色", (30, 165, 60)),
    ("yellow", "黄色", (238, 212, 30)),
    ("purple", "紫色", (135, 50, 190)),
    ("orange", "橙色", (248, 130, 20)),
    ("turquoise", "青色", (20, 185, 185)),
    ("pink", "粉色", (248, 105, 180)),
    ("grey", "灰色", (140, 140, 140)),
    ("brown", "棕色", (140, 82, 45)),
    ("lime", "黄绿", (165, 225, 30)),
    ("indigo", "靛蓝", (75, 0, 150)),
)
PATTERNS = (
    ("plain", "纯色"),
    ("striped", "条纹"),
    ("dotted", "波点"),
    ("checked", "格子"),
    ("banded", "横纹"),
    ("diagonal", "斜纹"),
)
# Of a type, to look for other SKUs of it.
_NUM_COMBINATIONS = 2000
_CONSONANTS = "BCDFGHJKLMNPRSTVWXYZ"
_VOWELS = "aeiou"
# Behind consonant, vowel, consonant: no word of English comes about.
_ENDINGS = ("exo", "ivo", "uno", "ira", "osa", "eon", "ula", "aru")


@dataclasses.dataclass(frozen=True)
class Type:
    """What an SKU is: an emoji, by its code points."""

    type_id: str
    name: str
    name_zh: str
    category: str


@dataclasses.dataclass(frozen=True)
class Sku:
    """A product: its place in every list, from 0.

    Attributes:
        rank: by the number of training pictures.
    """

    number: int
    rank: int
    type: int
    colour: int
    brand: int
    pattern: int

    @property
    def sku_id(self) -> str:
        """The class in raw records."""
        return f"sku-{self.number:06d}"


@dataclasses.dataclass(frozen=True)
class Brand:
    """A name, and the two capitals of it that stand on the badge."""

    name: str
    letters: str


class Products:
    """All SKUs of a shop; holds none of them.

    Args:
        types: at least `num_types`.
    """

    def __init__(self, shop: settings.ShopConfig, types: Sequence[Type]):
        self.shop = shop
        self.types = tuple(types[: shop.num_types])
        if len(self.types) < shop.num_types:
            raise ValueError(
                f"Expected --num_types of at most {len(types)}, as many as "
                f"are drawn for every split, received {shop.num_types}."
            )
        self._sizes = (
            shop.num_types,
            shop.num_colours,
            shop.num_brands,
            shop.num_patterns,
        )
        combinations = 1
        for size in self._sizes:
            combinations *= size
        self._combination = chance.Permutation(
            combinations, shop.seed, "combinations"
        )
        self._rank = chance.Permutation(shop.num_skus, shop.seed, "ranks")

    def sku(self, number: int) -> Sku:
        """The SKU of a number below `num_skus`."""
        rest = self._combination(number)
        places = []
        for size in self._sizes:
            rest, place = divmod(rest, size)
            places.append(place)
        return Sku(number, self._rank(number), *places)

    def sku_of_rank(self, rank: int) -> Sku:
        """The SKU with so many others before it."""
        return self.sku(self._rank.inverse(rank))

    def numbers_of_type(
        self, type_index: int, most: int, rng: np.random.Generator
    ) -> list[int]:
        """At most so many SKUs of a type, chosen by chance, by number.

        Looks at a part of a type's combinations: few of them are sold.
        """
        num_types = self._sizes[0]
        num_others = self._combination.size // num_types
        others = rng.permutation(num_others)[:_NUM_COMBINATIONS]
        numbers = self._combination.inverse_of(type_index + num_types * others)
        return numbers[numbers < self.shop.num_skus][:most].tolist()

    def name(self, sku: Sku) -> str:
        """What people call it."""
        return (
            f"{COLOURS[sku.colour][0]} {brand(self.shop, sku.brand).name} "
            f"{self.types[sku.type].name}, {PATTERNS[sku.pattern][0]}"
        )


def num_head(shop: settings.ShopConfig) -> int:
    """SKUs in the head: those of the first ranks."""
    return round(shop.head_share * shop.num_skus)


def is_new(shop: settings.ShopConfig, rank: int) -> bool:
    """Whether no classifier knows an SKU: spread evenly over the ranks."""
    share = shop.new_sku_share
    return int((rank + 1) * share) > int(rank * share)


def num_train_pictures(shop: settings.ShopConfig, rank: int) -> int:
    """Training pictures of a rank, rounded down.

    With x from 0 at the first rank of the head, or of the tail, to 1 at its
    last: `from + (to - from) x` in the head, `to + (from - to) (1 - x)^2` in
    the tail. None of what is new.
    """
    if is_new(shop, rank):
        return 0
    head = num_head(shop)
    if rank < head:
        x = rank / max(1, head - 1)
        return int(shop.head_from + (shop.head_to - shop.head_from) * x)
    x = (rank - head) / max(1, shop.num_skus - head - 1)
    return int(shop.tail_to + (shop.tail_from - shop.tail_to) * (1 - x) ** 2)


def num_pictures(shop: settings.ShopConfig, sku: Sku) -> dict[str, int]:
    """Pictures of an SKU by split; none of what is new."""
    if is_new(shop, sku.rank):
        return dict.fromkeys(("train", "val", "test"), 0)
    return {
        "train": num_train_pictures(shop, sku.rank),
        "val": shop.val_pictures,
        "test": shop.test_pictures,
    }


@functools.lru_cache(maxsize=512)
def brand(shop: settings.ShopConfig, index: int) -> Brand:
    """The brand of an index below 400; no two share their letters."""
    pairs = chance.Permutation(len(_CONSONANTS) ** 2, shop.seed, "brands")
    first, second = divmod(pairs(index), len(_CONSONANTS))
    first, second = _CONSONANTS[first], _CONSONANTS[second]
    bits = chance.number(shop.seed, "brand", index)
    vowel = _VOWELS[bits % len(_VOWELS)]
    ending = _ENDINGS[bits // len(_VOWELS) % len(_ENDINGS)]
    return Brand(f"{first}{vowel}{second.lower()}{ending}", first + second)
