"""From the bytes of a file to pixels: what kind and how large is known before anything is decoded."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from hrseg.errors import DataError
from hrseg.imaging import read_image
from hrseg.serve.limits import Limits, Refusal

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of what is opened; the others have decoders that nobody needs here."""


def open_picture(content: bytes, limits: Limits) -> Image.Image:
    """Read the head of an image file.

    Returns:
        The image, not yet decoded.

    Raises:
        Refusal: Not one of FORMATS, damaged, or too many pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise Refusal(
            415,
            f"This file is no image that can be read; send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many("more", limits) from error
    except Exception as error:  # Pillow's readers raise nearly every kind on damaged heads
        raise _damaged() from error
    if image.width * image.height > limits.max_pixels:
        raise _too_many(f"{image.height} x {image.width}", limits)
    return image


def decode(image: Image.Image) -> np.ndarray:
    """Decode to RGB. Shape: uint8 (H, W, 3).

    Raises:
        Refusal: It is damaged.
    """
    try:
        return read_image(image)
    except DataError as error:
        raise _damaged() from error


def _damaged() -> Refusal:
    return Refusal(422, "The image is damaged and cannot be decoded; send an undamaged copy.")


def _too_many(size: str, limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"The image has {size} pixels, and at most {limits.max_pixels:,} are taken; make it smaller, "
        "or use hrseg predict.",
    )
