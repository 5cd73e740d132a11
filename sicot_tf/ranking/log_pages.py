"""Result pages of people, out of click logs that robots have written to."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from sicot_tf import files
from sicot_tf import progress
from sicot_tf.data import clicks
from sicot_tf.data import generations
from sicot_tf.ranking import product_features

# So unlikely is a person whose clicks all were at the first place.
_FIRST_PLACE_CHANCE = 1e-4
# Nobody clicks half of all that is shown, page after page.
_MOST_CLICKED = 0.5
_LEAST_PAGES = 3

ROBOTS = {
    "robot_pages": "more pages in a day than --max_pages_per_day",
    "robot_clicks": "clicks half of all that is shown, or more",
    "robot_first_place": "clicks nothing but the first place, too often",
}


@dataclasses.dataclass(frozen=True)
class Log:
    """What was read.

    Attributes:
        pages: of people, in the order of files and lines.
        counts: rows, pages, and what was left out, by reason.
        rejects: rows that can't be used: file, line, reason, message, record.
        inputs: name and SHA-256 of each file.
    """

    pages: Sequence[clicks.Page]
    counts: Mapping[str, int]
    rejects: Sequence[Mapping[str, object]]
    inputs: Sequence[Mapping[str, str]]

    def of_split(self, split: str) -> list[clicks.Page]:
        """The pages of train, val or test."""
        return [page for page in self.pages if page.split == split]


def read(
    patterns: Sequence[str],
    *,
    max_pages_per_day: int = 1000,
    val_share: float = 0.1,
) -> Log:
    """Reads logs, gathers pages, leaves robots out.

    A page without a split is of val or train, as a hash of its query picture
    decides; only a log that says so has a test split.

    Raises:
        ValueError: if a file can't be read, or there is no page.
    """
    good, rejects, inputs = [], [], []
    places: dict[int, tuple[str, int, str]] = {}
    paths = clicks.find_files(patterns)
    with progress.bar(description="Click logs", unit="rows") as bar:
        for path in paths:
            inputs.append({"name": path.name, "sha256": files.sha256(path)})
            for line, row, content in clicks.read(path):
                bar.update()
                place = (path.name, line, content)
                if isinstance(row, clicks.ClickError):
                    rejects.append(_reject(place, row))
                else:
                    places[id(row)] = place
                    good.append(row)
    num_rows = len(good) + len(rejects)
    pages, refused = clicks.gather(good)
    rejects += [_reject(places[id(row)], error) for row, error in refused]
    if not pages:
        raise ValueError(
            f"Expected result pages in {', '.join(map(str, paths))}; of "
            f"{len(rejects):,} rows none can be used. See --help for the "
            "fields of a click log."
        )
    robots = find_robots(pages, max_pages_per_day)
    counts = collections.Counter(
        rows=num_rows,
        rows_rejected=len(rejects),
        pages=len(pages),
        robots=len(robots),
    )
    kept = []
    for page in pages:
        reason = robots.get(page.visitor)
        if reason:
            counts[f"pages_of_{reason}"] += 1
        else:
            split = page.split or _split_of(page.image, val_share)
            kept.append(dataclasses.replace(page, split=split))
    for split in generations.SPLITS:
        counts[f"pages_{split}"] = sum(page.split == split for page in kept)
    return Log(kept, dict(counts), rejects, inputs)


def find_robots(
    pages: Iterable[clicks.Page], max_pages_per_day: int
) -> dict[str, str]:
    """Visitors that are no people, with the reason, one of `ROBOTS`."""
    of_visitor: dict[str, list[clicks.Page]] = {}
    for page in pages:
        if page.visitor is not None:
            of_visitor.setdefault(page.visitor, []).append(page)
    num_clicks = num_firsts = 0
    for own in of_visitor.values():
        for page in own:
            if len(page.shown) > 1:
                num_clicks += len(page.positions)
                num_firsts += 1 in page.positions
    least_firsts = math.inf
    if 0 < num_firsts < num_clicks:
        least_firsts = math.log(_FIRST_PLACE_CHANCE) / math.log(
            num_firsts / num_clicks
        )
    robots = {}
    for visitor, own in of_visitor.items():
        days = collections.Counter(
            page.time // product_features.SECONDS_A_DAY for page in own
        )
        several = [page for page in own if len(page.shown) > 1]
        shown = sum(len(page.shown) for page in several)
        clicked = sum(len(page.positions) for page in several)
        firsts = sum(page.positions == (1,) for page in several)
        if max(days.values()) > max_pages_per_day:
            robots[visitor] = "robot_pages"
        elif len(several) >= _LEAST_PAGES and clicked >= _MOST_CLICKED * shown:
            robots[visitor] = "robot_clicks"
        elif firsts == clicked and firsts >= least_firsts:
            robots[visitor] = "robot_first_place"
    return robots


def _split_of(image: str, val_share: float) -> str:
    share = files.stable_hash("split", pathlib.Path(image).name) / 2**64
    return "val" if share < val_share else "train"


def _reject(
    place: tuple[str, int, str], error: clicks.ClickError
) -> dict[str, object]:
    file, line, content = place
    return {
        "reason": error.reason,
        "message": str(error),
        "file": file,
        "line": line,
        "record": content,
    }
