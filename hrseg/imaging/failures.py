"""Error messages for image files: the kind of a file that cannot be read, and the next step."""

import contextlib
import errno
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from hrseg.errors import DataError, HrsegError

_CONVERT = "Convert it to PNG or TIFF first"
_FRAMES = "Give it to hrseg predict with the suffix of a video, or save its frames: ffmpeg -i."
_KINDS: tuple[tuple[int, bytes, str, str], ...] = (
    (128, b"DICM", "a DICOM file", f"{_CONVERT}: dcm2img, or pydicom in Python."),
    (344, b"n+1\0", "a NIfTI volume", "Save its slices as .npy or TIFF: nibabel in Python."),
    (344, b"ni1\0", "the header of a NIfTI volume", "Save its slices as .npy or TIFF: nibabel."),
    (0, b"\x1f\x8b", "packed with gzip", "Unpack it: gunzip (a NIfTI volume then needs nibabel)."),
    (4, b"ftyphei", "a HEIC photograph", f"{_CONVERT}: heif-convert, or magick."),
    (4, b"ftyphev", "a HEIC photograph", f"{_CONVERT}: heif-convert, or magick."),
    (4, b"ftypmif1", "a HEIF photograph", f"{_CONVERT}: heif-convert, or magick."),
    (4, b"ftyp", "a video (MP4 family)", _FRAMES),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska)", _FRAMES),
    (8, b"AVI ", "a video (AVI)", _FRAMES),
    (0, b"\0\0\1\xba", "a video (MPEG)", _FRAMES),
    (0, b"G@", "a video (MPEG transport stream)", _FRAMES),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a video (ASF)", _FRAMES),
    (0, b"FLV\1", "a video (FLV)", _FRAMES),
    (0, b"OggS", "a video or a sound (Ogg)", _FRAMES),
    (0, b"ffconcat", "a list of videos", "Name the videos themselves to hrseg predict."),
    (0, b"#EXTM3U", "a playlist", "Name the videos themselves to hrseg predict."),
    (0, b"\x89HDF", "an HDF5 or netCDF-4 file", "Save the array as .npy, or as TIFF: gdal_translate."),
    (0, b"CDF", "a netCDF file", "Save the array as .npy, or as TIFF: gdal_translate."),
    (0, b"GRIB", "a GRIB file", f"{_CONVERT}: gdal_translate."),
    (0, b"EHFA_HEADER_TAG", "an ERDAS Imagine raster", f"{_CONVERT}: gdal_translate."),
    (0, b"<VRTDataset", "a GDAL virtual raster, a text that names other files",
     "Make one file of it: gdal_translate in.vrt out.tif."),
    (0, b"%PDF", "a PDF document", f"{_CONVERT}: pdftoppm."),
    (0, b"%!PS", "a PostScript program", f"{_CONVERT}: gs, or magick."),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript program", f"{_CONVERT}: gs, or magick."),
    (0, b"<svg", "an SVG drawing", f"{_CONVERT}: rsvg-convert, or Inkscape."),
    (0, b"v/1\x01", "an OpenEXR image", f"{_CONVERT}: oiiotool, or magick."),
    (0, b"#?RADIANCE", "a Radiance HDR image", f"{_CONVERT}: magick."),
    (0, b"\xff\x0a", "a JPEG XL image", f"{_CONVERT}: djxl."),
    (4, b"JXL ", "a JPEG XL image", f"{_CONVERT}: djxl."),
    (0, b"II\xbc", "a JPEG XR image", f"{_CONVERT}: JxrDecApp."),
    (0, b"\xd0\xcf\x11\xe0", "an OLE container (FlashPix, Office)", f"{_CONVERT}."),
    (0, b"PK\x03\x04", "a zip archive (.npz, .ora, Office)", "Unpack it; arrays go into .npy files."),
    (0, b"7z\xbc\xaf", "a 7z archive", "Unpack it."),
    (0, b"Rar!", "a RAR archive", "Unpack it."),
    (0, b"MATLAB 5.0", "a MATLAB file", "Save the array as .npy: scipy.io.loadmat in Python."),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Fetch it: git lfs pull."),
    (0, b"<!doctype html", "a web page", "A download probably failed; fetch the image again."),
    (0, b"<html", "a web page", "A download probably failed; fetch the image again."),
)  # fmt: skip
"""Offset, bytes at it, kind of file, next step."""

