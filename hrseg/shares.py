"""Shares, scores and durations as text, for every table, page and message."""

import math


def percent(share: float) -> str:
    """Write a share so that what is rare does not look absent.

    Example:
        >>> percent(0.4567), percent(0.00012), percent(1e-7), percent(0)
        ('45.7 %', '0.012 %', '< 0.001 %', '0 %')
    """
    if 0 < share < 1e-5:
        return "< 0.001 %"
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def score(fraction: float, digits: int = 2) -> str:
    """Write a score in per cent without the sign; "-" where it is not defined.

    Example:
        >>> score(0.80912), score(float("nan")), score(0.5, 1)
        ('80.91', '-', '50.0')
    """
    return "-" if math.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def seconds_text(seconds: float) -> str:
    """Write a duration with three digits.

    Example:
        >>> seconds_text(0.0234), seconds_text(0.2), seconds_text(1.6), seconds_text(75)
        ('23.4 ms', '200 ms', '1.60 s', '75.0 s')
    """
    return f"{three_digits(seconds)} s" if seconds >= 1 else f"{three_digits(1000 * seconds)} ms"


def three_digits(value: float) -> str:
    """Write a number with three digits and no exponent.

    Example:
        >>> [three_digits(value) for value in (0.01234, 1.2345, 12.345, 123.45, 1234.5)]
        ['0.0123', '1.23', '12.3', '123', '1,234']
    """
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
