"""Open images of any format: header at once, rows on demand, converted to what the network sees.

`rasters` and `photographs` decode stored values of their formats, `ArrayFile` those of .npy; `ImageFile` converts
values to RGB or bands.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging.georeference import Georeference, beside

BAND_TYPES = ("uint8", "uint16", "float32")
"""Types of bands; others become float32."""
DARK = 2**14
"""An image whose 16-bit values are all below this, a quarter of the range, is nearly black."""
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda v: v,
    2: lambda v: v[:, ::-1],
    3: lambda v: v[::-1, ::-1],
    4: lambda v: v[::-1],
    5: lambda v: v.swapaxes(0, 1),
    6: lambda v: v.swapaxes(0, 1)[:, ::-1],
    7: lambda v: v.swapaxes(0, 1)[::-1, ::-1],
    8: lambda v: v.swapaxes(0, 1)[::-1],
}
"""EXIF orientation → upright image."""


@dataclass(frozen=True)
class Layout:
    """Meaning of the values of a file.

    Attributes:
        color: "gray", "rgb", "palette", "cmyk", "lab", "photograph", or "bands" without a color.
        bits: Significant bits of a value.
        inverted: Whether 0 is white.
        palette: Colors of the values, uint8 (n, 3).
        alpha: Index of the opacity band.
        premultiplied: Whether colors are multiplied with opacity.
        nodata: The value of pixels without data.
    """

    color: str
    bits: int = 8
    inverted: bool = False
    palette: np.ndarray | None = None
    alpha: int | None = None
    premultiplied: bool = False
    nodata: float | None = None


class ImageFile:
    """An open image; a context manager.

    Attributes:
        name: For messages.
        height: Rows of the upright image.
        width: Columns of the upright image.
        count: Bands stored, opacity included.
        dtype: Of the stored values.
        pages: Images in the file.
        block: Rows that are decoded together; the height for formats that are decoded as a whole.
        georeference: Position on the ground, None if unknown.
        layout: Meaning of the values.
        bands: Bands that the network sees, None for RGB.
        format: PNG, TIFF, ...
        orientation: EXIF orientation, 1 to 8, which is undone already.
    """

    name: str
    height: int
    width: int
    count: int
    dtype: np.dtype[Any]
    pages: int = 1
    block: int
    georeference: Georeference | None = None
    layout: Layout
    bands: tuple[int, ...] | None = None
    format: str = ""
    orientation: int = 1

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._brightest = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user; complete only after all rows were read."""
        return (*self._notes, *self._range_notes())

    def rows(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels as the network sees them, and which are valid; None: all.

        Raises:
            DataError: The file is damaged, or holds numbers that are not finite where there is data.

        Shape:
            uint8 (rows, W, 3), or with bands uint8, uint16 or float32 (rows, W, bands); bool (rows, W)
        """
        values, mask = self.read(top, bottom)  # (rows, W, bands as stored), (rows, W) or None
        valid = self._valid(values, mask)
        if self.bands is not None:
            return self._to_bands(values, valid), valid
        return self._to_rgb(values), valid

    def read(self, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return stored values, orientation undone, and the file's own mask of valid pixels, if it has one.

        Shape:
            (rows, W, count), bool (rows, W)
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def prepare(self, bands: Sequence[int] | None, bits: int | None) -> None:
        """Choose RGB or bands, and check that the file can be converted, before any pixel is read.

        Args:
            bands: Bands, from 0; None: RGB.
            bits: Significant bits of 16-bit values; None: as the file declares.

        Raises:
            DataError: A type or a number of bands that does not fit.
        """
        if bits is not None and not 8 <= bits <= 16:
            raise DataError(f"data.bits={bits} is not possible: 16-bit files hold 8 to 16 significant bits.")
        if bits is not None and self.dtype == np.uint16:
            self.layout = replace(self.layout, bits=bits)
        if self.dtype.kind not in "buif":
            raise DataError(
                f"{self.name} holds {self.stored_type} numbers, and networks read real ones. Save real values, "
                "such as the magnitude, as float32."
            )
        if bands is None:
            self._check_rgb()
            return
        missing = [band for band in bands if band >= self.count]
        if missing:
            raise DataError(
                f"{self.name} has {self.count} bands (0 to {self.count - 1}), data.bands asks for {missing[0]}. Change "
                "data.bands, or give a file with these bands."
            )
        self.bands = tuple(bands)

    @property
    def stored_type(self) -> str:
        """Type of the values, for messages."""
        return self.dtype.name

    def _check_rgb(self) -> None:
        if self.dtype.name not in ("uint8", "uint16", "bool") and self.layout.color != "photograph":
            raise DataError(
                f"{self.name} holds {self.stored_type} numbers, and this model reads RGB of 8 bits. Convert it "
                "(gdal_translate -ot Byte -scale MIN MAX, the same MIN and MAX for all images), or train a model with "
                "data.bands."
            )
        colors = self.count - (self.layout.alpha is not None)
        if self.layout.color == "bands" and colors > 4:
            raise DataError(
                f"{self.name} has {colors} bands of {self.stored_type} and does not name red, green and blue, "
                "and this model reads RGB. Choose three (gdal_translate -b 3 -b 2 -b 1 in.tif out.tif), or train a "
                "model with data.bands."
            )
        noted = any("data.bands" in note for note in self._notes)
        if self.layout.color in ("bands", "rgb") and colors > 3 and not noted:
            self._notes.append(
                f"{self.name} has {colors} bands: bands 0, 1 and 2 are taken for red, green and blue, the others are "
                "left out. A model of all bands is trained with data.bands."
            )

    def _valid(self, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
        if mask is not None:
            return mask
        layout = self.layout
        if layout.alpha is not None:
            opaque: np.ndarray = values[..., layout.alpha] != 0
            return opaque
        if layout.nodata is None:
            return None
        empty = np.isnan(values) if np.isnan(layout.nodata) else values == layout.nodata
        return ~empty.all(axis=2)  # a pixel lacks data where all bands do

    def _to_bands(self, values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        chosen = np.ascontiguousarray(values[..., list(self.bands or ())])
        if chosen.dtype.name not in BAND_TYPES:
            chosen = chosen.astype(np.uint8 if chosen.dtype == np.bool_ else np.float32)
        if chosen.dtype.kind != "f":
            return chosen
        if valid is not None:
            # nodata values such as -9999 are far outside the range of the others
            chosen[~valid] = 0
        wrong = chosen.size - np.count_nonzero(np.isfinite(chosen))
        if wrong:
            raise DataError(
                f"{self.name} holds {wrong:,} values that are not finite numbers. Replace them, or declare in the file "
                "that they are nodata, and give these pixels an ignored id in the mask."
            )
        return chosen

    def _to_rgb(self, values: np.ndarray) -> np.ndarray:
        layout = self.layout
        if layout.palette is not None:
            colors: np.ndarray = layout.palette[np.minimum(values[..., 0], len(layout.palette) - 1)]
            return colors
        if values.dtype == np.uint16:
            self._brightest = max(self._brightest, int(values.max(initial=0)))
        values = to_eight_bits(values, layout.bits)
        opacity = None if layout.alpha is None else values[..., layout.alpha]  # (H, W)
        planes = [band for band in range(values.shape[2]) if band != layout.alpha]
        if layout.color in ("cmyk", "lab"):
            mode = layout.color.upper()
            packed = np.ascontiguousarray(values[..., planes]).tobytes()
            picture = np.array(Image.frombytes(mode, values.shape[1::-1], packed).convert("RGB"))
        else:
            picture = np.ascontiguousarray(values[..., planes[:3] if len(planes) >= 3 else planes[:1] * 3])
        if layout.inverted:
            picture = 255 - picture
        return blend_with_white(picture, opacity, layout.premultiplied)

    def _range_notes(self) -> list[str]:
        bits = self.layout.bits
        if self._brightest > 2**bits - 1:
            return [
                f"{self.name} holds values to {self._brightest}, beyond its declared {bits} bits; these "
                f"became white. Set data.bits (--bits) to {self._brightest.bit_length()}."
            ]
        if bits < 16 or not 0 < self._brightest < DARK:
            return []
        share, used = 100 * self._brightest / 65535, max(8, self._brightest.bit_length())
        return [
            f"{self.name} has 16 bits and its values end at {self._brightest}, {share:.2g} % of the range, so the "
            f"model sees it nearly black. If its values have {used} bits, set data.bits={used} (--bits {used})."
        ]


def to_eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Scale values with this many significant bits to 0 to 255."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype == np.uint8 and bits == 8:
        return values
    top = 2**bits - 1
    steps = np.minimum(np.arange(2 ** (8 * values.dtype.itemsize), dtype=np.int64), top)
    table = ((2 * 255 * steps + top) // (2 * top)).astype(np.uint8)  # rounded, in integers
    scaled: np.ndarray = table[values]
    return scaled


def blend_with_white(picture: np.ndarray, opacity: np.ndarray | None, premultiplied: bool = False) -> np.ndarray:
    """Blend a transparent picture with white. Shape: uint8 (H, W, 3), (H, W) → (H, W, 3)."""
    if opacity is None or (opacity == 255).all():
        return picture
    stacked = np.dstack([picture, opacity])  # (H, W, 4)
    size = stacked.shape[1::-1]
    clear = Image.frombytes("RGBA", size, stacked.tobytes(), "raw", "RGBa" if premultiplied else "RGBA")
    white = Image.new("RGBA", size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, clear).convert("RGB"))


class ArrayFile(ImageFile):
    """A .npy file; it is mapped again for each read, so that pages already read do not stay in memory.

    An array of three axes is (H, W, B) unless its first axis is shorter than its last: then it is (B, H, W). One of
    two axes has one band.

    Args:
        source: An absolute path, or the bytes of the file.
        name: For messages.

    Raises:
        DataError: It is damaged, or no image.
    """

    def __init__(self, source: Path | bytes, name: str) -> None:
        super().__init__()
        self.name, self._source = name, source
        values = self._mapped()
        if values.ndim not in (2, 3) or not values.size or values.dtype.kind not in "buif":
            raise DataError(
                f"{name} holds {values.dtype} of shape {values.shape}, which is no image. Save numbers as (H, W, B), "
                "(B, H, W) or (H, W)."
            )
        self._bands_first = values.ndim == 3 and values.shape[0] < values.shape[2]
        self.height, self.width, self.count = self._last(values).shape
        self.dtype, self.block = values.dtype.newbyteorder("="), 1
        color = {1: "gray", 3: "rgb"}.get(self.count, "bands")
        self.layout = Layout(color, bits=min(16, 8 * self.dtype.itemsize))
        if isinstance(source, Path):
            self.georeference = beside(source)

    def read(self, top: int, bottom: int) -> tuple[np.ndarray, None]:
        """Copy rows."""
        return np.array(self._last(self._mapped())[top:bottom], self.dtype), None

    def _last(self, values: np.ndarray) -> np.ndarray:
        if values.ndim == 2:
            return values[..., None]
        return np.moveaxis(values, 0, 2) if self._bands_first else values

    def _mapped(self) -> np.ndarray:
        try:
            if isinstance(self._source, bytes):
                return np.asarray(np.load(io.BytesIO(self._source), allow_pickle=False))
            return np.asarray(np.load(self._source, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise DataError(
                f"{self.name} is not a whole array of numbers: {error}. Save it again with numpy.save."
            ) from error