_SIGNATURES = {
    **{b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"},
    **{b"P4": "PBM", b"P5": "PGM", b"P6": "PPM", b"II*\0": "TIFF", b"MM\0*": "TIFF"},
    **{b"DDS ": "DDS", b"8BPS": "Photoshop"},
}
"""First bytes of formats that are read."""
_BROKEN = re.compile(
    r"truncat|overrun|broken|corrupt|damaged|end of|too early|premature|incomplete|not enough|short read|crc|checksum"
    r"|bad (marker|header|block)|invalid (block|distance|code)|inflate|bogus|unrecognized data stream|read error"
    r"|readencoded|incorrect count|directory \d+ not found|read_header|i/o error",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|not implemented|unimplemented|unknown|cannot find loader|not available"
    r"|not configured|missing codec|cannot handle|not understand",
    re.IGNORECASE,
)


@contextlib.contextmanager
def foreign_code(name: str, start: bytes = b"", size: int | None = None) -> Iterator[None]:
    """Raise errors of an image library as `DataError` with one sentence about the file.

    The block holds calls of the library only, so that our own bugs keep their traceback.

    Args:
        name: Of the file.
        start: Its first bytes, to recognize its kind.
        size: Its number of bytes.

    Raises:
        DataError: The library raised anything but MemoryError, which is not about the file.
    """
    try:
        with silent_libraries():
            yield
    except (HrsegError, MemoryError):
        raise
    except Exception as error:  # libraries raise nearly every type on damaged files
        raise DataError(f"{name} {_sentence(error, start, size)}") from error


def opening_failed(name: str, error: OSError) -> DataError:
    """Return the error for a file that the operating system cannot open or read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        if "://" in name:
            return DataError(
                f"{name} is an address, and a file is read here. Addresses are read by hrseg predict, and by "
                "hrseg.inference.sources.open_sources."
            )
        return DataError(f"No such file: {name}. Check the path.")
    reason = error.strerror or error
    if error.errno == errno.EIO:
        return DataError(f"{name} cannot be read from its disk: {reason}. Copy it again.")
    return DataError(f"{name} cannot be opened: {reason}. Give a file to read.")


def not_an_image(name: str, start: bytes, size: int | None) -> str:
    """Return the message for a file that is not an image of a supported kind."""
    if size == 0 or not start:
        return f"{name} is empty (0 bytes), so it holds no image. Fetch or copy it again."
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    for offset, mark, what, advice in _KINDS:
        if (text if offset == 0 else start)[offset:].lower().startswith(mark.lower()):
            return f"{name} is {what}, which is not read as an image. {advice}"
    bytes_ = "" if size is None else f" ({size:,} byte{'s' * (size != 1)})"
    for mark, format_ in _SIGNATURES.items():
        if start.startswith(mark):
            return (
                f"{name} begins like a {format_} image{bytes_}, but its header cannot be read. It is probably damaged; "
                "copy it again."
            )
    return (
        f"{name} is not an image that can be read{bytes_}: its first bytes are those of no format that is known "
        "here. Replace it, or convert it to PNG or TIFF with the program that made it."
    )


_LIBRARIES = re.compile(r"(PIL|rasterio)\b")


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Silence warnings and log records of Pillow and rasterio; errors still raise."""
    for name in ("PIL", "rasterio"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:  # the user set no level
            logger.setLevel(logging.CRITICAL + 1)
    # `catch_warnings` is not thread-safe: another thread that reads an image would undo it
    if ("ignore", None, Warning, _LIBRARIES, 0) not in warnings.filters:
        warnings.filterwarnings("ignore", module=_LIBRARIES.pattern)
    yield


def _sentence(error: Exception, start: bytes, size: int | None) -> str:
    reason = _reason(error)
    if isinstance(error, UnidentifiedImageError):
        return not_an_image("", start, size).lstrip()
    if isinstance(error, Image.DecompressionBombError):
        return too_many_pixels("").lstrip()
    if isinstance(error, NotImplementedError) or _UNSUPPORTED.search(reason):
        return (
            f"is of a kind that cannot be decoded here: {reason}. {_CONVERT}, with the program that made it or with "
            "GDAL (gdal_translate) or ImageMagick (magick)."
        )
    bytes_ = "" if size is None else f" ({size:,} byte{'s' * (size != 1)})"
    if isinstance(error, EOFError | zlib.error | struct.error) or _BROKEN.search(reason):
        return f"cannot be read: {reason}. It is probably damaged{bytes_}; copy it again."
    return (
        f"cannot be decoded: {reason}. Either it is damaged{bytes_} or of a rare kind. Open it in another program; "
        "if it shows it well, save it as PNG or TIFF there."
    )


def too_many_pixels(name: str) -> str:
    """Return the message for an image that is too large to be read at once."""
    return f"{name} claims more than {max_pixels():,} pixels, the most that are read at once. Cut it into parts."


def max_pixels() -> int:
    """Return the most pixels of an image in memory: twice Pillow's limit, or no limit where that was lifted."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else 2**63


def _reason(error: Exception) -> str:
    cause = error.__cause__ if type(error).__module__.startswith("rasterio") else None
    text = re.sub(r"\s+", " ", str(cause or error)).strip().rstrip(".")
    text = re.sub(r"(/vsimem/[\w.-]+(/[\w.-]+)?|" + re.escape(os.sep) + r"\S+/)", "", text)
    kind = type(cause or error).__name__
    if isinstance(error, struct.error):
        return "its header ends too early"
    if text and isinstance(error, OSError | SyntaxError):
        return text
    return f"{kind}: {text or 'no reason given'}"


def file_size(path: Path) -> int | None:
    """Return the bytes of a file, None where it cannot be determined."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None
