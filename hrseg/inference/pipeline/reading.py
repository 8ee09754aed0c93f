"""From a picture to its pixels, in whatever thread has time."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from hrseg.errors import DataError, HrsegError
from hrseg.imaging import image_size, read_image
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Picture


@dataclass
class Decoded:
    """A picture with its pixels, or why there are none.

    Attributes:
        picture: As the source gave it.
        pixels: (H, W, B); None of a huge image, which is read band by band.
        error: Why there are none.
        seconds: That reading took.
        cost: Pixels that count as held in memory.
    """

    picture: Picture
    pixels: np.ndarray | None = None
    error: HrsegError | None = None
    seconds: float = 0.0
    cost: int = 0


class Named(io.BytesIO):
    """Bytes of a file that errors call by its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def fetch(picture: Picture) -> bytes | None:
    """Return the bytes of a picture that has no file on disk."""
    if picture.error is not None:
        raise picture.error
    return picture.fetch() if picture.fetch else None


def pixels_of(picture: Picture, data: bytes | None) -> int:
    """Return how many pixels a picture has, from its head; 0 where that cannot be told."""
    if picture.pixels is not None:
        return picture.pixels.shape[0] * picture.pixels.shape[1]
    source = picture.path if data is None else Named(data, picture.origin)
    if source is None:
        return 0
    try:
        height, width = image_size(source)
    except HrsegError:
        return 0
    return height * width


def read(predictor: Predictor, picture: Picture, data: bytes | None) -> np.ndarray:
    """Decode a picture as a predictor wants it.

    Raises:
        DataError: It cannot be read, or not into the memory that there is.
    """
    try:
        if picture.pixels is not None:
            return predictor.read(picture.pixels)
        if data is None and picture.path is not None:
            return predictor.read(picture.path)
        if predictor.plain:
            return read_image(Named(data or b"", picture.origin))
        return _read_as_file(predictor, picture, data or b"")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, HrsegError) or not is_out_of_memory(error):
            raise
        raise too_large(picture.origin) from error


def too_large(origin: str) -> DataError:
    """Say that there is too little memory, and what helps."""
    return DataError(
        f"{origin} needs more memory than there is. Run it in windows, such as --window 512 1024, or close other "
        "programs."
    )


def is_out_of_memory(error: Exception) -> bool:
    """Tell errors of too little memory from others."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def _read_as_file(predictor: Predictor, picture: Picture, data: bytes) -> np.ndarray:
    """Give bytes to a reader that wants a file, such as that of images of many bands."""
    suffix = PurePosixPath(picture.origin.partition("?")[0]).suffix
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix if suffix.isascii() else ''}"
        path.write_bytes(data)
        try:
            return predictor.read(path)
        except DataError as error:
            raise DataError(str(error).replace(str(path), picture.origin)) from error
