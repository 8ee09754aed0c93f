"""Image and mask files, in and out: the only place where PIL's (width, height) becomes (height, width).

Whatever is on disk (grey, palette, 16 bit, CMYK, rotated by EXIF), `read_image` gives uint8 RGB and `read_mask`
gives plain ids. Every file is written under a temporary name and renamed, so it appears whole or not at all.
"""

import contextlib
import io
import os
import struct
import uuid
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from hrseg.archived import in_archive, read_bytes
from hrseg.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)
ARRAY_SUFFIXES = frozenset({".npy"})
"""Files of bands that only `data.bands` reads."""
VALUE_RANGES = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""Type of pixels → the value that becomes 1."""
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
# What Pillow's decoders raise on damaged files; several of them are no OSError.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, struct.error, zlib.error),
)


def read_image(source: str | Path | IO[bytes] | Image.Image) -> np.ndarray:
    """Read any image as RGB.

    EXIF rotation is applied, palettes are resolved, 16-bit greys are divided by 257 (unless no value goes beyond
    255), transparency is laid on white. Of several frames the first is read.

    Args:
        source: A path, an open binary file, or a PIL image.

    Returns:
        uint8 RGB.

    Raises:
        DataError: The file is missing, truncated, empty, too large or not an image.

    Shape:
        (H, W, 3)
    """
    with _opened(source) as image:
        return _to_rgb(_upright(image))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as it is stored: ids stay ids, a palette is not applied, nothing is scaled or turned.

    Returns:
        uint8 or int32 ids; a colour mask comes back as uint8 colours.

    Raises:
        DataError: The file is missing, truncated, not an image, or holds fractions.

    Shape:
        (H, W), or (H, W, 3) for a mask of colours
    """
    with _opened(path) as image:
        if image.mode in ("L", "P"):
            return np.array(image)
        if image.mode == "1":
            return np.array(image, dtype=np.uint8)
        if image.mode in _SIXTEEN_BIT:
            return np.array(image).astype(np.int32)
        if image.mode in ("LA", "PA"):
            return np.array(image.getchannel(0))
        if image.mode == "F":
            return _whole(np.array(image), path)
        return np.array(image.convert("RGB"))


def image_size(path: str | Path | IO[bytes]) -> tuple[int, int]:
    """Return (height, width) of what `read_image` gives, without decoding the pixels.

    Raises:
        DataError: The file is missing or not an image.
    """
    with _opened(path, load=False) as image:
        tags = getattr(
            image, "tag_v2", None
        )  # Pillow gives a TIFF's size turned or not, by version
        width, height = (tags[256], tags[257]) if tags else image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


@dataclass(frozen=True)
class Stored:
    """How a file keeps its pixels, read from its head.

    Attributes:
        format: PNG, JPEG, ...
        mode: Pillow's word: "1", "L", "P", "I;16", "RGB", "RGBA", ...
        palette: Colours of a palette file, (n, 3).
        alpha: Whether there is transparency.
        turned: Whether EXIF says that the picture is to be turned.
    """

    format: str
    mode: str
    palette: np.ndarray | None
    alpha: bool
    turned: bool


def stored_form(path: str | Path) -> Stored:
    """Tell how a file keeps its pixels, without decoding them.

    Raises:
        DataError: The file is missing or not an image.
    """
    with _opened(path, load=False) as image:
        palette = None
        if image.mode in ("P", "PA"):
            palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        alpha = image.mode in _TRANSPARENT or "transparency" in image.info
        return Stored(image.format or "", image.mode, palette, alpha, _orientation(image) != 1)


@contextlib.contextmanager
def write_atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside the target, and rename it to the target when the block ends well.

    On any error, a full disk included, the temporary file goes and an older target stays as it was.

    Args:
        path: The final file. Missing folders are made.

    Raises:
        DataError: The file cannot be written.
    """
    path = Path(path)
    # hidden and with the same suffix, since writers choose the format by it
    temporary = path.with_name(f".{path.stem[:40]}-{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was left half written. Free some space, "
            "or choose another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_image(path: str | Path, image: np.ndarray, *, quick: bool = False) -> None:
    """Write RGB; the suffix names the format.

    Args:
        path: The file, such as a .png or .jpg.
        image: uint8.
        quick: Whether to pack a PNG in a quarter of the time, a tenth to a fifth larger.

    Raises:
        DataError: The file cannot be written, or no format has this suffix.

    Shape:
        (H, W, 3)
    """
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise DataError(f"No image format has the suffix of {path}. Use .png, .jpg or .tif.")
    _save(Image.fromarray(image), path, compress_level=1 if quick else 6)


def write_mask(path: str | Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write ids as a PNG: with a palette it shows colours and still holds the ids.

    Args:
        path: The .png file.
        mask: Ids from 0 to 65535. From 256 on the file has 16 bits and no palette.
        palette: Colours of all ids, uint8.

    Raises:
        DataError: The file cannot be written or is no .png, or an id does not fit.

    Shape:
        mask (H, W), palette (256, 3)
    """
    if Path(path).suffix.lower() != ".png":
        raise DataError(f"A mask is written as .png, which changes no id; {path} is none.")
    if mask.dtype not in (np.uint8, np.uint16):
        low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
        if low < 0 or high > 65535:
            raise DataError(f"{path} would hold ids from {low} to {high}; a PNG holds 0 to 65535.")
        mask = mask.astype(np.uint8 if high < 256 else np.uint16)
    image = Image.fromarray(mask)
    if palette is None or mask.dtype == np.uint16:
        _save(image, path)
        return
    image.putpalette(np.ascontiguousarray(palette, dtype=np.uint8).tobytes())
    _save(image, path)


