"""Search for wrong masks: each image is judged by a model that was trained on the other folds.

A finding is a connected region where mask and prediction disagree in one way. Its score is the mean margin of the two
best classes over the pixels inside it: the class of the mask has at most the second probability, so the margin is what
speaks against it at least. The mean is taken as if some more pixels had no margin, so that few pixels prove little.

Source:
    Predictions out of sample as evidence on labels: confident learning, Northcutt et al., arXiv 1911.00068. Regions and
    score are ours.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hrseg.config import find_config, load_config
from hrseg.data.dataset import read_ids
from hrseg.data.layouts import LAYOUTS, Pair, find_pairs
from hrseg.data.split import FOLD_LISTS, divide, write_lists
from hrseg.errors import ConfigError, DataError, HrsegError, TrainingError, columns, guarded, path_text, printable
from hrseg.evaluation.validate import evaluation_config
from hrseg.imaging.rle import to_coco
from hrseg.inference.predictor import Predictor
from hrseg.labels import IGNORE_INDEX, LabelSet
from hrseg.study.study import Study, plan_study
from hrseg.study.train import train_study
from hrseg.training.build import build_data

log = logging.getLogger(__name__)

BORDER = 2
"""Pixels along a region's edge that do not count: masks and networks differ there by nature."""
PRIOR_PIXELS = 100
"""Pixels without margin that are added to the mean."""
VARIANT = "audit"


class Region(NamedTuple):
    """Connected pixels where a mask and a prediction disagree in one way.

    Attributes:
        given: trainId in the mask.
        suggested: trainId of the prediction.
        score: 0 … 1.
        top, left: Its first row and column.
        pixels: Which pixels of its box belong to it, bool (h, w).
    """

    given: int
    suggested: int
    score: float
    top: int
    left: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Finding:
    """One region whose mask seems wrong; a line of corrections.jsonl.

    Attributes:
        image, mask: Files below the dataset's folder.
        given, suggested: Names of the classes.
        score: 0 … 1.
        pixels: Size of the region.
        box: Left, top, width, height.
        size: (height, width) of the mask.
        values: Of the mask's pixels there, ids or colors.
        value: The suggested class as id or color.
        counts: The region as COCO's run lengths.
    """

    image: str
    mask: str
    given: str
    suggested: str
    score: float
    pixels: int
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    values: list[Any]
    value: Any
    counts: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class Audit:
    """Findings over a dataset; the best `count` are kept, so that memory does not grow with the images.

    Attributes:
        root: The dataset's folder.
        count: Findings that are kept.
        smallest: Fewest pixels of a region.
        images: Images that were judged.
        regions: Regions that were found, of which the best are kept.
        broken: Why images could not be judged.
    """

    root: Path
    count: int = 200
    smallest: int = 100
    images: int = 0
    regions: int = 0
    broken: list[str] = field(default_factory=list)
    _best: list[tuple[float, int, Finding]] = field(default_factory=list)  # a heap, worst first

    @property
    def findings(self) -> list[Finding]:
        """The findings, most suspicious first."""
        return [finding for _, _, finding in sorted(self._best, key=lambda entry: (-entry[0], -entry[1]))]

    def add(self, predictor: Predictor, pair: Pair, labels: LabelSet) -> None:
        """Judge one image by a model that has not learned from it.

        Args:
            predictor: Opened with keep=("margin",).
            pair: With a mask.
            labels: Of the mask.

        Raises:
            DataError: Image or mask cannot be read, or their sizes differ.
        """
        ids = read_ids(pair)
        if ids is None or pair.mask is None:
            return
        mask = labels.encode(ids, str(pair.mask))
        with guarded(pair.image):
            prediction = predictor(pair.image)
        if prediction.mask.shape != mask.shape:
            raise DataError(
                f"{pair.mask} has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its image "
                f"{prediction.mask.shape[0]}x{prediction.mask.shape[1]}. They must be equal; check that they belong "
                "together."
            )
        self.images += 1
        for region in disagreements(mask, prediction.mask, prediction.require_map("margin"), self.smallest):
            self.regions += 1
            entry = (region.score, -self.regions)  # of equal ones the first
            if len(self._best) == self.count and entry < self._best[0][:2]:
                continue
            heapq.heappush(self._best, (*entry, self._finding(region, pair, ids, labels)))
            if len(self._best) > self.count:
                heapq.heappop(self._best)

    def _finding(self, region: Region, pair: Pair, ids: np.ndarray, labels: LabelSet) -> Finding:
        height, width = region.pixels.shape
        whole = np.zeros(ids.shape[:2], bool)
        part = (slice(region.top, region.top + height), slice(region.left, region.left + width))
        whole[part] = region.pixels
        row = labels.classes[region.suggested]
        return Finding(
            image=path_text(pair.image.relative_to(self.root)),
            mask=path_text((pair.mask or pair.image).relative_to(self.root)),
            given=labels.names[region.given],
            suggested=row.name,
            score=round(region.score, 4),
            pixels=int(region.pixels.sum()),
            box=(region.left, region.top, width, height),
            size=(ids.shape[0], ids.shape[1]),
            values=np.unique(ids[part][region.pixels], axis=0).tolist(),
            value=list(row.color) if ids.ndim == 3 else row.id,
            counts=to_coco(whole),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "root": path_text(self.root),
            "images": self.images,
            "regions": self.regions,
            "findings": [finding.to_dict() for finding in self.findings],
            "broken": self.broken,
        }

    def text(self, shown: int = 20) -> str:
        """Return a table of the first findings, and which classes are mistaken for which."""
        findings = self.findings
        if not findings:
            return f"No region of {self.smallest} pixels in {self.images:,} images speaks against its mask."
        rows = [["", "mask", "says", "model says", "score", "pixels"]]
        for number, one in enumerate(findings[:shown], start=1):
            values = (printable(one.mask), one.given, one.suggested, f"{one.score:.3f}", f"{one.pixels:,}")
            rows.append([str(number), *values])
        pairs = Counter((one.given, one.suggested) for one in findings).most_common(5)
        often = ", ".join(f"{given} for {suggested} {count}" for (given, suggested), count in pairs)
        return "\n".join(
            [
                *columns(rows, left=(1, 2, 3)),
                f"{self.regions:,} regions in {self.images:,} images; the {len(findings):,} most suspicious are kept",
                f"Most frequent among them: {often}",
            ]
        )


