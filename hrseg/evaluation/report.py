"""Evaluation report: a folder with report.html, report.json, ledger.npz and the charts as PNG."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hrseg.errors import DataError, score
from hrseg.evaluation.callbacks import WORST, CollectStatistics, WorstImage
from hrseg.evaluation.validate import evaluate
from hrseg.imaging import write_text
from hrseg.labels import IGNORE_INDEX
from hrseg.metrics.confusion import iou, known_mean
from hrseg.metrics.records import class_counts
from hrseg.metrics.scores import Results, results
from hrseg.metrics.statistics import EvaluationSettings, Statistics, read_statistics
from hrseg.viz.charts import Chart, Confusion, Curves, Reliability, save_chart
from hrseg.viz.masks import colorize
from hrseg.viz.pages import Picture, jpeg, write_page

_WRONG = (226, 45, 56)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        results: The scores.
        folder: Of the files.
        files: Their paths.
    """

    results: Results
    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        found = self.results
        settings, scaling = found.statistics.settings, found.scaling
        images = score(known_mean(found.image_scores))
        rows = [
            ("mIoU", f"{score(found.scores['miou'])}  ({found.interval()})"),
            ("pixel accuracy", score(found.scores["pixel_accuracy"])),
            ("mean image", f"{images}, worst tenth {score(found.mean_of_worst())}"),
            ("boundary IoU", _listed(found.widths, found.boundary)),
            ("boundary F", _listed(found.widths[1:], found.contour_f)),
            ("trimap mIoU", _listed([f"{r} px" for r in settings.bands], found.band_iou)),
            ("calibration", f"error {score(found.ece)} in {settings.bins} bins, NLL {found.nll:.3f}"),
            (
                "temperature",
                f"{scaling.temperature:.2f}: error {score(scaling.ece_before)} → {score(scaling.ece_after)}, "
                f"NLL {scaling.nll_before:.3f} → {scaling.nll_after:.3f}",
            ),
        ]  # fmt: skip
        lines = [f"{name:<14}  {value}" for name, value in rows]
        return "\n".join([*lines, "", f"{self.folder / 'report.html'}"])