def to_tensor(
    image: np.ndarray,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    value_range: float | None = None,
) -> torch.Tensor:
    """Turn pixels into a normalised float32 tensor, stored channels last.

    Args:
        image: uint8, uint16 or float32.
        mean: Of each band, in parts of the value range.
        std: Of each band.
        value_range: The value that becomes 1 before that; None takes the type's: 255, 65535, or 1 for float32.

    Example:
        >>> to_tensor(np.full((1, 1, 3), 255, np.uint8), (0.5,) * 3, (0.5,) * 3).flatten().tolist()
        [1.0, 1.0, 1.0]

    Shape:
        (H, W, B) → (B, H, W)
    """
    whole = value_range or value_range_of(image.dtype)
    scale = (1.0 / (whole * np.asarray(std, dtype=np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    if (
        image.dtype == np.uint8 and image.shape[2] == 3 and image.size > 2**16
    ):  # one look-up for each byte, the same result
        every = np.repeat(np.arange(256, dtype=np.float32)[:, None], image.shape[2], axis=1)
        values: np.ndarray = cv2.LUT(image, (every * scale - shift)[None])
    else:
        values = image.astype(np.float32)
        values *= scale
        values -= shift
    return torch.from_numpy(values).permute(2, 0, 1)


def denormalise(
    image: torch.Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    *,
    stretch: bool = False,
) -> np.ndarray:
    """Undo `to_tensor`, to a picture: uint8 RGB.

    Args:
        image: Normalised.
        mean: That was subtracted.
        std: That was divided by.
        stretch: Show the image as `stretched` does, which bands that are not RGB need; other numbers of bands
            than three always are.

    Shape:
        (B, H, W) → (H, W, 3)
    """
    values = image.detach().float().cpu().permute(1, 2, 0).numpy()
    values = values * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    if stretch or values.shape[2] != 3:
        return stretched(values)
    return (values * 255.0).round().clip(0, 255).astype(np.uint8)


def stretched(values: np.ndarray) -> np.ndarray:
    """Show the first three bands as RGB, each from black at its 2nd to white at its 98th percentile.

    Of fewer bands the first is shown in grey.

    Example:
        >>> stretched(np.linspace(0, 900, 101).reshape(1, 101, 1))[0, [0, 2, 50, 98, 100], 0].tolist()
        [0, 0, 128, 255, 255]

    Shape:
        (H, W, B) → uint8 (H, W, 3)
    """
    shown = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
    low, high = np.percentile(shown.reshape(-1, shown.shape[2]), (2, 98), axis=0)
    parts = (shown - low) / np.where(high > low, high - low, 1)
    picture = (255 * parts).round().clip(0, 255).astype(np.uint8)
    return picture if picture.shape[2] == 3 else _grey_to_rgb(picture[..., 0])


def value_range_of(kind: np.dtype[Any]) -> float:
    """Return the value that becomes 1, by the type of the pixels.

    Raises:
        DataError: Not a type of pixels.
    """
    if kind.name not in VALUE_RANGES:
        raise DataError(
            f"Pixels of type {kind.name} have no value range. Convert them to {', '.join(VALUE_RANGES)}."
        )
    return VALUE_RANGES[kind.name]


def _save(image: Image.Image, path: str | Path, compress_level: int = 6) -> None:
    # quality is for JPEG and WebP, the level for PNG; the other formats look at neither
    with write_atomic(path) as temporary:
        image.save(temporary, quality=95, compress_level=compress_level)


@contextlib.contextmanager
def _opened(
    source: str | Path | IO[bytes] | Image.Image, load: bool = True
) -> Iterator[Image.Image]:
    """Open an image and turn every way it can be broken into one sentence."""
    if isinstance(source, str | Path):
        name, size = str(source), _size(source)
    else:
        name, size = (
            str(getattr(source, "filename", "") or getattr(source, "name", "The image")),
            "",
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images (it refuses huge ones) and of damaged EXIF; neither needs an answer
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                source.load()
                yield source
                return
            packed = isinstance(source, str | Path) and in_archive(Path(source))
            with Image.open(io.BytesIO(read_bytes(Path(name))) if packed else source) as image:
                if load:
                    image.load()
                yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"No such file: {name}. Check the path.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(
            f"{name} cannot be opened: {error.strerror}. Give a file to read."
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not an image that can be read{size}. Replace it.") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name} claims more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the most that are read at "
            "once. Cut it into parts."
        ) from error
    except _DAMAGE as error:
        raise DataError(
            f"{name} cannot be read: {str(error) or type(error).__name__}. It is probably damaged{size}; "
            "copy it again."
        ) from error


def _size(path: str | Path) -> str:
    try:
        return f" ({Path(path).stat().st_size:,} bytes)"
    except (OSError, ValueError):
        return ""


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or it cannot be read; 5 to 8 swap the axes."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole file to look behind the pixels
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:  # a tag that can be read and not rewritten
        return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        return _grey_to_rgb(_sixteen_to_eight(np.array(image)))
    if image.mode == "F":
        values = np.nan_to_num(np.array(image))
        factor = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return _grey_to_rgb((values * factor).round().clip(0, 255).astype(np.uint8))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, clear).convert("RGB"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _whole(values: np.ndarray, path: str | Path) -> np.ndarray:
    ids = values.astype(np.int32)
    if (ids != values).any():
        raise DataError(
            f"{path} holds fractions; a mask holds whole ids. Save it with integer ids."
        )
    return ids


def _sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    if values.max(initial=0) <= 255:  # a 16-bit file that holds 8-bit values
        return values.clip(0, 255).astype(np.uint8)
    return (values.clip(0, 65535).astype(np.float32) / 257.0).round().astype(np.uint8)


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)
