"""Image and mask files, in and out: the only place where PIL's (width, height) becomes (height, width).

Whatever is on disk (grey, palette, 16 bit, CMYK, rotated by EXIF), `read_image` gives uint8 RGB and `read_mask`
gives plain ids. Every file is written under a temporary name and renamed, so it appears whole or not at all.
"""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from hrseg.errors import DataError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"}
)
MAX_PIXELS = 1_000_000_000
"""Larger images are refused: a file of some kilobytes can claim terabytes."""
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_image(source: str | Path | IO[bytes] | Image.Image) -> np.ndarray:
    """Read any image as RGB.

    EXIF rotation is applied, palettes are resolved, 16-bit greys are scaled by 257, transparency is laid on
    white.

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
        upright = ImageOps.exif_transpose(image)
        return _to_rgb(upright)


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask as it is stored: ids stay ids, a palette is not applied.

    Returns:
        uint8 or int32 ids; a colour mask comes back as uint8 colours.

    Raises:
        DataError: The file is missing, truncated or not an image.

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
        return np.array(image.convert("RGB"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) as stored, without decoding the pixels.

    Raises:
        DataError: The file is missing or not an image.
    """
    with _opened(path, load=False) as image:
        return image.height, image.width


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
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was left half written. Free some space, "
            "or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 RGB; the suffix names the format. Shape: (H, W, 3).

    Raises:
        DataError: The file cannot be written, or no format has this suffix.
    """
    _save(Image.fromarray(image), path)


def write_mask(path: str | Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write ids as a PNG: with a palette it shows colours and still holds the ids.

    Args:
        path: The .png file.
        mask: uint8 ids, or uint16 for more than 256 of them (no palette then).
        palette: Colours of all ids, uint8.

    Shape:
        mask (H, W), palette (256, 3)
    """
    if palette is None or mask.dtype != np.uint8:
        _save(Image.fromarray(mask), path)
        return
    image = Image.fromarray(mask)
    image.putpalette(np.ascontiguousarray(palette, dtype=np.uint8).tobytes())
    _save(image, path)


def to_tensor(
    image: np.ndarray,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> torch.Tensor:
    """Turn uint8 RGB into a normalised float32 tensor, stored channels last.

    Example:
        >>> to_tensor(np.full((1, 1, 3), 255, np.uint8), (0.5,) * 3, (0.5,) * 3).flatten().tolist()
        [1.0, 1.0, 1.0]

    Shape:
        (H, W, 3) → (3, H, W)
    """
    scale = (1.0 / (255.0 * np.asarray(std, dtype=np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    values = image.astype(np.float32)
    values *= scale
    values -= shift
    return torch.from_numpy(values).permute(2, 0, 1)


def denormalise(
    image: torch.Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> np.ndarray:
    """Undo `to_tensor`. Shape: (3, H, W) → uint8 (H, W, 3)."""
    values = image.detach().float().cpu().permute(1, 2, 0).numpy()
    values = (values * np.asarray(std, np.float32) + np.asarray(mean, np.float32)) * 255.0
    return values.round().clip(0, 255).astype(np.uint8)


def _save(image: Image.Image, path: str | Path) -> None:
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise DataError(f"No image format has the suffix of {path}. Use .png, .jpg or .tif.")
    with write_atomic(path) as temporary:
        image.save(temporary)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@contextlib.contextmanager
def _opened(
    source: str | Path | IO[bytes] | Image.Image, load: bool = True
) -> Iterator[Image.Image]:
    """Open an image and turn every way it can be broken into one sentence."""
    if isinstance(source, Image.Image):
        yield source
        return
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "the image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{name} claims {image.width:,} x {image.height:,} pixels; at most {MAX_PIXELS:,} are "
                        "read at once. Cut it into parts."
                    )
                if load:
                    image.load()
                yield image
    except FileNotFoundError as error:
        raise DataError(f"No such file: {name}. Check the path.") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not an image that can be read ({_size(source)}). Replace it."
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} claims too many pixels: {error}. Cut it into parts.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{name} cannot be read: {str(error) or type(error).__name__}. It is probably truncated ({_size(source)}); "
            "copy it again."
        ) from error


def _size(source: Any) -> str:
    try:
        return f"{Path(source).stat().st_size:,} bytes"
    except (TypeError, OSError):
        return "size unknown"


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BIT:
        return _grey_to_rgb(_sixteen_to_eight(np.array(image)))
    if image.mode == "F":
        values = np.nan_to_num(np.array(image))
        factor = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
        return _grey_to_rgb((values * factor).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, clear).convert("RGB"))
    return np.array(image.convert("RGB"))


def _sixteen_to_eight(values: np.ndarray) -> np.ndarray:
    if values.max(initial=0) <= 255:  # a 16-bit file that holds 8-bit values
        return values.clip(0, 255).astype(np.uint8)
    return (values.clip(0, 65535).astype(np.float32) / 257.0).round().astype(np.uint8)


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)
