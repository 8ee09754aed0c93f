"""Pages for a reader: each is one HTML file with its style and its pictures inside, and needs no file beside it.

Here is what all pages share; what stands on one is for others to say.
"""

import base64
import html
import io
from importlib import resources
from typing import Any, Literal

import numpy as np
from PIL import Image


def whole_page(
    verb: str, title: str, *, header: str, body: str, style: str = "", after: str = ""
) -> str:
    """Return a page as text. All but the title is HTML already.

    Args:
        verb: What writes it, such as "evaluate".
        title: Its headline.
        header: What stands below that.
        body: What follows.
        style: More than the style that all pages share.
        after: What comes behind the visible part, such as a script.
    """
    title = html.escape(title)
    style = resource("hrseg.viz", "page.css") + style
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title} · hrseg {verb}</title><style>{style}</style></head>
<body><main>
<header><p class="eyebrow">hrseg {verb}</p><h1>{title}</h1>{header}</header>
{body}
</main>{after}</body></html>
"""


def resource(package: str, name: str) -> str:
    """Return the text of a file that lies in a package, such as a style or a script."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def data_uri(picture: np.ndarray, kind: Literal["PNG", "JPEG"] = "PNG", quality: int = 82) -> str:
    """Return a picture as a data URI: PNG with a palette for drawings, JPEG for photographs.

    Args:
        picture: RGB.
        kind: Of the file.
        quality: Of a JPEG.

    Shape:
        uint8 (H, W, 3)
    """
    image = Image.fromarray(picture)
    if kind == "PNG":  # flat colors: a palette is a third of the size
        return image_uri(image.quantize(128, dither=Image.Dither.NONE), kind, optimize=True)
    return image_uri(image, kind, quality=quality)


def image_uri(image: Image.Image, kind: Literal["PNG", "JPEG"], **options: Any) -> str:
    """Return an image as a data URI.

    Args:
        image: Any that files of this kind can hold.
        kind: Of the file.
        options: How Pillow shall write it.
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
