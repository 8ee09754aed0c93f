"""Pictures inside a page: as data, so that the page needs no file beside it."""

import base64
import io
from importlib import resources
from typing import Literal

import numpy as np
from PIL import Image


def data_uri(picture: np.ndarray, kind: Literal["PNG", "JPEG"] = "PNG", quality: int = 82) -> str:
    """Return a picture as a data URI: PNG with a palette for drawings, JPEG for photographs.

    Args:
        picture: RGB.
        kind: Of the file.
        quality: Of a JPEG.

    Shape:
        uint8 (H, W, 3)
    """
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if kind == "PNG":  # flat colours: a palette is a third of the size
        image.quantize(128, dither=Image.Dither.NONE).save(buffer, kind, optimize=True)
    else:
        image.save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def page_style(*packages: str) -> str:
    """Return the style that all pages share, then the page.css of other packages, such as "hrseg.evaluation"."""
    return "".join(
        resources.files(package).joinpath("page.css").read_text(encoding="utf-8")
        for package in ("hrseg.data.check", *packages)
    )
