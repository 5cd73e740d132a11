"""How much better search results are ordered by a ranker than by similarity.

Trains on the click log of a generated shop and orders pages that nobody has
trained on: by similarity, by the ranker with and without its floor, by rankers
of each treatment of position bias, and by one trained on shuffled clicks (the
control, which must not win). Measured by clicks, de-biased, and by the shop's
own truth, relevance x appeal, which no training sees. Choices are made on val;
--splits test is for the report. Intervals of 95 % draw pages anew.

Similarities are those of --vector_index and --saved_model. Without them a
stand-in is taken, relevance with noise; the output says so.

examples:
  python -m benchmarks.search.ranking --shop shop --features features \\
      --vector_index vectors --saved_model saved_models/sicot/2
  python -m benchmarks.search.ranking --shop shop --features features \\
      --splits val test --repetitions 300
"""

import dataclasses
import json
import pathlib
import time

import numpy as np

from beam_jobs.shop import appeal
from benchmarks import flags
from sicot_tf import command_line
from sicot_tf.data import clicks
from sicot_tf.ranking import build
from sicot_tf.ranking import log_pages
from sicot_tf.ranking import metrics
from sicot_tf.ranking import position_bias
from sicot_tf.ranking import product_features
from sicot_tf.ranking import ranker
from sicot_tf.ranking import training
from sicot_tf.ranking import training_examples

# Of the stand-in: with it the shop's own product is first as often as another
# product of its type now and then.
_NOISE = 0.15
_TIMED = 600


class Truth:
    """What customers of a generated shop want, whatever they clicked."""

    def __init__(self, shop: pathlib.Path):
        self._goods = appeal.open_shop(shop)
        self._appeal: dict[str, float] = {}
        self._query_skus = {}
        for path in sorted(shop.glob("queries-*.jsonl")):
            for line in path.read_text("utf-8").splitlines():
                row = json.loads(line)
                self._query_skus[row["query_id"]] = row["product_id"]

    def relevance(self, page: clicks.Page) -> np.ndarray:
        """`[len(shown)]` how well each product fits the query."""
        query = self._sku(self._query_skus[page.query_id])
        return np.array(
            [appeal.relevance(query, self._sku(each)) for each in page.shown]
        )

    def gains(self, page: clicks.Page) -> np.ndarray:
        """`[len(shown)]` relevance x appeal."""
        for each in page.shown:
            if each not in self._appeal:
                self._appeal[each] = appeal.appeal(self._goods, self._sku(each))
        return self.relevance(page) * [self._appeal[n] for n in page.shown]

    def _sku(self, product_id: str):
        return self._goods.sku(int(product_id.rpartition("/")[2]))


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    arguments = _make_parser().parse_args(argv)
    if arguments.saved_model:
        command_line.import_tensorflow()
    truth = Truth(arguments.shop)
    sources = build.Sources(
        clicks=[str(arguments.shop / "clicks-*.jsonl")],
        features=arguments.features,
        vector_index=arguments.vector_index,
        saved_model=arguments.saved_model,
    )
    log = log_pages.read(sources.clicks)
    print(f"log: {log.counts}")
    if not arguments.vector_index:
        log = _stand_in(log, truth, arguments.seed)
    folder, of_features = product_features.open_generation(arguments.features)
    features = product_features.ProductFeatures(
        folder / product_features.FEATURES,
        (*product_features.NAMES, *product_features.FOLD_NAMES),
    )
    by_split, origin = build.make_examples(log, sources, features, of_features)
    print(f"similarities: {origin}")
    _Comparison(arguments, truth, by_split).run(features)


def _make_parser():
    parser = flags.make_parser(__doc__)
    for name, required in (
        ("shop", True),
        ("features", True),
        ("vector_index", False),
        ("saved_model", False),
    ):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=required)
    parser.add_argument(
        "--splits", nargs="+", choices=("val", "test"), default=["val"]
    )
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _stand_in(log: log_pages.Log, truth: Truth, seed: int) -> log_pages.Log:
    """The log with relevance and noise as similarities."""
    print(f"STAND-IN similarities: relevance + N(0, {_NOISE})")
    rng = np.random.default_rng(seed)
    pages = []
    for page in log.pages:
        similar = truth.relevance(page)
        similar = similar + _NOISE * rng.standard_normal(len(similar))
        pages.append(dataclasses.replace(page, similarities=tuple(similar)))
    return dataclasses.replace(log, pages=pages)


