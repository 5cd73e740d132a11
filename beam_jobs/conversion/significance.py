"""How sure a difference of conversion rates is.

Every visitor counts once, so that visitors are independent trials. All of it
is of a fixed horizon: right for one look at the end that was planned.
"""

import math
from collections.abc import Sequence

from scipy import special


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Wilson's score interval of a rate (1927); None without trials."""
    if not trials:
        return None
    z = _quantile(confidence)
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    # At no or all successes an end is 0 or 1, but for rounding.
    low = (centre - reach) / scale if successes else 0.0
    high = (centre + reach) / scale if successes < trials else 1.0
    return low, high


def relative_gain(
    baseline: tuple[int, int],
    other: tuple[int, int],
    confidence: float = 0.95,
) -> tuple[float, float, float] | None:
    """Relative gain of a rate over the baseline's, with its interval.

    The logarithm of the ratio is about normal, with a variance by the delta
    method of 1/successes - 1/trials, summed over both (Katz and others, 1978).

    Args:
        baseline, other: successes and trials.

    Returns:
        Gain, low and high; 0.031 is +3.1 %. None if either has no success.
    """
    if not (baseline[0] and other[0]):
        return None
    ratio = (other[0] / other[1]) / (baseline[0] / baseline[1])
    variance = sum(1 / each[0] - 1 / each[1] for each in (baseline, other))
    reach = math.exp(_quantile(confidence) * math.sqrt(variance))
    return ratio - 1, ratio / reach - 1, ratio * reach - 1


def two_proportion_p_value(
    baseline: tuple[int, int], other: tuple[int, int]
) -> float | None:
    """Two-sided z-test that two rates are one, with their pooled variance.

    Args:
        baseline, other: successes and trials.

    Returns:
        None if nobody or everybody succeeded, or there are no trials.
    """
    trials = baseline[1] + other[1]
    successes = baseline[0] + other[0]
    if not (baseline[1] and other[1] and 0 < successes < trials):
        return None
    pooled = successes / trials
    deviation = math.sqrt(
        pooled * (1 - pooled) * (1 / baseline[1] + 1 / other[1])
    )
    z = (other[0] / other[1] - baseline[0] / baseline[1]) / deviation
    return float(2 * special.ndtr(-abs(z)))


def sample_ratio_p_value(
    counts: Sequence[int], shares: Sequence[float]
) -> float | None:
    """Chi-square test that visitors came to variants by their shares.

    A small value tells of a fault in the assignment or the events, whatever
    the conversion is (Fabijan and others, 2019).

    Returns:
        None without visitors or a second variant; 0 if a variant with no
        share has visitors.
    """
    total = sum(counts)
    expected = [total * share for share in shares]
    if any(n and not e for n, e in zip(counts, expected, strict=True)):
        return 0.0
    pairs = [(n, e) for n, e in zip(counts, expected, strict=True) if e]
    if not total or len(pairs) < 2:
        return None
    statistic = sum((n - e) ** 2 / e for n, e in pairs)
    return float(special.chdtrc(len(pairs) - 1, statistic))


def _quantile(confidence: float) -> float:
    """How many standard deviations hold this share: 1.96 for 0.95."""
    return float(special.ndtri((1 + confidence) / 2))
