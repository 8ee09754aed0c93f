"""Decoding of pictures, in worker threads."""

from dataclasses import dataclass

import torch

from hrseg.errors import DataError, HrsegError
from hrseg.imaging import LoadedImage, image_size
from hrseg.inference.predictor import Predictor
from hrseg.inference.sources import Picture


@dataclass
class Decoded:
    """A picture with its pixels, or why there are none.

    Attributes:
        picture: As the source gave it.
        loaded: None of a huge image, which is read row by row.
        error: Why there are none.
        seconds: That reading took.
        cost: Pixels that count as held in memory.
    """

    picture: Picture
    loaded: LoadedImage | None = None
    error: HrsegError | None = None
    seconds: float = 0.0
    cost: int = 0


def fetch(picture: Picture) -> bytes | None:
    """Return the bytes of a picture that has no file on disk."""
    if picture.error is not None:
        raise picture.error
    return picture.fetch() if picture.fetch else None


def pixels_of(picture: Picture, data: bytes | None) -> int:
    """Return how many pixels a picture has, from its head; 0 where that cannot be told."""
    if picture.pixels is not None:
        return picture.pixels.shape[0] * picture.pixels.shape[1]
    source = picture.path if data is None else data
    if source is None:
        return 0
    try:
        height, width = image_size(source)
    except HrsegError:
        return 0
    return height * width


def read(predictor: Predictor, picture: Picture, data: bytes | None) -> LoadedImage:
    """Decode a picture as a predictor wants it.

    Raises:
        DataError: It cannot be read, or not into the memory that there is.
    """
    try:
        source = next(x for x in (picture.pixels, data, picture.path) if x is not None)
        return predictor.load(source, picture.origin)
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
