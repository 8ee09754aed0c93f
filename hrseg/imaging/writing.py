"""Files out: each is written under a temporary name and renamed, so it appears whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.errors import DataError, elsewhere


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
            f"Cannot write {path}: {error.strerror or error}. Nothing was left half written. "
            f"{elsewhere(error)}"
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
    """Write ids as a PNG: with a palette it shows colors and still holds the ids.

    Args:
        path: The .png file.
        mask: Ids from 0 to 65535. From 256 on the file has 16 bits and no palette.
        palette: Colors of all ids, uint8.

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


def _save(image: Image.Image, path: str | Path, compress_level: int = 6) -> None:
    # quality is for JPEG and WebP, the level for PNG; the other formats look at neither
    with write_atomic(path) as temporary:
        image.save(temporary, quality=95, compress_level=compress_level)
