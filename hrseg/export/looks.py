"""The images that a certificate is measured on: yours, or drawn streets, whole and cut to awkward sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrseg.data.labels import LabelSet
from hrseg.data.street import scene
from hrseg.errors import DataError
from hrseg.imaging import read_image, read_mask
from hrseg.inference.sources import expand

DRAWN = ((97, 101), (128, 256), (33, 47), (181, 240), (64, 64), (250, 333))
"""Sizes of drawn streets: odd, even, and those that 32 divides."""
CUTS = ((97, 101), (64, 96), (33, 47), (127, 160))
"""Besides each whole image one cut, these in turn."""
_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class Look:
    """One image of a certificate.

    Attributes:
        image: uint8 RGB (H, W, 3).
        mask: trainIds (H, W), or None.
    """

    image: np.ndarray
    mask: np.ndarray | None = None


def choose_looks(
    images: str | Path | None, masks: str | Path | None, labels: LabelSet, most: int
) -> list[Look]:
    """Return what a file is looked at with.

    Args:
        images: Folder, glob or file; None draws streets.
        masks: Folder of masks in the dataset's ids, named as their images.
        labels: Classes of the masks.
        most: Images at most; of more, evenly spaced ones are taken.

    Raises:
        DataError: No image, or an image without mask.
    """
    if images is None:
        if masks is not None:
            raise DataError(f"Masks were given ({masks}) without images. Add --images FOLDER.")
        return [Look(scene(i, DRAWN[i % len(DRAWN)])[0]) for i in range(min(most, len(DRAWN)))]
    looks = []
    for number, path in enumerate(evenly(expand([images]), most)):
        image = read_image(path)
        mask = None if masks is None else _mask(path, Path(masks), labels, image)
        looks.append(Look(image, mask))
        height, width = CUTS[number % len(CUTS)]
        looks.append(Look(np.ascontiguousarray(image[-height:, -width:])))
    return looks


def read_calibration(folder: str | Path, most: int) -> tuple[list[np.ndarray], list[Look]]:
    """Split a folder into images that int8 ranges are taken from, and a fifth that judges them.

    Raises:
        DataError: Fewer than two images.
    """
    paths = expand([folder])
    if len(paths) < 2:
        raise DataError(
            f"{folder} holds {len(paths)} image; int8 needs a few dozen that look like those the network will meet."
        )
    held_out = paths[::5]
    kept = [path for path in paths if path not in set(held_out)]
    return (
        [read_image(path) for path in evenly(kept, 5 * most)],
        [Look(read_image(path)) for path in evenly(held_out, most)],
    )


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Take evenly spaced ones where there are too many.

    Example:
        >>> evenly([Path(c) for c in "abcdef"], 3)
        [PosixPath('a'), PosixPath('c'), PosixPath('e')]
    """
    if len(paths) <= most:
        return list(paths)
    return [paths[number * len(paths) // most] for number in range(most)]


def _mask(image: Path, folder: Path, labels: LabelSet, pixels: np.ndarray) -> np.ndarray:
    path = next((p for s in _MASKS if (p := folder / f"{image.stem}{s}").is_file()), None)
    if path is None:
        raise DataError(
            f"{folder} holds no mask {image.stem}.png for {image}. Masks are named as their images."
        )
    mask = labels.encode(read_mask(path), str(path))
    if mask.shape != pixels.shape[:2]:
        raise DataError(
            f"{path} is {mask.shape}, its image {pixels.shape[:2]} pixels; both must have one size."
        )
    return mask
