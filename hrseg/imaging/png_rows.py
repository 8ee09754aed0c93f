"""Partial decoding of PNG files, down to the last row of a crop.

A PNG is compressed from top to bottom, so the rows below a crop need not be decoded. Other files are read as a whole.
The packages of the extra `fast`, where installed, decode faster and give the same pixels.
"""

import functools
import importlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from hrseg.imaging import load_image, read_image
from hrseg.imaging.archives import read_bytes

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">II5B")  # width, height, depth, colors, compression, filter, interlace
_PLAIN = (8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
_END = b"\0\0\0\0IEND\xaeB`\x82"
_BLOCK = 65535
"""Maximum bytes of a stored block."""
_IGNORED_CHUNKS = {b"gAMA", b"pHYs", b"sRGB", b"cHRM", b"tIME", b"bKGD", b"sBIT", b"iCCP", b"hIST"}
"""Chunks that do not change the result of `read_image`."""
_FAILURES = (OSError, SyntaxError, ValueError, RuntimeError, struct.error, zlib.error, MemoryError)


class Picture:
    """An 8-bit RGB PNG that is not decoded yet; made by `open_picture`.

    Attributes:
        shape: (H, W, 3).
    """

    def __init__(self, path: Path, packed: bytes, shape: tuple[int, int, int]) -> None:
        self.path, self.packed, self.shape = path, packed, shape

    def rows(self, stop: int) -> np.ndarray:
        """Return the first `stop` rows, or the whole file if it does not match its header.

        Raises:
            DataError: The file is damaged.

        Shape:
            (stop, W, 3)
        """
        stop = min(max(stop, 1), self.shape[0])
        try:
            packed = _repacked(self.packed, stop, _inflater())
            return _decoder()(packed)
        except _FAILURES:
            return read_image(self.path)  # raises the precise error


def open_picture(path: Path, bands: Sequence[int] | None = None, bits: int | None = None) -> Picture | np.ndarray:
    """Open an image file; an 8-bit RGB PNG is not decoded yet.

    Args:
        path: The file.
        bands: Bands as stored; None: RGB of 8 bits.
        bits: Significant bits of 16-bit files; None: as the file declares.

    Raises:
        DataError: See `load_image`.
    """
    if bands is not None:
        return load_image(path, bands=bands).pixels
    if path.suffix.lower() == ".png":
        packed = read_bytes(path)
        shape = _plain_shape(packed)
        if shape is not None:
            return Picture(path, packed, shape)
    return load_image(path, bits=bits).pixels


def pixels(image: Picture | np.ndarray, stop: int | None = None) -> np.ndarray:
    """Return the pixels of an image, or at least its first `stop` rows. Shape: (H, W, B)."""
    if isinstance(image, Picture):
        return image.rows(image.shape[0] if stop is None else stop)
    return image


def _plain_shape(packed: bytes) -> tuple[int, int, int] | None:
    """Return the shape of a complete PNG that can be decoded row by row, else None."""
    if packed[:8] != _SIGNATURE:
        return None
    names = []
    for name, start, length in _chunks(packed):
        names.append(name)
        if name == b"tEXt" and not packed.startswith(b"Raw profile", start):
            continue  # such a profile may hold a rotation
        if name == b"IHDR":
            width, height, *kind = _HEAD.unpack_from(packed, start)
            if length != _HEAD.size or tuple(kind) != _PLAIN or not width or not height:
                return None
        elif name not in (b"IDAT", b"IEND") and name not in _IGNORED_CHUNKS:
            return None
    if names[:1] != [b"IHDR"] or names.count(b"IHDR") != 1 or names[-1] != b"IEND":
        return None
    limit = Image.MAX_IMAGE_PIXELS
    return None if limit and width * height > limit else (height, width, 3)


def _chunks(packed: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and length of each complete chunk."""
    place = len(_SIGNATURE)
    while place + 12 <= len(packed):
        length, name = struct.unpack_from(">I4s", packed, place)
        if place + 12 + length > len(packed):
            return
        yield name, place + 8, length
        place += 12 + length


def _repacked(packed: bytes, rows: int, inflater: ModuleType | None) -> bytes:
    """Return a PNG of the first rows only.

    Without an inflater only the header changes: decoders stop after the declared rows. With one, the rows are
    inflated here and passed on in stored blocks.
    """
    head = b"IHDR" + packed[16:20] + struct.pack(">I", rows) + packed[24:29]
    begin = [packed[:12], head, struct.pack(">I", zlib.crc32(head))]
    if inflater is None:
        return b"".join([*begin, packed[33:]])
    (width,) = struct.unpack_from(">I", packed, 16)
    blocks, adler, crc = [], 1, inflater.crc32(b"IDAT\x78\x01")
    for block in _inflated(packed, rows * (3 * width + 1), inflater):
        start = struct.pack("<BHH", 0, len(block), len(block) ^ _BLOCK)
        blocks += [start, block]
        adler = inflater.adler32(block, adler)
        crc = inflater.crc32(block, inflater.crc32(start, crc))
    end = struct.pack("<BHHI", 1, 0, _BLOCK, 0)[:5] + struct.pack(">I", adler)
    length = struct.pack(">I", 2 + sum(map(len, blocks)) + len(end))
    crc = struct.pack(">I", inflater.crc32(end, crc))
    return b"".join([*begin, length, b"IDAT\x78\x01", *blocks, end, crc, _END])


def _inflated(packed: bytes, length: int, inflater: ModuleType) -> Iterator[bytes]:
    """Yield the first bytes of the filtered rows, in pieces that fit a stored block.

    Raises:
        ValueError: There are fewer.
    """
    stream = inflater.decompressobj()
    view = memoryview(packed)
    for name, start, size in _chunks(packed):
        if name == b"IDAT" and length:
            try:
                piece = stream.decompress(view[start : start + size], length)
            except inflater.error as error:
                raise ValueError(str(error)) from error
            length -= len(piece)
            for place in range(0, len(piece), _BLOCK):
                yield piece[place : place + _BLOCK]
    if length:
        raise ValueError("the pixels end early")


@functools.cache
def _inflater() -> ModuleType | None:
    """Return a faster inflater than the decoder's own, if installed."""
    return _imported("isal.isal_zlib")


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@functools.cache
def _decoder() -> Callable[[bytes], np.ndarray]:
    """Return the fastest decoder installed; all give the same pixels."""
    spng = _imported("pyspng")
    return _with_pillow if spng is None else spng.load


def _with_pillow(packed: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(packed)) as image:
        return np.array(image)