def disagreements(mask: np.ndarray, predicted: np.ndarray, margin: np.ndarray, smallest: int) -> Iterator[Region]:
    """Yield the connected regions where a mask and a prediction disagree in one way.

    Args:
        mask: trainIds; pixels of 255 do not count.
        predicted: trainIds.
        margin: Largest probability less the second.
        smallest: Regions of fewer pixels, and those without a pixel farther than BORDER from their edge, are left out.

    Shape:
        each (H, W)
    """
    differ = (mask != predicted) & (mask != IGNORE_INDEX) & (predicted != IGNORE_INDEX)
    kinds = np.where(differ, mask.astype(np.int32) * 256 + predicted, -1)
    for kind in np.unique(kinds[differ]).tolist():
        _, numbers, boxes, _ = cv2.connectedComponentsWithStats((kinds == kind).astype(np.uint8), connectivity=4)
        for number in np.flatnonzero(boxes[:, cv2.CC_STAT_AREA] >= smallest):
            if number == 0:  # what is around them
                continue
            left, top, width, height, _ = boxes[number].tolist()
            part = (slice(top, top + height), slice(left, left + width))
            pixels = numbers[part] == number
            depth = cv2.distanceTransform(np.pad(pixels, 1).astype(np.uint8), cv2.DIST_C, 3)[1:-1, 1:-1]
            inside = depth > BORDER
            count = int(inside.sum())
            if count:
                score = float(margin[part][inside].sum()) / (count + PRIOR_PIXELS)
                yield Region(kind // 256, kind % 256, score, top, left, pixels)


def audit_folds(
    root: Path,
    checkpoints: Iterable[Path],
    *,
    count: int = 200,
    smallest: int = 100,
    device: str = "auto",
    progress: Callable[[int], Callable[[int], None]] = lambda total: lambda count: None,
) -> tuple[Audit, LabelSet]:
    """Judge each fold by the model that was trained on the others.

    Args:
        root: The dataset's folder, with the lists of the folds.
        checkpoints: From `fold_checkpoints`.
        count: Findings that are kept.
        smallest: Fewest pixels of a region.
        device: As for a `Predictor`.
        progress: Takes the number of a fold's images, and returns a function that counts them.

    Returns:
        The findings, and the classes of the masks.

    Raises:
        ConfigError: A model was not trained on a fold.
        DataError: No image can be judged.
    """
    audit = Audit(root, count, smallest)
    for checkpoint in checkpoints:
        config = evaluation_config(str(checkpoint), [f"data.root={root}"])
        _check_fold(checkpoint, config.data.train_split, config.data.val_split)
        labels = build_data(config).labels
        pairs = find_pairs(config.data.layout, root, config.data.val_split, masks=config.data.masks)
        predictor = Predictor(str(checkpoint), device=device, keep=("margin",))
        advance = progress(len(pairs))
        for pair in pairs:
            try:
                audit.add(predictor, pair, labels)
            except HrsegError as error:
                audit.broken.append(str(error))
            advance(1)
    if not audit.images:
        raise DataError(audit.broken[0] if audit.broken else f"No image of the folds in {root} has a mask.")
    return audit, labels


def _check_fold(checkpoint: Path, train: str, val: str) -> None:
    fold = val.removesuffix("_val")
    if not (fold.startswith("fold_") and train == f"{fold}_train"):
        raise ConfigError(
            f"{checkpoint} learned from '{train}' and was validated on '{val}', so it has seen the masks that it would "
            "judge, or they are no fold. Give the runs of: hrseg study RECIPE --folds N"
        )


def fold_checkpoints(models: Sequence[Path]) -> list[Path]:
    """Return last.ckpt of each fold: of runs, of a variant's folder, or of a study with one variant.

    Raises:
        ConfigError: There is none, or a study has several variants.
    """
    found: dict[str, Path] = {}
    for model in models:
        runs = [model / "last.ckpt"] if (model / "last.ckpt").is_file() else []
        runs = runs or sorted(model.glob("seed_*_fold_*/last.ckpt")) or sorted(model.glob("*/seed_*_fold_*/last.ckpt"))
        variants = sorted({run.parent.parent.name for run in runs})
        if len(variants) > 1:
            raise ConfigError(
                f"The study {model} has the variants {', '.join(variants)}. Choose one: --models {model / variants[0]}"
            )
        if not runs:
            raise ConfigError(
                f"{model} holds no last.ckpt of a fold. Give the folder of: hrseg study RECIPE --folds N, or leave "
                "--models out to train."
            )
        for run in runs:  # the first seed of each fold
            found.setdefault(run.parent.name.rpartition("_fold_")[2], run)
    return [found[name] for name in sorted(found)]


def train_folds(root: Path, recipe: str, folds: int, by: str = "none", overrides: Sequence[str] = ()) -> Path:
    """Train a model on the rest of each fold, as a study that can be resumed, and return its variant's folder.

    Args:
        root: The dataset's folder; lists of the folds that are there are used, else they are written.
        recipe: Name or file.
        folds: Number of folds.
        by: What stays together, see `divide`.
        overrides: Of the recipe.

    Raises:
        ConfigError: The recipe does not fit.
        DataError: The dataset cannot be divided.
        TrainingError: A run failed.
    """
    if not root.is_dir():
        raise DataError(f"Folder {root} does not exist. Give the folder of a dataset.")
    data = load_config(recipe, [*overrides]).data
    words = ["data.layout=folder", f"data.root={root}"]
    if data.labels is None and LAYOUTS[data.layout].table:
        words.append(f"data.labels={LAYOUTS[data.layout].table}")
    if not list(root.glob(FOLD_LISTS.format(split="val"))):
        write_lists(divide(root, folds=folds, by=by, masks=data.masks))
    study = Study(f"{root.resolve().name}_audit", find_config(recipe), {VARIANT: ()}, tuple(words), folds=folds)
    plan = plan_study(study, overrides)
    table = train_study(plan)
    if table.failures:
        raise TrainingError(
            f"{len(table.failures)} of {folds} folds could not be trained: {plan.runs[0].record.error or 'see above'} "
            "The same command tries them again."
        )
    return plan.folder / VARIANT
