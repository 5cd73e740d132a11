"""A click log: who photographed what, was shown what, and clicked where.

    query -> ten products in an order -> places that are looked at
        -> those products there that fit and please, clicked -> rows

A customer looks at place k with probability 1 / k, whatever stands there, and
clicks what is there with probability `appeal.relevance * appeal.appeal`. So
the bias of the places is known, and a method that removes it can be judged.
Bots click another way, and some clicks are there twice: a log is never clean.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_jobs.shop import appeal
from beam_jobs.shop import catalogue
from beam_jobs.shop import chance
from beam_jobs.shop import products
from beam_jobs.shop import queries
from beam_jobs.shop import settings

_NUM_SHOWN = 10
# The list shows what fits best of so many products of any type, and of these
# at most of the same type.
_NUM_LOOKED_AT = 40
_NUM_SAME_TYPE = 8
# How often the product itself is found.
_RECALL = 0.8
# Of the order: a ranking by sight mistakes some products for others.
_RANKING_NOISE = 0.25
_DAYS = 28
_PAGES_OF_A_VISITOR = 5
_PAGES_OF_A_BOT = 200
_LEAST_BOTS = 2
# Seconds from a click to the same again.
_DOUBLE_CLICK = (0.2, 1.5)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of results and what came of it.

    Attributes:
        shown: in their order.
        clicks: places from 0 and seconds since the page was shown.
        num_double: clicks that are the one before them again.
    """

    query: queries.Query
    shown: Sequence[products.Sku]
    visitor: str
    is_bot: bool
    time: datetime.datetime
    clicks: Sequence[tuple[int, float]]
    num_double: int


def examination() -> list[float]:
    """The probability that a customer looks at a place; from the first on."""
    return (1 / np.arange(1, _NUM_SHOWN + 1)).tolist()


def bots(shop: settings.ShopConfig) -> list[str]:
    """Bots among the visitors: one clicks all, the next the first place."""
    pages = shop.bot_share * shop.num_clicks
    if not pages:
        return []
    count = max(_LEAST_BOTS, round(pages / _PAGES_OF_A_BOT))
    return [_visitor(shop, "bot", number) for number in range(count)]


def page(goods: products.Products, number: int) -> Page:
    """The page of results of a query."""
    shop = goods.shop
    query = queries.query(goods, number)
    rng = chance.generator(shop.seed, "page", number)
    shown = _shown(goods, query.sku, rng)
    is_bot = rng.random() < shop.bot_share
    if is_bot:
        names = bots(shop)
        which = int(rng.integers(len(names)))
        visitor = names[which]
        clicks = _clicks_of_bot(which, len(shown), rng)
    else:
        people = -(-shop.num_clicks // _PAGES_OF_A_VISITOR)
        visitor = _visitor(shop, "person", int(rng.integers(people)))
        clicks = _clicks_of_person(goods, query.sku, shown, rng)
    clicks, num_double = _doubled(clicks, shop.double_click_share, rng)
    share = (number + rng.random()) / shop.num_clicks
    return Page(
        query=query,
        shown=shown,
        visitor=visitor,
        is_bot=bool(is_bot),
        time=catalogue.LOG_START + datetime.timedelta(_DAYS * share),
        clicks=clicks,
        num_double=num_double,
    )


def rows(page: Page, image: str) -> list[dict[str, Any]]:
    """The rows of a page: one a click, or one that says there is none.

    Args:
        image: path of the query's picture.
    """
    shown = [catalogue.product_id(each) for each in page.shown]
    return [
        {
            "query_id": page.query.query_id,
            "visitor": page.visitor,
            "time": _iso(page.time + datetime.timedelta(seconds=seconds)),
            "image": image,
            "shown": shown,
            "clicked": None if place is None else shown[place],
            "position": None if place is None else place + 1,
            "split": page.query.split,
            "generated": True,
        }
        for place, seconds in page.clicks or [(None, 0.0)]
    ]


def _visitor(shop: settings.ShopConfig, kind: str, number: int) -> str:
    """Tells nobody what kind of a visitor it is."""
    return f"v{chance.number(shop.seed, 'visitor', kind, number):016x}"


def _iso(time: datetime.datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(
    goods: products.Products, query: products.Sku, rng: np.random.Generator
) -> list[products.Sku]:
    num_skus = goods.shop.num_skus
    found = {int(each) for each in rng.integers(num_skus, size=_NUM_LOOKED_AT)}
    found.update(goods.numbers_of_type(query.type, _NUM_SAME_TYPE, rng))
    candidates = [goods.sku(each) for each in sorted(found - {query.number})]
    if rng.random() < _RECALL:
        candidates.append(query)
    seen = np.array([appeal.relevance(query, each) for each in candidates])
    seen = seen + _RANKING_NOISE * rng.standard_normal(len(candidates))
    return [candidates[each] for each in np.argsort(-seen)[:_NUM_SHOWN]]


def _clicks_of_person(
    goods: products.Products,
    query: products.Sku,
    shown: Sequence[products.Sku],
    rng: np.random.Generator,
) -> list[tuple[int, float]]:
    clicks, seconds = [], 0.0
    for place, examined in enumerate(examination()[: len(shown)]):
        looks, likes, pause = rng.random(3)
        seconds += 2 + 8 * pause
        if looks >= examined:
            continue
        fit = appeal.relevance(query, shown[place])
        # Most of what is shown does not fit at all.
        if likes < fit and likes < fit * appeal.appeal(goods, shown[place]):
            clicks.append((place, seconds))
    return clicks


def _clicks_of_bot(
    which: int, num_shown: int, rng: np.random.Generator
) -> list[tuple[int, float]]:
    places = range(num_shown) if which % 2 == 0 else range(1)
    return [(place, 2.0 * place + 1 + rng.random()) for place in places]


def _doubled(
    clicks: Sequence[tuple[int, float]],
    share: float,
    rng: np.random.Generator,
) -> tuple[list[tuple[int, float]], int]:
    """The clicks with some of them again; how many."""
    with_doubles = []
    for place, seconds in clicks:
        again, pause = rng.random(), rng.uniform(*_DOUBLE_CLICK)
        with_doubles.append((place, seconds))
        if again < share:
            with_doubles.append((place, seconds + pause))
    return with_doubles, len(with_doubles) - len(clicks)
