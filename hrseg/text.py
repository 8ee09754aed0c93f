"""Paths and names as text: what files and terminals take, whatever bytes somebody called a file by."""

import os
import re
from collections.abc import Sequence

_UNWRITABLE = re.compile("[\ud800-\udfff]")  # bytes of a file name that are not UTF-8
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def path_text(path: str | os.PathLike[str]) -> str:
    r"""Return a path as text that every file can hold; bytes that are not UTF-8 are escaped.

    Example:
        >>> path_text("a/ü.png"), path_text("a/\udcff.png")
        ('a/ü.png', 'a/\\xff.png')
    """
    return _UNWRITABLE.sub(_escape, os.fspath(path))


def name_text(name: str) -> str:
    """Return a name for results in which "_" stands for each such byte and each control character."""
    return re.sub(r"[\n\t]", "_", _CONTROL.sub("_", name))


def printable(text: object, lines: bool = False) -> str:
    r"""Escape what would move the cursor, color, reorder or end a terminal's line.

    Args:
        text: With names from archives, tables or files of others.
        lines: Whether line breaks are meant.

    Example:
        >>> printable("a\x1b[31m\nb"), printable("x\ny", lines=True)
        ('a\\u001b[31m\\u000ab', 'x\ny')
    """
    escaped = _CONTROL.sub(_escape, str(text))
    return escaped if lines else escaped.replace("\n", "\\u000a").replace("\t", " ")


def columns(
    rows: Sequence[Sequence[str]], left: Sequence[int] = (0,), indent: str = ""
) -> list[str]:
    """Set cells below each other, these columns to the left, the others to the right; return the lines.

    Example:
        >>> columns([["class", "IoU"], ["sky", "80.0"]])
        ['class   IoU', 'sky    80.0']
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in pairs]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