class _Comparison:
    """Orders of the same pages, trained in several ways."""

    def __init__(self, arguments, truth: Truth, by_split):
        self._arguments = arguments
        self._by_split = by_split
        self._truth = truth
        self._settings = training.Settings(seed=arguments.seed)
        self._known = position_bias.read(arguments.shop / "summary.json")

    def run(self, features) -> None:
        """Trains in each way, then measures each split."""
        train, val = self._by_split["train"], self._by_split["val"]
        found = build.estimate_examination(train)
        print("place  looked at, estimated  known")
        for place, known in enumerate(self._known, 1):
            print(f"{place:5} {found[place - 1]:21.3f} {known:6.3f}")
        ways = {}
        for name, debiasing, examination, examples in (
            ("position", "position", found, train),
            ("ips, estimated", "inverse_propensity", found, train),
            ("ips, known", "inverse_propensity", self._known, train),
            ("no debiasing", "none", found, train),
            ("shuffled clicks", "position", found, self._shuffled(train)),
        ):
            start = time.perf_counter()
            trained = training.train(
                examples, val, examination, debiasing, self._settings
            )
            floor = training.choose_floor(
                trained.booster.predict(val.rows, num_threads=1),
                val,
                found,
            )
            ways[name] = (trained, floor.value)
            print(
                f"{name}: {trained.booster.best_iteration} trees, floor "
                f"{floor.value:.4f}, {time.perf_counter() - start:.1f} s"
            )
        self._time(*ways["position"], features)
        for split in self._arguments.splits:
            self._measure(split, ways)

    def _measure(self, split: str, ways) -> None:
        asked = self._by_split[split]
        orders = {"similarity": asked.rows[:, 0]}
        for name, (trained, floor) in ways.items():
            plain = trained.booster.predict(asked.rows, num_threads=1)
            orders[name] = training.with_floor(plain, asked, floor)
            orders[f"{name}, no floor"] = plain
        orders["truth (the best there is)"] = self._gains(asked)
        floors = {name: floor for name, (_, floor) in ways.items()}
        print(
            f"\n=== {split}: {len(asked.pages):,} pages, "
            f"{int(asked.clicked.sum()):,} clicks"
        )
        self._print(orders, asked, floors)

    def _shuffled(self, train):
        """Each page's clicks at other places of its own."""
        rng = np.random.default_rng(self._arguments.seed)
        clicked = train.clicked.copy()
        for start, stop in zip(train.starts[:-1], train.starts[1:]):
            rng.shuffle(clicked[start:stop])
        return dataclasses.replace(train, clicked=clicked)

    def _gains(self, examples: training_examples.Examples) -> np.ndarray:
        """`[n]` true gains, in the order of the examples."""
        gains = [self._truth.gains(page) for page in examples.pages]
        first = np.cumsum([0, *map(len, gains)])[:-1]
        places = np.repeat(first, examples.sizes) + examples.positions - 1
        return np.concatenate(gains)[places]

    def _print(self, orders, asked, floors) -> None:
        gains = self._gains(asked)
        by_truth = {
            name: metrics.truth_ndcg(scores, gains, asked.starts)
            for name, scores in orders.items()
        }
        # Clicks count by what is known of the shop, not by an estimate.
        sums = {
            name: metrics.click_sums(scores, asked, self._known)
            for name, scores in orders.items()
        }

        def measure(pages):
            values = {}
            for name in orders:
                values[name, "truth"] = np.nanmean(by_truth[name][pages])
                for key, value in metrics.click_metrics(
                    {key: each[pages] for key, each in sums[name].items()}
                ).items():
                    values[name, key] = value
                for key in ("truth", "ndcg@20"):
                    values[name, f"gain of {key}"] = (
                        values[name, key] - values["similarity", key]
                    )
            return values

        num_pages = len(asked.pages)
        values = measure(np.arange(num_pages))
        intervals = metrics.bootstrap(
            num_pages,
            measure,
            seed=self._arguments.seed,
            repetitions=self._arguments.repetitions,
        )
        for key in (
            *("truth", "gain of truth", "ndcg@20", "gain of ndcg@20"),
            *("mrr", "clicks@1", "clicks@5"),
        ):
            print(f"\n{'NDCG@20 by the truth' if key == 'truth' else key}")
            for name in orders:
                low, high = intervals[name, key]
                print(
                    f"  {name:28}{values[name, key]:8.4f}  ({low:.4f} to "
                    f"{high:.4f})"
                )
        self._print_below(orders, asked, floors)

    def _print_below(self, orders, asked, floors) -> None:
        """Products below the floor that stand above one that is not."""
        print("\nproducts below the floor that stand above others")
        for name, floor in floors.items():
            moved = {}
            for order in (name, f"{name}, no floor"):
                if order in orders:
                    moved[order] = _num_moved_up(orders[order], asked, floor)
            print("  " + ", ".join(f"{k}: {n:,}" for k, n in moved.items()))

    def _time(self, trained, floor, features) -> None:
        opened = ranker.Ranker(
            trained.booster,
            product_features.ProductFeatures(
                self._features_path(), product_features.NAMES
            ),
            similarity_floor=floor,
        )
        rng = np.random.default_rng(0)
        similar = rng.random(_TIMED)
        product_ids = rng.choice(features.product_ids, _TIMED).tolist()
        seconds = []
        for _ in range(200):
            start = time.perf_counter()
            opened.scores(similar, product_ids)
            seconds.append(time.perf_counter() - start)
        print(
            f"scores of {_TIMED} candidates: median "
            f"{1e3 * np.median(seconds):.2f} ms, 99 % below "
            f"{1e3 * np.percentile(seconds, 99):.2f} ms, one thread"
        )

    def _features_path(self) -> pathlib.Path:
        folder, _ = product_features.open_generation(self._arguments.features)
        return folder / product_features.FEATURES


def _num_moved_up(
    scores: np.ndarray, examples: training_examples.Examples, floor: float
) -> int:
    found = 0
    for start, stop in zip(examples.starts[:-1], examples.starts[1:]):
        below = ranker.below_floor(examples.rows[start:stop, 0], floor)
        own = scores[start:stop]
        if below.any():
            found += int((own[below] >= own[~below].min()).sum())
    return found


if __name__ == "__main__":
    main()
