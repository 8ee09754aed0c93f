"""Images of any number of bands: TIFF, .npy and the rest, with their values as they are stored.

`imaging.read_image` makes everything RGB of 8 bits; here nothing is scaled, mixed or dropped. What comes out is
uint8, uint16 or float32.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hrseg.errors import DataError
from hrseg.imaging import value_range_of


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
            "cannot be normalized. Leave it out of data.bands."
        )
    return tuple(mean.tolist()), tuple(deviation.tolist())
