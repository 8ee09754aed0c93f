"""Self-contained HTML pages: Jinja2 templates with style and pictures inside, no file beside them and no network."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from hrseg.errors import percent, score
from hrseg.imaging import write_text

if TYPE_CHECKING:
    from jinja2 import Environment


class Picture(NamedTuple):
    """Image inside a page: data URI, and size in pixels, so that the page does not move while it is decoded."""

    src: str
    width: int
    height: int


def jpeg(image: np.ndarray, quality: int = 84) -> Picture:
    """Return a photograph for a page. Shape: uint8 (H, W, 3)."""
    return _picture(Image.fromarray(image), "JPEG", quality=quality)


def thumbnails(image: np.ndarray, mask: np.ndarray, side: int) -> tuple[Picture, Picture]:
    """Return an image and its mask, reduced to a longest side, as JPEG and as exact PNG of one size.

    Shape:
        uint8 (H, W, 3), (h, w) of ids or (h, w, 4) of colors
    """
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    ids = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)  # no mixed ids
    if mask.ndim == 3:
        ids = ids.quantize(256)  # a palette is a third of the size
    return _picture(photo, "JPEG", quality=84), _picture(ids, "PNG", optimize=True)


def render(template: str, **values: Any) -> str:
    """Return a page as text; every value is escaped unless the template marks it as safe.

    Args:
        template: Name of a file of `viz/templates`.
        values: Variables of the template; `title` is the headline of every page.
    """
    return _environment().get_template(template).render(values)


def render_text(template: str, **values: Any) -> str:
    """Return a page as text, as `render` does, from the text of a template."""
    return _environment().from_string(template).render(values)


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Render a page into a file; bytes of file names that are not UTF-8 are written as escapes.

    Raises:
        DataError: The file cannot be written.
    """
    write_text(path, render(template, **values))


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hrseg.viz"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelled variable is an error, not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "score": score}
    environment.filters["rgb"] = lambda color: "rgb({},{},{})".format(*map(int, color))
    return environment


def _picture(image: Image.Image, kind: str, **options: Any) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind.lower()};base64,{encoded}", *image.size)
