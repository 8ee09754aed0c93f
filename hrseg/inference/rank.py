"""Order in which images are worth labeling: those that a model is unsure of, and that differ from each other.

Of near duplicates the least certain image stands for all. The others are chosen greedily: next comes the image whose
uncertainty times its distance from all that were chosen is largest.

Source:
    Uncertainty by the margin of the two best classes, Scheffer et al. 2001; greedy k-center selection of Sener and
    Savarese, arXiv 1708.00489. The product of both is ours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hrseg.data.check.grouping import component_roots, exact_duplicates, near_duplicates
from hrseg.data.check.scan import ScannedPair, image_facts
from hrseg.data.layouts import Pair
from hrseg.errors import ConfigError, DataError, HrsegError, columns, guarded, path_text, printable
from hrseg.imaging import LoadedImage, stretched, to_tensor
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Picture

Measure = Literal["margin", "entropy"]
FEATURE_PIXELS = 2**16
"""Images are shrunk to this before their features are taken; what a scene shows is still seen there."""


@dataclass(frozen=True)
class Ranked:
    """One image worth labeling.

    Attributes:
        path: Its file.
        uncertainty: Mean over its pixels of 1 - margin, or of the entropy; 0 … 1.
        distance: Of its features from the nearest image before it and the labeled ones, 0 … 2; NaN for the first.
        copies: Near duplicates that it stands for.
    """

    path: Path
    uncertainty: float
    distance: float
    copies: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """Images in the order in which they are worth labeling.

    Attributes:
        rows: Best first.
        images: Images that were looked at.
        covered: Near duplicates of labeled images, which are left out.
        broken: Why images could not be read.
    """

    rows: Sequence[Ranked]
    images: int
    covered: Sequence[Path]
    broken: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "images": self.images,
            "ranked": [
                {
                    "path": path_text(row.path),
                    "uncertainty": round(row.uncertainty, 6),
                    "distance": None if np.isnan(row.distance) else round(row.distance, 6),
                    "copies": [path_text(path) for path in row.copies],
                }
                for row in self.rows
            ],
            "covered": [path_text(path) for path in self.covered],
            "broken": [path_text(text) for text in self.broken],
        }

    def text(self) -> str:
        """Return the table."""
        rows = [["", "image", "uncertainty", "distance", "copies"]]
        for number, row in enumerate(self.rows, start=1):
            far = "-" if np.isnan(row.distance) else f"{row.distance:.3f}"
            rows.append([str(number), printable(row.path), f"{row.uncertainty:.4f}", far, str(len(row.copies) or "")])
        lines = columns(rows, left=(1,))
        if self.covered:
            lines.append(f"Left out as near duplicates of labeled images: {len(self.covered):,}")
        return "\n".join(lines)

    def list_text(self) -> str:
        """Return one path a line.

        Raises:
            DataError: A name that holds a line break.
        """
        paths = [str(row.path) for row in self.rows]
        if broken := next((path for path in paths if len(path.splitlines()) != 1), None):
            raise DataError(f"{printable(broken)} cannot stand in a list, as its name holds a line break. Rename it.")
        return "".join(f"{path}\n" for path in paths)


@dataclass
class _Seen:
    """Facts, features and uncertainty of images, about a kilobyte each."""

    paths: list[Path] = field(default_factory=list)
    facts: list[ScannedPair] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def rank_images(
    predictor: Predictor,
    pictures: Iterable[Picture],
    count: int = 100,
    *,
    labeled: Iterable[Picture] = (),
    advance: Callable[[int], None] = lambda count: None,
) -> Ranking:
    """Rank images for labeling.

    Args:
        predictor: Opened with keep=("margin",) or ("entropy",), which is the measure of uncertainty.
        pictures: Image files; decoded one by one.
        count: Length of the ranking.
        labeled: Images with labels: their near duplicates are left out, and what differs from them is preferred.
        advance: Called with 1 after each image.

    Raises:
        ConfigError: The model shows no branches, or keeps no measure of uncertainty.
        DataError: No image can be read.
    """
    measure = next((name for name in predictor.keep if name in ("margin", "entropy")), None)
    if measure is None:
        raise ConfigError("The ranking needs a measure of uncertainty. Open the predictor with keep=('margin',).")
    if not hasattr(predictor.network, "forward_branches"):
        raise ConfigError(
            f"{predictor.name} shows no branches, as exported files do not, and images are compared by them. Give a "
            "checkpoint: --model runs/mine"
        )
    known, seen = _Seen(), _Seen()
    for picture, one in _readable(labeled, predictor, known):
        _keep(known, picture, one, predictor)
        advance(1)
    for picture, one in _readable(pictures, predictor, seen):
        try:
            with guarded(picture.origin):
                values = predictor(one).require_map(measure)
        except HrsegError as error:
            seen.broken.append(f"{picture.origin}: {error}")
            continue
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else float(measure == "margin")
        seen.uncertainty.append(1 - mean if measure == "margin" else mean)  # without data nothing is to be learned
        _keep(seen, picture, one, predictor)
        advance(1)
    if not seen.paths:
        first = f" The first: {seen.broken[0]}" if seen.broken else ""
        raise DataError(f"There is no image that can be read.{first}")
    return _choose(seen, known, count)


def _readable(pictures: Iterable[Picture], predictor: Predictor, seen: _Seen) -> Iterator[tuple[Picture, LoadedImage]]:
    """Decode pictures; those that are no files or broken are noted."""
    for picture in pictures:
        try:
            if picture.error is not None:
                raise picture.error
            if picture.path is None:
                raise DataError("it is no image file, and only files can be listed for labeling.")
            with guarded(picture.path):
                one = predictor.load(picture.path)
        except HrsegError as error:
            text = str(error)
            seen.broken.append(text if picture.origin in text else f"{picture.origin}: {text}")
            continue
        yield picture, one


def _keep(seen: _Seen, picture: Picture, one: LoadedImage, predictor: Predictor) -> None:
    path = Path(picture.path or "")
    seen.paths.append(path)
    pixels = one.pixels if predictor.plain else stretched(one.pixels)
    seen.facts.append(ScannedPair("", Pair(path, None, path.stem), **image_facts(pixels)))
    seen.features.append(features(predictor, one.pixels))


def features(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """Return the mean of each channel of the branches, each branch of length 1/2, together of length 1.

    Args:
        predictor: Whose network has branches.
        pixels: As `Predictor.load` gives them; shrunk to FEATURE_PIXELS.

    Shape:
        (H, W, B) → float32 (15C,)
    """
    network: Any = predictor.network
    tensor = to_tensor(pixels, predictor.mean, predictor.std, predictor.value_range)[None]
    height, width = tensor.shape[-2:]
    scale = min(1.0, (FEATURE_PIXELS / (height * width)) ** 0.5)
    size = (max(32, round(height * scale)), max(32, round(width * scale)))
    if scale < 1:
        tensor = torch.nn.functional.interpolate(tensor, size, mode="area")
    with torch.no_grad():
        branches = network.eval().forward_branches(tensor.to(next(network.parameters()).device))
    parts = [torch.nn.functional.normalize(maps.float().mean(dim=(2, 3)), dim=1) for maps in branches]  # (1, C·2^i)
    joined = torch.cat(parts, dim=1)[0] / len(parts) ** 0.5
    return joined.cpu().numpy()


def _choose(seen: _Seen, known: _Seen, count: int) -> Ranking:
    """Choose greedily, each group of near duplicates once, and none with a labeled image."""
    facts = [*known.facts, *seen.facts]
    roots = component_roots(len(facts), [*exact_duplicates(facts), *near_duplicates(facts)])
    first = len(known.facts)
    groups: dict[int, list[int]] = {}
    for index, root in enumerate(roots):
        groups.setdefault(root, []).append(index)
    covered, stands_for = [], {}
    for members in groups.values():
        unlabeled = [index - first for index in members if index >= first]
        if len(unlabeled) < len(members):
            covered += unlabeled
            continue
        best = max(unlabeled, key=lambda i: seen.uncertainty[i])
        stands_for[best] = tuple(seen.paths[i] for i in unlabeled if i != best)
    candidates = np.array(sorted(stands_for), np.int64)
    vectors = np.array(seen.features, np.float32)[candidates]  # (n, F)
    uncertainty = np.array(seen.uncertainty)[candidates]
    distance = np.full(len(candidates), np.nan)  # from the nearest that was chosen; NaN while none was
    for vector in known.features:
        distance = np.fmin(distance, np.linalg.norm(vectors - vector, axis=1))
    rows = []
    left = np.ones(len(candidates), bool)
    for _ in range(min(count, len(candidates))):
        gain = uncertainty * np.where(np.isnan(distance), 1.0, distance)
        best = int(np.where(left, gain, -1.0).argmax())
        left[best] = False
        index = int(candidates[best])
        rows.append(Ranked(seen.paths[index], float(uncertainty[best]), float(distance[best]), stands_for[index]))
        distance = np.fmin(distance, np.linalg.norm(vectors - vectors[best], axis=1))
    return Ranking(rows, len(seen.paths), [seen.paths[i] for i in covered], [*known.broken, *seen.broken])
