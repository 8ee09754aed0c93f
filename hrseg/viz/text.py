"""Text in pictures: its colors, its size, and a font that can write the words.

The font is the one that Pillow carries; a system font is asked only for letters that one lacks.
"""

import contextlib
import functools
import unicodedata
from collections.abc import Iterable

from PIL import ImageFont

Color = tuple[int, int, int]
PAPER: Color = (255, 255, 255)
INK: Color = (30, 33, 38)
QUIET: Color = (122, 128, 137)
HAIRLINE: Color = (222, 225, 230)
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "Arial.ttf",
)


def text_size(width: int, height: int) -> int:
    """Choose letters that can still be read when the whole picture is shown on a page."""
    return int(min(max(max(width, height) / 52, 12), 72))


@functools.lru_cache(maxsize=64)
def load_font(size: int, letters: frozenset[str] = frozenset()) -> ImageFont.FreeTypeFont:
    """Load Pillow's own font, or one of the system where that one lacks letters of a name."""
    own = ImageFont.load_default(size=size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    if not _lacks(own, letters):
        return own
    fonts = [own]
    for name in _FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return min(fonts, key=lambda font: _lacks(font, letters))


def letters_of(texts: Iterable[str]) -> frozenset[str]:
    """Collect what Pillow's font may lack; it knows ASCII and some signs."""
    return frozenset(letter for text in texts for letter in text if not letter.isascii())


def _lacks(font: ImageFont.FreeTypeFont, letters: Iterable[str]) -> int:
    """Count the letters for which a font would draw its box."""
    box = bytes(font.getmask("\U0010fffe"))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)


def writable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Take the accents off letters the font cannot draw, and put "?" for the others."""
    return "".join(_plain(letter) if not letter.isascii() and _lacks(font, letter) else letter for letter in text)


def _plain(letter: str) -> str:
    first = unicodedata.normalize("NFKD", letter)[0]
    return first if first.isascii() else "?"


def shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text, with an ellipsis, until it fits into a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
