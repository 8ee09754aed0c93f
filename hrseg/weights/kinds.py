"""What a file is by its first bytes, whatever its name says.

Names lie: the commonest failed download is a web page called model.pth. Formats that hold no weights have a row
with what to do about them; formats that do have a reader in `weights.files`.
"""

from dataclasses import dataclass
from pathlib import Path

from hrseg.errors import WeightsError

FIRST_BYTES = 1024
TORCH_ZIP, TORCH_LEGACY, PICKLE, SAFETENSORS = "zip", "legacy", "pickle", "safetensors"
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number that opens a file of torch before 1.6."""
_READABLE = (
    (b"PK\x03\x04", TORCH_ZIP),
    (_LEGACY_MAGIC, TORCH_LEGACY),
    *((bytes([0x80, protocol]), PICKLE) for protocol in (2, 3, 4, 5)),
)


@dataclass(frozen=True)
class Foreign:
    """A kind of file that holds no weights.

    Attributes:
        magic: Its first bytes, in small letters.
        what: What to call it.
        advice: What to do instead.
        at: Where the bytes lie.
    """

    magic: bytes
    what: str
    advice: str
    at: int = 0


_PAGE = (
    "The download gave a login, warning or error page. Open the address in a browser, see what it says, and save "
    "the file itself."
)
_UNPACK = "Unpack it and give the file inside."
_IMAGE = "To segment it, name it after `hrseg predict`; a checkpoint ends in .ckpt, .pth or .safetensors."
FOREIGN = (
    Foreign(b"<!doctype", "a web page", _PAGE),
    Foreign(b"<html", "a web page", _PAGE),
    Foreign(b"<head", "a web page", _PAGE),
    Foreign(b"<script", "a web page", _PAGE),
    Foreign(b"<?xml", "an XML text, such as a server's error message", _PAGE),
    Foreign(
        b"version https://git-lfs",
        "a Git LFS pointer, a note of where the weights are",
        "Run `git lfs pull` in its repository, or download the file itself.",
    ),
    Foreign(b"\xff\xd8\xff", "a JPEG image", _IMAGE),
    Foreign(b"\x89png", "a PNG image", _IMAGE),
    Foreign(b"gif8", "a GIF image", _IMAGE),
    Foreign(b"ii*\0", "a TIFF image", _IMAGE),
    Foreign(b"mm\0*", "a TIFF image", _IMAGE),
    Foreign(b"%pdf", "a PDF document", "Give a .ckpt, .pth, .pdparams or .safetensors file."),
    Foreign(b"\x1f\x8b", "a gzip archive", _UNPACK),
    Foreign(b"bzh", "a bzip2 archive", _UNPACK),
    Foreign(b"\xfd7zxz", "an xz archive", _UNPACK),
    Foreign(b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    Foreign(b"rar!", "a RAR archive", _UNPACK),
    Foreign(b"ustar", "a tar archive", _UNPACK, at=257),
    Foreign(
        b"\x89hdf",
        "an HDF5 file, as Keras writes",
        "hrseg opens weights of PyTorch and Paddle, and safetensors.",
    ),
    Foreign(b"{", "a JSON text", "Give the weights, not their card or an answer of a server."),
)


def kind_of(path: Path, start: bytes) -> str:
    """Tell the format by the first bytes.

    Args:
        path: The file, for messages.
        start: Its first FIRST_BYTES bytes.

    Returns:
        One of the four formats that have a reader.

    Raises:
        WeightsError: It is empty, or none of them.

    Example:
        >>> kind_of(Path("a.pth"), b"PK\\x03\\x04...")
        'zip'
    """
    if not start:
        raise WeightsError(
            f"{path} is empty (0 bytes). The download or copy did not begin; fetch it again."
        )
    if start[6:9] == b"\0\0{":  # a length below 2**48, then JSON
        return SAFETENSORS
    for magic, kind in _READABLE:
        if start.startswith(magic):
            return kind
    if path.suffix == ".safetensors" and not _foreign(start):
        return SAFETENSORS
    raise WeightsError(f"{path} is {_describe(start)}")


def _foreign(start: bytes) -> Foreign | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for row in FOREIGN:
        if row.at and start[row.at :].startswith(row.magic):
            return row
        if not row.at and (text.startswith(row.magic) or start.lower().startswith(row.magic)):
            return row
    return None


def _describe(start: bytes) -> str:
    row = _foreign(start)
    if row is not None:
        return f"{row.what}, not a checkpoint. {row.advice}"
    first_line = start.partition(b"\n")[0][:60]
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return (
            f"a text that begins '{first_line.decode()}', not a checkpoint. Give a .ckpt, .pth, .pdparams or "
            ".safetensors file; if it was downloaded, the text may say what went wrong."
        )
    return (
        f"not a readable checkpoint: its first bytes ({start[:8].hex(' ')}) belong to no format that hrseg opens "
        "(PyTorch, Paddle, safetensors). It is damaged or of another kind; copy or download it again."
    )
