"""Photographs through Pillow: PNG, JPEG, WebP, GIF, BMP and other formats, decoded as a whole."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging.failures import file_size, foreign_code
from hrseg.imaging.georeference import beside
from hrseg.imaging.image_file import UPRIGHT, ImageFile, Layout
from hrseg.imaging.values import gray_to_rgb

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
_UNREAD = {"EPS", "BUFR", "GRIB", "HDF5", "WMF"}
"""Formats that Pillow passes to other programs, or cannot decode."""


class PhotoFile(ImageFile):
    """A file that Pillow reads, or an image of Pillow.

    Args:
        source: An absolute path, the bytes of a file, or an image of Pillow.
        name: For messages.
        page: Index of the frame.

    Raises:
        DataError: It is no image, damaged, or of a kind that Pillow does not decode.
    """

    def __init__(self, source: Path | bytes | Image.Image, name: str, *, page: int = 0) -> None:
        super().__init__()
        self.name = name
        self._memory = isinstance(source, Image.Image)
        self._hint = _start_and_size(source)
        with foreign_code(name, *self._hint):
            self.image = opened(source)
            several = self.image.format != "MPO"  # a photograph with its preview
            self.pages = int(getattr(self.image, "n_frames", 1)) if several else 1
            if 0 < page < self.pages:
                self.image.seek(page)
            self.orientation = orientation(self.image, source)
        if not 0 <= page < self.pages:
            raise DataError(f"{name} has {self.pages} frames (0 to {self.pages - 1}); there is no {page}.")
        if self.pages > 1:
            self._notes.append(f"{name} has {self.pages} frames; frame {page} is read and the others are left out.")
        width, height = self.image.size
        self.format, self.mode = self.image.format or "", self.image.mode
        self.height, self.width = (width, height) if self.orientation >= 5 else (height, width)
        self.block = self.height
        mode, info = self.image.mode, self.image.info
        sixteen = mode in SIXTEEN_BIT or (mode == "I" and not self._memory)
        self.dtype = np.dtype("uint16" if sixteen else {"I": "int32", "F": "float32"}.get(mode, "uint8"))
        self._has_alpha = not sixteen and (mode in TRANSPARENT or "transparency" in info)
        one = sixteen or mode in ("1", "L", "I", "F")
        self.count = 1 if one and not self._has_alpha else (2 if mode in ("LA", "La") else 3 + self._has_alpha)
        nodata = info.get("transparency") if sixteen else None
        self.layout = Layout(
            "photograph" if self._memory else "gray" if self.count == 1 else "rgb",
            bits=16 if sixteen else 8,
            nodata=nodata if isinstance(nodata, int) else None,
            alpha=self.count - 1 if self._has_alpha else None,
        )
        self._pixels: np.ndarray | None = None
        self._valid_pixels: np.ndarray | None = None
        if isinstance(source, Path):
            self.georeference = beside(source)
            if self.georeference is not None:
                self.georeference = self.georeference.turned(self.orientation, height, width)

    def rows(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return rows of the image, which is decoded as a whole at the first call."""
        if self._pixels is None:
            self._pixels, self._valid_pixels = self._decode()
        return self._pixels[top:bottom], None if self._valid_pixels is None else self._valid_pixels[top:bottom]

    def _decode(self) -> tuple[np.ndarray, np.ndarray | None]:
        with foreign_code(self.name, *self._hint):
            self.image.load()
            values = np.atleast_3d(np.array(_stored(self.image, self._has_alpha)))
        values = np.ascontiguousarray(UPRIGHT[self.orientation](values))
        valid = self._valid(values, None)
        valid = None if valid is None or valid.all() else valid
        if self.bands is not None:
            return self._to_bands(values, valid), valid
        if self.dtype == np.uint16:
            return self._to_rgb(values.clip(0, 65535).astype(np.uint16)), valid
        return (self._to_rgb(values) if values.dtype == np.uint8 else _to_eight_bit_rgb(values)), valid

    @property
    def palette(self) -> np.ndarray | None:
        """Colors of a palette, uint8 (n, 3); None without one."""
        if self.mode not in ("P", "PA"):
            return None
        with foreign_code(self.name, *self._hint):
            values = self.image.getpalette("RGB") or []
        return np.array(values[: len(values) // 3 * 3], np.uint8).reshape(-1, 3)

    def close(self) -> None:
        """Close the file, unless it is an image that was given."""
        if not self._memory:
            self.image.close()


def opened(source: Path | bytes | Image.Image) -> Image.Image:
    """Open with Pillow, without formats that run other programs."""
    if isinstance(source, Image.Image):
        return source
    Image.init()
    formats = [name for name in Image.ID if name not in _UNREAD]
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)


def orientation(image: Image.Image, source: object = None) -> int:
    """Return the orientation in EXIF, XMP or a PNG's texts, 1 where there is none or it cannot be read.

    5 to 8 swap the axes.
    """
    try:
        if image.format == "PNG" and not isinstance(source, Image.Image) and _has_late_texts(image):
            image.load()  # reads the chunks behind the pixels
        found = int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises nearly every type, and the pixels may be whole
        return 1
    return found if 1 <= found <= 8 else 1


def _has_late_texts(image: Image.Image) -> bool:
    """Return whether a PNG has EXIF or texts behind its pixels, from the headers of its chunks."""
    file = getattr(image, "fp", None)
    if file is None:
        return False
    place = file.tell()
    file.seek(8)
    behind = found = False
    while not found and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        behind = behind or kind == b"IDAT"
        found = behind and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        file.seek(length + 4, 1)
    file.seek(place)
    return found


def _stored(image: Image.Image, has_alpha: bool) -> Image.Image:
    """Return an image whose bands are gray, RGB or numbers, with opacity last where there is some."""
    mode = image.mode
    if has_alpha:
        if mode == "La":
            return image.convert("LA")
        return image if mode in ("LA", "RGBA") else image.convert("RGBA")
    if mode in (*SIXTEEN_BIT, "I", "F", "L", "RGB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _to_eight_bit_rgb(values: np.ndarray) -> np.ndarray:
    """Scale a caller's array of 0 to 1, 0 to 255 or 0 to 65535 to 8 bits. Shape: (H, W, 1) → (H, W, 3)."""
    numbers: np.ndarray = np.nan_to_num(values[..., 0].astype(np.float32))
    top = numbers.max(initial=0.0)
    if values.dtype.kind == "f":
        numbers = numbers * (255.0 if top <= 1.0 else 1.0)
    elif top > 255:
        numbers = numbers.clip(0, 65535) / 257.0
    return gray_to_rgb(numbers.round().clip(0, 255).astype(np.uint8))


def _start_and_size(source: Path | bytes | Image.Image) -> tuple[bytes, int | None]:
    if isinstance(source, bytes):
        return source[:512], len(source)
    if isinstance(source, Image.Image):
        return b"", None
    with source.open("rb") as file:
        return file.read(512), file_size(source)
