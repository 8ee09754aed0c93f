"""Figure of the growth of time and memory: two panels, measured dots, and the straight line beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

COLORS = ("#2662b8", "#d0621a")


class Panel(NamedTuple):
    """One curve.

    Attributes:
        title: Such as "seconds".
        note: A second line, such as the exponent.
        values: One for each x.
        line: Values of the straight line; empty draws none.
    """

    title: str
    note: str
    values: Sequence[float]
    line: Sequence[float] = ()


def write_figure(
    path: Path,
    title: str,
    x_title: str,
    xs: Sequence[float],
    panels: Sequence[Panel],
    logarithmic: bool,
) -> None:
    """Draw two panels over the same x into a PNG file.

    Args:
        path: Of the file.
        title: Headline.
        x_title: Meaning and unit of x.
        xs: Growing.
        panels: Two.
        logarithmic: Both axes, else none.
    """
    figure = Figure((8.6, 3.6), dpi=200, layout="constrained")
    figure.suptitle(title, x=0.02, ha="left")
    for axes, panel, color in zip(figure.subplots(1, 2), panels, COLORS, strict=True):
        axes.set_title(f"{panel.title}\n{panel.note}", loc="left", fontsize=9)
        if panel.line:
            axes.plot(xs, panel.line, "--", color="gray", lw=1)
        axes.plot(xs, panel.values, "o-", color=color)
        axes.set_xlabel(x_title)
        if logarithmic:
            axes.set(xscale="log", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(ScalarFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
