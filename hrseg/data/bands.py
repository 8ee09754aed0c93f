"""Images of any number of bands: TIFF, .npy and the rest, with their values as they are stored.

`imaging.read_image` makes everything RGB of 8 bits; here nothing is scaled, mixed or dropped. What comes out is
uint8, uint16 or float32.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hrseg.archived import read_bytes
from hrseg.errors import DataError, MissingExtraError
from hrseg.imaging import value_range_of

_KEPT = (np.uint8, np.uint16, np.float32)
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)


def read_bands(path: str | Path, bands: Sequence[int] | None = None) -> np.ndarray:
    """Read bands of an image file.

    An array (.npy) of three axes is (H, W, B) unless its first axis is shorter than its last: then it is
    (B, H, W). So is a TIFF of several pages. One of two axes has one band.

    Args:
        path: TIFF, .npy, PNG or any image file; it may lie in a zip archive.
        bands: Which ones, from 0; they come in this order. None takes all.

    Returns:
        uint8, uint16 or float32; other types become float32.

    Raises:
        DataError: The file is missing or damaged, lacks a band, or holds numbers that are not finite.
        MissingExtraError: The TIFF is of a kind that only tifffile reads.

    Shape:
        (H, W, B)
    """
    path = Path(path)
    values = _reader(path)(path, read_bytes(path))
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or not values.size or values.dtype.kind not in "buif":
        raise DataError(
            f"{path} holds {values.dtype} of shape {values.shape}, which is no image. Save numbers as (H, W, B), "
            "(B, H, W) or (H, W)."
        )
    if bands is not None:
        missing = [band for band in bands if band >= values.shape[2]]
        if missing:
            raise DataError(
                f"{path} has {values.shape[2]} bands (0 to {values.shape[2] - 1}), data.bands asks for "
                f"{missing[0]}. Change data.bands, or the file."
            )
        if list(bands) != list(range(values.shape[2])):
            values = values[..., list(bands)]
    values = np.ascontiguousarray(values if values.dtype in _KEPT else _other(values))
    wrong = 0 if values.dtype.kind != "f" else values.size - np.count_nonzero(np.isfinite(values))
    if wrong:
        raise DataError(
            f"{path} holds {wrong:,} values that are not finite numbers. Replace them, such as by 0, and give these "
            "pixels an ignored id in the mask."
        )
    return values


def band_statistics(
    paths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    value_range: float | None = None,
    threads: int = 4,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each band over all pixels of all images, in parts of the value range.

    Args:
        paths: The images; each is read once.
        read: Path → image.
        value_range: What becomes 1; None takes that of each image's type.
        threads: How many images are read at a time.

    Raises:
        DataError: Images of different numbers of bands, or a band that never changes.

    Shape:
        B numbers each

    Source: pairwise update of mean and squared deviations, Chan, Golub and LeVeque 1979.
    """

    def one(path: Path) -> tuple[int, np.ndarray, np.ndarray]:
        image = read(path)
        flat = image.reshape(-1, image.shape[2])
        values = flat.astype(np.float64) / (value_range or value_range_of(image.dtype))
        mean = values.mean(axis=0)
        return len(values), mean, ((values - mean) ** 2).sum(axis=0)

    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    with ThreadPoolExecutor(threads) as pool:
        for path, (pixels, its_mean, its_squares) in zip(paths, pool.map(one, paths), strict=True):
            if not count:
                count, mean, squares = pixels, its_mean, its_squares
                continue
            if len(its_mean) != len(mean):
                raise DataError(
                    f"{path} has {len(its_mean)} bands, {paths[0]} {len(mean)}. Choose bands that all images have "
                    "with data.bands."
                )
            total = count + pixels
            step = its_mean - mean
            mean = mean + step * pixels / total
            squares = squares + its_squares + step**2 * count * pixels / total
            count = total
    deviation = np.sqrt(squares / max(1, count))
    flat_bands = np.flatnonzero(deviation < 1e-9).tolist()
    if flat_bands:
        raise DataError(
            f"Band {flat_bands[0]} has the same value in all {len(paths)} training images, so it says nothing and "
            "cannot be normalised. Leave it out of data.bands."
        )
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _reader(path: Path) -> Callable[[Path, bytes], np.ndarray]:
    return _READERS.get(path.suffix.lower(), _image)


def _array(path: Path, packed: bytes) -> np.ndarray:
    try:
        values: np.ndarray = np.load(io.BytesIO(packed), allow_pickle=False)
    except _DAMAGE as error:
        raise DataError(
            f"{path} is not a whole array of numbers: {error}. Save it again with numpy.save."
        ) from error
    return _bands_last(values)


def _bands_last(values: np.ndarray) -> np.ndarray:
    first = values.ndim == 3 and values.shape[0] < values.shape[2]
    return np.moveaxis(values, 0, 2) if first else values


def _tiff(path: Path, packed: bytes) -> np.ndarray:
    """Take Pillow where it gives every band as it is, tifffile for the rest."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage; tifffile is asked next
            found = _plain_tiff(packed)
    except _DAMAGE:
        found = None
    if found is not None:
        return found
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{path} is a TIFF of many bands or bits, which tifffile reads. Run: pip install 'hrseg[tiff]'."
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(packed)) as file:
            series = file.series[0]
            values, axes = series.asarray(), series.axes
    except (*_DAMAGE, tifffile.TiffFileError) as error:
        raise DataError(
            f"{path} cannot be read: {error}. It is probably damaged; copy it again."
        ) from error
    keep = [place for place, name in enumerate(axes) if name in "YX" or values.shape[place] > 1]
    values = values.reshape([values.shape[place] for place in keep])
    axes = "".join(axes[place] for place in keep)
    if axes.startswith("S"):  # the file says that it keeps plane by plane
        return np.moveaxis(values, 0, 2)
    return values if axes.endswith("S") else _bands_last(values)


def _plain_tiff(packed: bytes) -> np.ndarray | None:
    with Image.open(io.BytesIO(packed)) as image:
        tags: Any = getattr(image, "tag_v2", {})
        bands = len(image.getbands())
        plain = (
            getattr(image, "n_frames", 1) == 1
            and image.mode in _BITS
            and tags.get(277, 1) == bands  # samples per pixel
            and max(tags.get(258, (1,))) * bands == _BITS[image.mode]
        )
        return np.array(image) if plain else None


_BITS = {
    **{"1": 1, "L": 8, "RGB": 24, "RGBA": 32, "CMYK": 32, "F": 32},
    **{"I;16": 16, "I;16B": 16, "I;16L": 16, "I": 32},
}
"""Pillow's modes whose arrays are the bands → bits of a pixel, so that a mode it converted to does not count."""


def _image(path: Path, packed: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_UNCHANGED) if packed else None
    if values is None:
        raise DataError(f"{path} is not an image that can be read. Replace it.")
    if values.ndim == 3 and values.shape[2] >= 3:
        values = values[..., [2, 1, 0, *range(3, values.shape[2])]]  # OpenCV's blue comes first
    return values


_READERS: dict[str, Callable[[Path, bytes], np.ndarray]] = {
    ".npy": _array,
    ".tif": _tiff,
    ".tiff": _tiff,
}


def _other(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8 if values.dtype == np.bool_ else np.float32)
