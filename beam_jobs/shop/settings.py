"""What a generated shop is made of; its flags, help and checks come from here.

Same settings, same shop. Imports nothing heavy.
"""

import dataclasses

from sicot_tf import settings

_setting = settings.setting


@dataclasses.dataclass(frozen=True)
class ShopConfig:
    """A shop of generated products."""

    __post_init__ = settings.check

    num_skus: int = _setting(
        1_000, "products, each a class", least=100, most=1_000_000
    )
    image_size: int = _setting(
        64, "side of the pictures in pixels", least=32, most=1024
    )
    # === An SKU is one of each ===
    num_types: int = _setting(
        120, "types of things, each drawn by several artists", least=1
    )
    num_colours: int = _setting(
        10, "colours that drawings are tinted with", least=1, most=12
    )
    num_brands: int = _setting(
        40, "brands, each with a badge of its own", least=1, most=400
    )
    num_patterns: int = _setting(
        6, "patterns of the label behind the drawing", least=1, most=6
    )
    # === Titles ===
    type_word_share: float = _setting(
        0.9, "share of the titles that name the type", most=1
    )
    colour_word_share: float = _setting(
        0.8, "share that name the colour", most=1
    )
    brand_word_share: float = _setting(
        0.85, "share that name the brand", most=1
    )
    pattern_word_share: float = _setting(
        0.6, "share that name the pattern", most=1
    )
    model_word_share: float = _setting(
        0.5, "share that have a model number, a word of the SKU alone", most=1
    )
    num_model_words: int = _setting(
        1,
        "model numbers an SKU has, one of them in a title; more of them make "
        "shared words a smaller part of the vocabulary",
        least=1,
        most=5,
    )
    min_noise_words: int = _setting(
        1, "fewest promotion phrases in a title", most=10
    )
    max_noise_words: int = _setting(
        4, "most promotion phrases in a title", most=10
    )
    title_language: str = _setting(
        "english",
        "mixed: half of the titles are Chinese",
        choices=("english", "chinese", "mixed"),
    )
    wrong_title_share: float = _setting(
        0.0, "share of the titles that are another product's", most=1
    )
    # === Class sizes, by rank: linear in the head, quadratic in the tail ===
    head_share: float = _setting(0.17, "share of the SKUs in the head", most=1)
    head_from: int = _setting(
        100, "training pictures of the first SKU of the head", least=1
    )
    head_to: int = _setting(40, "and of its last one", least=1)
    tail_from: int = _setting(
        20, "training pictures of the first SKU of the tail", least=1
    )
    tail_to: int = _setting(1, "and of its last one", least=1)
    val_pictures: int = _setting(
        2, "validation pictures of each SKU, by other artists"
    )
    test_pictures: int = _setting(
        5, "test pictures of each SKU, by other artists still", least=1
    )
    # === Beside the pictures of single products ===
    num_scenes: int = _setting(
        300, "pictures of one to four products with their boxes"
    )
    num_clicks: int = _setting(
        5_000,
        "pages of results in the click log, each of a query picture",
    )
    catalogue_pictures: int = _setting(
        1,
        "pictures of a product in the catalogue: one upright on white, then "
        "turned ones on any ground",
        least=1,
        most=20,
    )
    poor_picture_share: float = _setting(
        0.25,
        "share of the catalogue pictures that are blurred, small or lettered, "
        "where a product has several",
        most=1,
    )
    new_sku_share: float = _setting(
        0.0,
        "share of the SKUs without raw records: in catalogue, scenes and "
        "clicks, but unknown to a classifier",
        most=0.9,
    )
    bot_share: float = _setting(
        0.05, "share of the pages of results that bots asked for", most=1
    )
    double_click_share: float = _setting(
        0.05, "share of the clicks that are there twice", most=1
    )
    seed: int = _setting(0, "of everything", most=2**32 - 1)


def check(shop: ShopConfig) -> None:
    """Holds settings against each other.

    Raises:
        ValueError: what was expected, received, and what to do.
    """
    combinations = (
        shop.num_types * shop.num_colours * shop.num_brands * shop.num_patterns
    )
    if shop.num_skus > combinations:
        raise ValueError(
            f"Expected --num_skus of at most {combinations:,}, the "
            f"combinations of {shop.num_types} types, {shop.num_colours} "
            f"colours, {shop.num_brands} brands and {shop.num_patterns} "
            f"patterns, received {shop.num_skus:,}. Raise --num_types (to "
            "some 500) or --num_brands."
        )
    for more, less in (
        ("max_noise_words", "min_noise_words"),
        ("head_from", "head_to"),
        ("head_to", "tail_from"),
        ("tail_from", "tail_to"),
    ):
        if getattr(shop, more) < getattr(shop, less):
            raise ValueError(
                f"Expected --{more} of at least --{less}, "
                f"{getattr(shop, less)}, received {getattr(shop, more)}."
            )