def evaluate_model(
    model: str | None,
    out: str | Path,
    split: str = "val",
    overrides: Sequence[str] = (),
    *,
    recipe: str | None = None,
    settings: EvaluationSettings | None = None,
    worst: int = WORST,
) -> Report | None:
    """Evaluate a model in one pass, or take the ledger of an earlier evaluation, and write the folder.

    Args:
        model: A checkpoint, a run's folder, a tag or an exported file; None is the packaged model. The ledger.npz
            of an earlier evaluation needs no inference; its folder then lacks the worst images.
        out: The folder.
        split: "val" or "test".
        overrides: Such as "data.root=/data/camvid".
        recipe: Takes data and options from this recipe instead of the model's own config.
        settings: Widths, distances and bins; of a ledger only the number of bins may differ from its own.
        worst: How many of the worst images are shown.

    Returns:
        The report; None on all devices but the first.

    Raises:
        HrsegError: The model, the data or the ledger cannot be read, or the folder not written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; a report needs a folder. Choose another with --out.")
    if model is not None and model.endswith(".npz"):
        return write_report(_with_bins(read_statistics(model), settings), [], folder)
    collector = CollectStatistics(settings, worst)
    evaluated = evaluate(model, split, overrides, recipe=recipe, callbacks=[collector])
    if not collector.is_first:
        return None
    statistics = collector.statistics(evaluated.records.model, {"split": f"split {split}"})
    return write_report(statistics, collector.worst, folder)


def write_report(statistics: Statistics, worst: Sequence[WorstImage], folder: str | Path) -> Report:
    """Write page, charts, scores and ledger.

    Args:
        statistics: Of all images.
        worst: The worst images, worst first; may be empty.
        folder: Is made where it is missing.

    Raises:
        DataError: A file cannot be written, or there is nothing to write about.
    """
    folder = Path(folder)
    found = results(statistics)
    figures = charts(found)
    for name, chart in figures.items():
        save_chart(chart, folder / f"{name}.png")
    statistics.save(folder / "ledger.npz")
    text = json.dumps(found.to_dict(), ensure_ascii=False, indent=1)
    write_text(folder / "report.json", text)
    write_page(folder / "report.html", "evaluation.html", **_page_values(found, figures, worst))
    names = [*(f"{name}.png" for name in figures), "ledger.npz", "report.json", "report.html"]
    return Report(found, folder, tuple(folder / name for name in names))


def charts(found: Results) -> dict[str, Chart]:
    """Return name of a file → its chart."""
    settings, scores = found.statistics.settings, found.scores
    contours = {"precision": found.precision, "recall": found.recall, "F": found.contour_f}
    bands = {
        "mIoU": [*map(known_mean, found.band_iou), scores["miou"]],
        "pixel accuracy": [*found.band_accuracy.tolist(), scores["pixel_accuracy"]],
    }
    return {
        "confusion": Confusion(scores["matrix"].numpy(), found.statistics.records.classes),
        "contours": Curves(
            "Contours by distance",
            "Contour pixels matched within a distance, per cent, mean over classes",
            "pixels",
            [str(k) for k in settings.distances],
            {name: [known_mean(row) for row in rows] for name, rows in contours.items()},
        ),
        "trimap": Curves(
            "Trimap curve",
            "Scores of the pixels near the boundaries of the masks, per cent",
            "pixels on each side of a boundary",
            [*map(str, settings.bands), "all"],
            bands,
        ),
        "reliability": Reliability(found.bins),
    }


def _with_bins(statistics: Statistics, settings: EvaluationSettings | None) -> Statistics:
    """Counts are bound to the distances they were counted at; bins merge."""
    if settings is None or settings == statistics.settings:
        return statistics
    own = replace(statistics.settings, bins=settings.bins)
    if settings not in (own, EvaluationSettings(bins=settings.bins)):
        raise DataError(
            "A ledger is counted at its own widths, distances and bands, which cannot be changed afterwards. Evaluate "
            "the model again with the others."
        )
    return replace(statistics, settings=own)


def _listed(names: Sequence[str], rows: np.ndarray) -> str:
    pairs = zip(names, rows, strict=True)
    return ", ".join(f"{score(known_mean(row))} at {name}" for name, row in pairs)


def _page_values(found: Results, figures: Mapping[str, Chart], worst: Sequence[WorstImage]) -> dict[str, Any]:
    statistics, settings = found.statistics, found.statistics.settings
    count = len(statistics.records.names)
    middle = len(settings.distances) // 2
    ratio, far = f"{100 * settings.ratio:g}", settings.distances[middle]
    boundary = {
        "Boundary IoU of this width": found.boundary,
        "Boundary F at this distance": found.contour_f,
        "precision of contours": found.precision,
        "recall of contours": found.recall,
    }
    boundaries = []
    for name, rows in boundary.items():
        cells = [score(known_mean(row), 1) for row in rows]
        boundaries.append([name, *["-"] * (len(found.boundary) - len(rows)), *cells])
    heads = ["IoU", "boundary IoU", f"boundary F, {far} px", "precision", "recall"]
    return {
        "title": statistics.records.model,
        "facts": [
            f"{count:,} image{'s' * (count != 1)}",
            *statistics.metadata.values(),
            statistics.protocol,
        ],
        "tiles": _tiles(found, ratio, middle),
        "class_heads": [*heads, "confidence − precision", "share"],
        "classes": _class_rows(found, middle),
        "confusions": found.confusions(5),
        "figures": figures,
        "boundary_heads": ["mean over classes", f"{ratio} % of the diagonal", *found.widths[1:]],
        "boundaries": boundaries,
        "bins": list(_bin_rows(found.bins)),
        "results": found,
        "scaling": found.scaling,
        "ratio": ratio,
        "count": count,
        "worst": [_worst_row(image, statistics) for image in worst],
    }


def _tiles(found: Results, ratio: str, middle: int) -> list[tuple[str, str, str]]:
    settings, scores, scaling = found.statistics.settings, found.scores, found.scaling
    temperature = scaling.temperature
    verdict = "overconfident" if temperature > 1 else "underconfident"
    if abs(math.log(temperature)) < 0.05:
        verdict = "confidences match accuracy"
    far = settings.distances[middle]
    contour_f, images = known_mean(found.contour_f[middle]), known_mean(found.image_scores)
    return [
        ("mIoU", score(scores["miou"]), f"95 % interval: {found.interval(1)}"),
        ("Pixel accuracy", score(scores["pixel_accuracy"], 1), "of all labeled pixels"),
        ("Boundary IoU", score(known_mean(found.boundary[0]), 1), f"width {ratio} % of the diagonal"),
        ("Boundary F", score(contour_f, 1), f"contours matched within {far} px"),
        ("Mean image", score(images, 1), f"worst tenth {score(found.mean_of_worst(), 1)}"),
        ("Calibration error", score(found.ece, 1), f"{settings.bins} bins, {score(scaling.ece_after, 1)} with T"),
        ("Temperature T", f"{temperature:.2f}", verdict),
    ]  # fmt: skip


def _class_rows(found: Results, middle: int) -> Iterator[tuple[str, np.ndarray, str, list[str]]]:
    """Name, color, width of the bar, and cells of each class, most frequent first."""
    statistics, scores = found.statistics, found.scores
    table = np.stack(
        [
            scores["iou"].numpy(),
            found.boundary[0],
            found.contour_f[middle],
            scores["precision"].numpy(),
            scores["recall"].numpy(),
        ],
        axis=1,
    )  # (K, 5)
    shares = scores["share"].tolist()
    for k in sorted(range(len(shares)), key=lambda k: -shares[k]):
        gap = found.gaps[k]
        cells = [score(value, 1) for value in table[k]]
        cells += ["–" if math.isnan(gap) else f"{100 * gap:+.1f}", score(shares[k], 1)]
        width = f"{100 * np.nan_to_num(table[k, 0]):.1f}"
        yield statistics.records.classes[k], statistics.colors[k], width, cells


def _bin_rows(bins: np.ndarray) -> Iterator[list[str]]:
    total = max(1.0, float(bins[:, 0].sum()))
    for index, (count, confidence, correct) in enumerate(bins):
        if count:
            limits = f"{100 * index / len(bins):.0f} to {100 * (index + 1) / len(bins):.0f} %"
            values = [score(v, 1) for v in (count / total, confidence / count, correct / count)]
            yield [limits, *values, f"{100 * (confidence - correct) / count:+.1f}"]


def _worst_row(
    image: WorstImage, statistics: Statistics
) -> tuple[str, float, dict[str, Picture], list[tuple[str, np.ndarray, float, float]]]:
    """Name, score, pictures, and (class, color, IoU, share) of the 14 worst classes."""
    counts = class_counts(image.matrix)
    truth, ious = counts[1], np.nan_to_num(iou(*counts))  # (K,)
    present = [k for k in np.argsort(ious, kind="stable") if truth[k]]
    names, colors = statistics.records.classes, statistics.colors
    pictures = {
        "prediction": jpeg(_overlay(image.image, image.pred, colors)),
        "mask": jpeg(_overlay(image.image, image.mask, colors)),
        "errors": jpeg(error_map(image)),
    }
    chips = [(names[k], colors[k], ious[k], truth[k] / truth.sum()) for k in present[:14]]
    return image.name, image.score, pictures, chips


def error_map(image: WorstImage) -> np.ndarray:
    """Paint an image in pale gray, wrong pixels red, pixels without a label black. Shape: → uint8 (h, w, 3)."""
    gray = image.image.astype(np.float32).mean(axis=2, keepdims=True)  # (h, w, 1)
    picture = np.repeat(120 + gray * 0.5, 3, axis=2)  # (h, w, 3)
    unlabeled = image.mask == IGNORE_INDEX
    wrong = ~unlabeled & (image.mask != image.pred)
    picture[wrong] = 0.2 * picture[wrong] + 0.8 * np.array(_WRONG)
    picture[unlabeled] = (18, 19, 22)
    return picture.round().astype(np.uint8)


def _overlay(image: np.ndarray, mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Mix image and class colors; where there is no class the image is darkened."""
    mixed = 0.42 * image + 0.58 * colorize(mask, colors)
    ignored = mask == IGNORE_INDEX
    mixed[ignored] = 0.35 * image[ignored]
    return mixed.round().astype(np.uint8)
