"""Small trees of images and masks for the tests of the check."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.data.check import Result, check
from hrseg.labels import load_labels

SIZE = (40, 48)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Noise on a slope, another one for each number."""
    rng = np.random.default_rng(number)
    slope = np.linspace(0, rng.integers(40, 120), size[1])[None, :, None]
    coarse = rng.integers(0, 120, (5, 6, 3)).repeat(size[0] // 5 + 1, 0).repeat(size[1] // 6 + 1, 1)
    return (coarse[: size[0], : size[1]] + slope).clip(0, 255).astype(np.uint8)


def squares(values: Sequence[object], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of vertical stripes, one per value."""
    stripes = np.array_split(np.arange(size[1]), len(values))
    mask = np.zeros((*size, *np.shape(values[0])), np.int64)
    for value, columns in zip(values, stripes, strict=True):
        mask[:, columns] = value
    return mask.astype(np.uint8) if mask.max() < 256 else mask.astype(np.uint16)


def put(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Save pixels, whatever the mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def tree(
    root: Path,
    masks: Sequence[np.ndarray],
    image: str = "images/{}.png",
    mask: str = "masks/{}.png",
) -> Path:
    """Write one picture for each mask."""
    for number, ids in enumerate(masks):
        put(root / image.format(f"p{number:02d}"), picture(number, ids.shape[:2]))
        put(root / mask.format(f"p{number:02d}"), ids)
    return root


def look_at(root: Path, **options: object) -> Result:
    """Check in this process."""
    return check(root, workers=1, **options)  # type: ignore[arg-type]


def kinds(result: Result) -> dict[str, str]:
    """Return kind → text of the findings."""
    return {finding.kind: finding.text for finding in result.findings}


TWO = squares([0, 1])


def split_tree(root, train=4, val=2):
    for number in range(train + val):
        split = "train" if number < train else "val"
        put(root / "images" / split / f"{number}.png", picture(number))
        put(root / "masks" / split / f"{number}.png", TWO)
    return root


def table_of(result, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(result.recipe.labels, encoding="utf-8")
    return load_labels(path)
