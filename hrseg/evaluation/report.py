"""An evaluation as a folder: evaluate a model, or take the ledger of an earlier evaluation, and write what there is.

The folder holds report.html, report.json, ledger.npz and the figures as PNG. Files are written one by one, each whole.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrseg.errors import DataError, score
from hrseg.evaluation.callbacks import WORST, Exhibit, KeepEvidence
from hrseg.evaluation.page import (
    confusion_figure,
    contour_figure,
    page,
    reliability_figure,
    trimap_figure,
)
from hrseg.evaluation.validate import evaluate
from hrseg.imaging import write_atomic, write_image
from hrseg.metrics.confusion import known_mean
from hrseg.metrics.scores import Results, results
from hrseg.metrics.statistics import EvaluationSettings, Evidence, read_evidence

FIGURES = {
    "confusion": confusion_figure,
    "contours": contour_figure,
    "trimap": trimap_figure,
    "reliability": reliability_figure,
}
"""Name of a file → its figure."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        results: The figures.
        folder: Where the files are.
        files: Their paths.
    """

    results: Results
    folder: Path
    files: tuple[Path, ...]

    def text(self) -> str:
        """Say the main figures and where the page is."""
        found = self.results
        rulers, mending = found.evidence.rulers, found.mending
        widths = [f"{100 * rulers.ratio:g} %", *(f"{k} px" for k in rulers.distances)]
        images = score(known_mean(found.image_scores))
        rows = [
            ("mIoU", f"{score(found.scores['miou'])}  ({score(found.low)} to {score(found.high)})"),
            ("pixel accuracy", score(found.scores["pixel_accuracy"])),
            ("mean image", f"{images}, worst tenth {score(found.mean_of_worst())}"),
            ("boundary IoU", _listed(widths, found.boundary)),
            ("boundary F", _listed(widths[1:], found.contour_f)),
            ("trimap mIoU", _listed([f"{r} px" for r in rulers.bands], found.band_iou)),
            ("calibration", f"error {score(found.ece)} in {rulers.bins} bins, NLL {found.nll:.3f}"),
            (
                "temperature",
                f"{mending.temperature:.2f}: error {score(mending.ece_before)} → {score(mending.ece_after)}, "
                f"NLL {mending.nll_before:.3f} → {mending.nll_after:.3f}",
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
    rulers: EvaluationSettings | None = None,
    worst: int = WORST,
) -> Report | None:
    """Evaluate a model in one pass, or show an earlier evaluation again, and write the folder.

    Args:
        model: A checkpoint, a run's folder, a tag or an exported file; None is the model that ships. The ledger.npz
            of an earlier evaluation needs no inference; its folder then lacks the worst images.
        out: The folder.
        split: "val" or "test".
        overrides: Words such as "data.root=/data/camvid".
        recipe: Takes data and options from this recipe instead of the model's own config.
        rulers: What is measured with; of a ledger only the number of bins may differ from its own.
        worst: How many of the worst images are shown.

    Returns:
        What was written; None on all devices but the first.

    Raises:
        HrsegError: The model, the data or the ledger cannot be read, or the folder not written.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; a report needs a folder. Choose another with --out.")
    if model is not None and model.endswith(".npz"):
        return write_report(_with_bins(read_evidence(model), rulers), [], folder)
    keeper = KeepEvidence(rulers, worst)
    done = evaluate(model, split, overrides, recipe=recipe, watch=[keeper])
    if not keeper.is_first:
        return None
    evidence = keeper.evidence(done.ledger.model, {"split": f"split {split}"})
    return write_report(evidence, keeper.exhibits, folder)


def write_report(evidence: Evidence, exhibits: Sequence[Exhibit], folder: str | Path) -> Report:
    """Write page, figures, values and ledger.

    Args:
        evidence: What was counted.
        exhibits: The worst images, worst first; may be empty.
        folder: Is made where it is missing.

    Raises:
        DataError: A file cannot be written, or there is nothing to write about.
    """
    folder = Path(folder)
    found = results(evidence)
    pictures = {name: draw(found) for name, draw in FIGURES.items()}
    files = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(files, pictures.values(), strict=True):
        write_image(path, picture)
    evidence.save(folder / "ledger.npz")
    values = json.dumps(found.to_dict(), ensure_ascii=False, indent=1)
    texts = {"report.json": values, "report.html": page(found, pictures, exhibits)}
    for name, text in texts.items():
        with write_atomic(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Report(found, folder, (*files, folder / "ledger.npz", *(folder / name for name in texts)))  # fmt: skip


def _with_bins(evidence: Evidence, rulers: EvaluationSettings | None) -> Evidence:
    """Counts are bound to the distances they were counted at; bins merge."""
    if rulers is None or rulers == evidence.rulers:
        return evidence
    mine = replace(evidence.rulers, bins=rulers.bins)
    default = EvaluationSettings(bins=rulers.bins)
    if rulers not in (mine, default):
        raise DataError(
            "A ledger is counted at its own widths, distances and bands, which cannot be changed afterwards. Evaluate "
            "the model again with the others."
        )
    return replace(evidence, rulers=mine)


def _listed(names: Sequence[str], rows: np.ndarray) -> str:
    values = (score(known_mean(row)) for row in rows)
    return ", ".join(f"{value} at {name}" for name, value in zip(names, values, strict=True))
