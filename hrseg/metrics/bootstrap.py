"""Is one model better than another? A paired bootstrap over the images that both were scored on.

Images are drawn with replacement, the same ones for both models, and mIoU is formed anew from the summed counts
of each draw: the spread of the differences says how much of a difference is luck of the images.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrseg.errors import DataError, columns, score
from hrseg.metrics.records import Ledger, parts

DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another, in fractions of mIoU.

    Attributes:
        miou: Difference on the images as they are.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided share of draws on the other side of zero: the chance that the sign is luck.
        classes: Difference of each class's IoU, (K,); nan where neither model can be scored.
    """

    miou: float
    low: float
    high: float
    p: float
    classes: np.ndarray


def compare(model: Ledger, other: Ledger, *, draws: int = DRAWS) -> Difference:
    """Compare two models on the images they share.

    Args:
        model: Of the model that may be better.
        other: Of the one it is compared with.
        draws: Bootstrap samples.

    Raises:
        DataError: Other classes, other pixels of an image's mask, or no common image.

    Example:
        >>> import numpy as np
        >>> good = Ledger(("a", "b"), ("x", "y"), np.array([[[9, 1], [1, 9]]] * 2))
        >>> bad = Ledger(("a", "b"), ("x", "y"), np.array([[[5, 5], [5, 5]]] * 2))
        >>> result = compare(good, bad)
        >>> round(result.miou, 3), result.low > 0
        (0.485, True)
    """
    model, other = pair(model, other)
    generator = np.random.default_rng(0)
    count = len(model.names)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=draws)  # (draws, N)
    differences = _mious(model, weights) - _mious(other, weights)
    whole = np.ones((1, count), dtype=np.int64)
    low, high = np.quantile(differences, [0.025, 0.975])
    against = min((differences <= 0).mean(), (differences >= 0).mean())
    return Difference(
        miou=float((_mious(model, whole) - _mious(other, whole))[0]),
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * against)),
        classes=_ious(model, whole)[0] - _ious(other, whole)[0],
    )


def interval(model: Ledger, *, draws: int = DRAWS) -> tuple[float, float]:
    """Return the 95 % interval of one model's mIoU over the draw of the images."""
    generator = np.random.default_rng(0)
    count = len(model.names)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    low, high = np.quantile(_mious(model, weights), [0.025, 0.975])
    return float(low), float(high)


def pair(model: Ledger, other: Ledger) -> tuple[Ledger, Ledger]:
    """Bring two ledgers to their common images, in one order.

    Raises:
        DataError: They cannot be compared.
    """
    if model.classes != other.classes:
        raise DataError(
            f"{model.model} and {other.model} know other classes ({len(model.classes)} and {len(other.classes)}), so "
            "their scores cannot be compared. Score both on the same label table."
        )
    names = [name for name in model.names if name in set(other.names)]
    if not names:
        raise DataError(
            f"{model.model} and {other.model} were scored on different images. Score both on the same split."
        )
    model, other = model.take(names), other.take(names)
    truth = [ledger.matrices.sum(axis=2) for ledger in (model, other)]  # (N, K)
    unequal = [names[index] for index in np.flatnonzero((truth[0] != truth[1]).any(axis=1))]
    if unequal:
        raise DataError(
            f"{len(unequal)} images have other masks in the two scores, such as {unequal[0]}. Score both on the same "
            "data, at the size of the masks."
        )
    return model, other


def table(ledgers: Sequence[Ledger], *, draws: int = DRAWS) -> list[dict[str, object]]:
    """Return one row per model: mIoU with its interval, and the difference to the first model.

    Args:
        ledgers: The first one is what the others are compared with.
        draws: Bootstrap samples.

    Raises:
        DataError: As for `compare`.
    """
    rows: list[dict[str, object]] = []
    names = [n for n in ledgers[0].names if all(n in set(ledger.names) for ledger in ledgers[1:])]
    for index, ledger in enumerate(ledgers):
        ledger = ledger.take(names) if names else ledger
        low, high = interval(ledger, draws=draws)
        row: dict[str, object] = {
            "model": ledger.model,
            "images": len(ledger.names),
            "miou": ledger.scores()["miou"],
            "low": low,
            "high": high,
        }
        if index:
            result = compare(ledger, ledgers[0], draws=draws)
            row |= {
                "difference": result.miou,
                "difference_low": result.low,
                "difference_high": result.high,
                "p": result.p,
                "classes": {
                    name: float(value)
                    for name, value in zip(ledger.classes, result.classes, strict=True)
                    if not np.isnan(value)
                },
            }
        rows.append(row)
    return rows


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say the rows of `table` as aligned plain text, in per cent.

    With two models the classes that changed most are named too.

    Example:
        >>> print(text([{"model": "a", "images": 9, "miou": 0.5, "low": 0.4, "high": 0.6}]))
        model  images   mIoU   95 % interval
        a           9  50.00  40.00 to 60.00
    """
    compared = any("difference" in row for row in rows)
    header = ["model", "images", "mIoU", "95 % interval"]
    lines = [header + (["to the first", "95 % interval", "p"] if compared else [])]
    for row in rows:
        line = [str(row["model"]), str(row["images"]), score(row["miou"])]
        line.append(f"{score(row['low'])} to {score(row['high'])}")
        if "difference" in row:
            ends = (row["difference_low"], row["difference_high"])
            line.append(_signed(row["difference"]))
            line.append(" to ".join(_signed(end) for end in ends))
            line.append("< 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}")
        lines.append(line + [""] * (len(lines[0]) - len(line)))
    said = columns(lines)
    if len(rows) == 2:
        changes = sorted(rows[1]["classes"].items(), key=lambda item: -abs(item[1]))
        listed = ", ".join(f"{name} {_signed(value)}" for name, value in changes[:6])
        said += ["", f"Classes that changed most: {listed}"]
    return "\n".join(said)


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _mious(ledger: Ledger, weights: np.ndarray) -> np.ndarray:
    return np.nanmean(_ious(ledger, weights), axis=1)


def _ious(ledger: Ledger, weights: np.ndarray) -> np.ndarray:
    """IoU of each class for each weighting of the images. Shape: (draws, N) → (draws, K)."""
    hits, truth, found = (
        weights.astype(np.float64) @ part.astype(np.float64) for part in parts(ledger.matrices)
    )
    union = truth + found - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)
