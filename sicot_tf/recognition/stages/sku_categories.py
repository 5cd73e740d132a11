"""Which categories a SKU has, as its products in the index say."""

import contextlib
import itertools
import operator
import pathlib
from collections.abc import Mapping

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations


class SkuCategories:
    """Read once from a generation of the product index, then looked up.

    A SKU takes about 100 bytes in memory: most have one category, and those
    of a category share its dictionary.

    Args:
        generation: the folder of one generation, or of all (`LATEST` is
            taken).

    Raises:
        ValueError: if there is no index.
    """

    def __init__(self, generation: pathlib.Path):
        folder = generations.resolve_generation(generation)
        known: dict[tuple, dict[str, float]] = {}
        self._shares: dict[str, Mapping[str, float]] = {}
        with contextlib.closing(product_index.connect(folder)) as store:
            rows = store.execute(
                "SELECT sku_id, category, count(*) FROM products WHERE "
                "category IS NOT NULL GROUP BY sku_id, category ORDER BY 1, 2"
            )
            for sku_id, group in itertools.groupby(
                rows, key=operator.itemgetter(0)
            ):
                counts = [(category, count) for _, category, count in group]
                total = sum(count for _, count in counts)
                shares = {name: count / total for name, count in counts}
                self._shares[sku_id] = known.setdefault(
                    tuple(shares.items()), shares
                )

    def of(self, sku_id: str) -> Mapping[str, float]:
        """Share of the SKU's products by category, those without left out.

        They add up to 1; {} for a SKU that has none or is unknown.
        """
        return self._shares.get(sku_id, {})

    @property
    def names(self) -> set[str]:
        """Every category that a SKU has."""
        return {name for shares in self._shares.values() for name in shares}
