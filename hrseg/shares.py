"""Shares and scores as text, for every table, page and message."""

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
