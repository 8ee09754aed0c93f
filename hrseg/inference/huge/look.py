"""From values as a file stores them to the pixels that the network sees."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hrseg.errors import DataError
from hrseg.inference.huge.readers import Head

_KEPT = ("uint8", "uint16", "float32")


def check_look(head: Head, name: str, bands: Sequence[int] | None) -> None:
    """Refuse what cannot become pixels, before anything is computed.

    Args:
        head: Of the file.
        name: The file's name, for the message.
        bands: Bands that the network sees, or None for RGB.

    Raises:
        DataError: A type or a band that does not fit.
    """
    if bands is None:
        if head.dtype.name not in ("uint8", "uint16", "bool"):
            raise DataError(
                f"{name} holds {head.dtype.name}, and this model sees RGB of 8 bits. Convert it (gdal_translate "
                "-ot Byte -scale), or train a model with data.bands."
            )
        return
    missing = [band for band in bands if band >= head.samples]
    if missing:
        raise DataError(
            f"{name} has {head.samples} bands (0 to {head.samples - 1}), this model asks for {missing[0]}. Give a "
            "file with the bands it was trained with."
        )


def seen(
    values: np.ndarray, head: Head, valid: np.ndarray | None, bands: Sequence[int] | None
) -> np.ndarray:
    """Return pixels as `imaging.read_image` or `data.bands.read_bands` would.

    Args:
        values: As stored.
        head: Of the file.
        valid: Which pixels have data; None: all.
        bands: Bands that the network sees, or None for RGB.

    Raises:
        DataError: Numbers that are not finite where there is data.

    Shape:
        (rows, W, samples) → uint8 (rows, W, 3), or (rows, W, bands)
    """
    return _rgb(values, head) if bands is None else _bands(values, valid, bands)


def _rgb(values: np.ndarray, head: Head) -> np.ndarray:
    if head.palette is not None:
        colours: np.ndarray = head.palette[np.minimum(values[..., 0], len(head.palette) - 1)]
        return colours
    if values.dtype == np.bool_:
        values = values * np.uint8(255)
    if values.dtype == np.uint16:
        values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if head.inverted:
        values = 255 - values
    opaque = None if head.alpha is None else values[..., head.alpha]
    colour = [i for i in range(head.samples) if i != head.alpha]
    colour = colour[:3] if len(colour) >= 3 else [colour[0]] * 3
    picture = np.ascontiguousarray(values[..., colour])
    if opaque is None or (opaque == 255).all():
        return picture
    clear = Image.fromarray(np.dstack([picture, opaque]))
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, clear).convert("RGB"))


def _bands(values: np.ndarray, valid: np.ndarray | None, bands: Sequence[int]) -> np.ndarray:
    chosen = np.ascontiguousarray(values[..., list(bands)])
    if chosen.dtype.name not in _KEPT:
        chosen = chosen.astype(np.uint8 if chosen.dtype == np.bool_ else np.float32)
    if chosen.dtype.kind != "f":
        return chosen
    if valid is not None:
        chosen[~valid] = (
            0  # what stands for "no data" is often a number that nothing else comes near
        )
    wrong = chosen.size - np.count_nonzero(np.isfinite(chosen))
    if wrong:
        raise DataError(
            f"The image holds {wrong:,} values that are not finite numbers. Replace them, or say in the file that "
            "they are nodata."
        )
    return chosen
