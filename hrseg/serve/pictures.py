"""From the bytes of a file to pixels: what kind and how large is known before anything is decoded."""

from PIL import Image

from hrseg.errors import DataError
from hrseg.imaging import ImageFile, LoadedImage, open_image
from hrseg.serve.limits import Limits, Refusal

FORMATS = {
    "PNG": (b"\x89PNG",),
    "JPEG": (b"\xff\xd8\xff",),
    "WebP": (b"RIFF",),
    "GIF": (b"GIF8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""What is opened, and how such files begin; the other formats have decoders that nobody needs here."""


def open_picture(content: bytes, limits: Limits, bits: int | None = None) -> ImageFile:
    """Open an image without decoding it.

    Args:
        content: Of its file.
        limits: Bounds.
        bits: Significant bits of 16-bit files; None takes what the file says.

    Raises:
        Refusal: Not one of FORMATS, damaged, not what the model sees, or too many pixels.
    """
    if not any(content.startswith(marks) for marks in FORMATS.values()):
        *others, last = FORMATS
        raise Refusal(
            415, f"This file is no image that can be read; send {', '.join(others)} or {last}."
        )
    try:
        file = open_image(content, bits=bits, name="The image")
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise _too_many("more", limits) from error
        raise Refusal(422, str(error)) from error
    if file.width * file.height > limits.max_pixels:
        file.close()
        raise _too_many(f"{file.height} x {file.width}", limits)
    return file


def decode(file: ImageFile) -> LoadedImage:
    """Decode to RGB, and close the file.

    Raises:
        Refusal: It is damaged.
    """
    try:
        with file:
            pixels, valid = file.rows(0, file.height)
            return LoadedImage(pixels, valid, file.georeference, file.notes)
    except DataError as error:
        raise Refusal(422, str(error)) from error


def _too_many(size: str, limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"The image has {size} pixels, and at most {limits.max_pixels:,} are taken; make it smaller, "
        "or use hrseg predict.",
    )
