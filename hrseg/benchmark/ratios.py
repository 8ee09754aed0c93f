"""From times to numbers that can be told: percentiles, the ratio of two that took turns, and how a cost grows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hrseg.errors import ConfigError


@dataclass(frozen=True)
class Ratio:
    """How many times as long the first took as the second.

    Attributes:
        median: Of the ratios within pairs.
        low: Lower end of the interval.
        high: Upper end of the interval.
        pairs: How many there were.
    """

    median: float
    low: float
    high: float
    pairs: int


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of all lies, on the straight line between two neighbours.

    Args:
        values: In any order.
        share: From 0 (the least) to 1 (the greatest).

    Raises:
        ConfigError: No values, or a share outside 0 to 1.

    Example:
        >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([1.0, 2.0, 3.0], 0.9)
        (2.5, 2.8)
    """
    if not len(values) or not 0 <= share <= 1:
        raise ConfigError(
            f"No percentile {share} of {len(values)} values. Give at least one, and a share of 0 to 1."
        )
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return round(ordered[below] + (place - below) * (ordered[above] - ordered[below]), 12)


def paired_ratio(
    first: Sequence[float],
    second: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Divide the times of two that took turns, pair by pair; the interval comes from drawing pairs anew.

    A pair shares its moment, so what else the machine did weighs on both of its times.

    Args:
        first: Seconds.
        second: Seconds of the same rounds.
        level: Share of the medians of redrawn pairs that lies inside the interval.
        resamples: How often the pairs are drawn anew.
        seed: Of the drawing.

    Raises:
        ConfigError: Times that do not pair, or a time that is not above 0.

    Example:
        >>> paired_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 2.0]).median
        2.0
    """
    if len(first) != len(second) or not len(first):
        raise ConfigError(
            f"{len(first)} and {len(second)} times make no pairs. Give as many of each, at least one."
        )
    if min(*first, *second) <= 0:
        raise ConfigError("A time of 0 seconds has no ratio. Time something longer.")
    ratios = np.asarray(first, float) / np.asarray(second, float)
    drawn = np.random.default_rng(seed).integers(len(ratios), size=(resamples, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the power of the size that a cost grows by: 1 is a straight line through the origin.

    It is the slope of the straight line of least squares between the logarithms.

    Raises:
        ConfigError: Fewer than two sizes, or numbers that have no logarithm.

    Example:
        >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ConfigError(
            "How a cost grows takes at least two different sizes, a cost for each, and all of them above 0."
        )
    x = np.log(np.asarray(sizes, float))
    y = np.log(np.asarray(costs, float))
    x -= x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def seconds_text(seconds: float) -> str:
    """Write a duration with three digits.

    Example:
        >>> seconds_text(0.0234), seconds_text(0.2), seconds_text(1.6), seconds_text(75)
        ('23.4 ms', '200 ms', '1.60 s', '75.0 s')
    """
    value, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{three_digits(value)} {unit}"


def three_digits(value: float) -> str:
    """Write a number with three digits and no exponent.

    Example:
        >>> [three_digits(value) for value in (0.01234, 1.2345, 12.345, 123.45, 1234.5)]
        ['0.0123', '1.23', '12.3', '123', '1,234']
    """
    if value <= 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{places}f}"
