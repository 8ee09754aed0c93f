"""Calibration of confidences: reliability by bins, expected calibration error, and temperature scaling.

Bins are of equal width over 0 … 1. They are counted finely and merged later, so that another number of bins needs no
inference. The temperature divides all logits; it changes confidences, never the class.

Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599.
"""

from dataclasses import dataclass

import numpy as np

from hrseg.errors import ConfigError, DataError

FINE = 60
"""Bins that are stored."""
BINS = 15
"""Bins that are shown."""
COARSER = tuple(bins for bins in range(5, FINE + 1) if FINE % bins == 0)
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


def bin_counts(confidence: np.ndarray, correct: np.ndarray, bins: int = FINE) -> np.ndarray:
    """Sort pixels into bins by the probability of their predicted class.

    Returns:
        For each bin: pixels, the sum of their confidences, how many are correct.

    Shape:
        (M,), (M,) → float64 (bins, 3)

    Example:
        >>> bin_counts(np.array([0.5, 0.75, 1.0]), np.array([True, False, True]), 2).tolist()
        [[0.0, 0.0, 0.0], [3.0, 2.25, 2.0]]
    """
    # in float32 0.1 is just above a tenth, so that a value on a limit belongs to the bin above it
    place = np.minimum((confidence.astype(np.float64) * bins).astype(np.int64), bins - 1)
    weights = (None, confidence.astype(np.float64), correct.astype(np.float64))
    return np.stack([np.bincount(place, each, bins).astype(np.float64) for each in weights], axis=1)


def merge_bins(counts: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Merge neighboring bins.

    Raises:
        ConfigError: The number does not divide that of the counted bins.

    Shape:
        (fine, 3) → (bins, 3)
    """
    if bins < 1 or len(counts) % bins:
        listed = ", ".join(map(str, COARSER))
        raise ConfigError(f"{len(counts)} counted bins do not make {bins}. Choose of {listed}.")
    return counts.reshape(bins, -1, 3).sum(axis=1)


def calibration_error(counts: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, by pixels.

    Shape:
        (bins, 3)

    Example:
        >>> calibration_error(np.array([[4.0, 3.6, 2.0], [0, 0, 0]]))
        0.4
    """
    pixels = counts[:, 0].sum()
    return float(np.abs(counts[:, 1] - counts[:, 2]).sum() / pixels) if pixels else float("nan")


def nll(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of the true classes.

    Shape:
        logits (M, K), truth (M,)
    """
    scaled = _centered(logits) / temperature
    normal = np.log(np.exp(scaled).sum(axis=1))  # (M,)
    return float((normal - scaled[np.arange(len(truth)), truth]).mean())


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the temperature of the highest likelihood, between 0.01 and 100.

    In 1/T the loss is convex, so its slope has at most one zero; Newton's steps are taken where they stay in the
    interval that holds it, and halves of that interval otherwise. Logits that are right everywhere give the lower end,
    logits no better than chance the upper; logits alike for all classes, which no temperature changes, give 1.

    Raises:
        DataError: No pixels.

    Shape:
        logits (M, K), truth (M,)
    """
    if not len(truth):
        raise DataError("No labeled pixel to fit a temperature on. Give images with masks.")
    values = _centered(logits)
    if not values.any():
        return 1.0
    own = values[np.arange(len(truth)), truth]

    def slope_at(beta: float) -> tuple[float, float]:
        """Return the first two derivatives of the loss by 1/T."""
        weights = np.exp(values * beta)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = (weights * values).sum(axis=1)
        curvature = (weights * values**2).sum(axis=1) - mean**2
        return float((mean - own).mean()), float(curvature.mean())

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope_at(high)[0] <= 0:
        return MIN_TEMPERATURE
    if slope_at(low)[0] >= 0:
        return MAX_TEMPERATURE
    beta = 1.0
    for _ in range(60):  # bisection alone reaches float32 precision in about 40
        slope, curvature = slope_at(beta)
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curvature if curvature > 0 else 0.0
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) <= 1e-7 * beta:
            break
        beta = following
    return float(1 / beta)


def reliability(logits: np.ndarray, truth: np.ndarray, temperature: float = 1.0, bins: int = FINE) -> np.ndarray:
    """Sort pixels into bins by their logits. Shape: (M, K), (M,) → (bins, 3)."""
    scaled = _centered(logits) / temperature
    confidence = 1 / np.exp(scaled).sum(axis=1)  # (M,); exp of the largest is 1
    return bin_counts(confidence, scaled.argmax(axis=1) == truth, bins)


@dataclass(frozen=True)
class TemperatureScaling:
    """Effect of a temperature, measured on images that it was not fitted on.

    Attributes:
        temperature: Fitted on all images.
        pixels: Pixels of all images.
        nll_before: Mean negative log-likelihood without scaling.
        nll_after: The same with the temperature of the other half of the images.
        ece_before: Expected calibration error without scaling.
        ece_after: The same with the temperature of the other half.
        halves: Temperatures of the two halves; their difference shows the uncertainty of the fit.
    """

    temperature: float
    pixels: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    halves: tuple[float, float]


def scale_temperature(logits: np.ndarray, truth: np.ndarray, image: np.ndarray, bins: int = BINS) -> TemperatureScaling:
    """Fit a temperature, and measure it by cross-validation: each half of the images with the other's.

    Args:
        logits: Of some pixels of each image.
        truth: Their trainIds.
        image: Number of the image of each pixel; its parity assigns it to a half.
        bins: For the calibration error.

    Raises:
        DataError: No pixels.

    Shape:
        logits (M, K), truth (M,), image (M,)
    """
    temperature = fit_temperature(logits, truth)
    parts = [np.flatnonzero(image % 2 == half) for half in (0, 1)]  # pixels of either half
    if not all(len(part) for part in parts):
        parts = [np.arange(len(truth))] * 2  # a single image cannot be divided
    halves = tuple(fit_temperature(logits[part], truth[part]) for part in parts)
    after, loss, pixels = np.zeros((FINE, 3)), 0.0, 0
    for part, other in zip(parts, halves[::-1], strict=True):
        after += reliability(logits[part], truth[part], other)
        loss += nll(logits[part], truth[part], other) * len(part)
        pixels += len(part)
    return TemperatureScaling(
        temperature=temperature,
        pixels=len(truth),
        nll_before=nll(logits, truth),
        nll_after=loss / pixels,
        ece_before=calibration_error(merge_bins(reliability(logits, truth), bins)),
        ece_after=calibration_error(merge_bins(after, bins)),
        halves=(halves[0], halves[1]),
    )


def _centered(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    return values - values.max(axis=1, keepdims=True)
