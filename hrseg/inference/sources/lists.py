"""List files, @list.txt: one word a line, read as it is needed, and standard input."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hrseg.errors import DataError, HrsegError, guarded
from hrseg.imaging import IMAGE_SUFFIXES
from hrseg.inference.sources.names import common_folder, digest
from hrseg.inference.sources.picture import Limits, Picture, Source, Wishes

_CHUNK = 1 << 16


def is_list(word: str) -> bool:
    """Tell whether a word is "@" and a file; a file that is itself called so is no list."""
    return word.startswith("@") and len(word) > 1 and not Path(word).exists()


def open_list(word: str, wishes: Wishes, opened: Callable[[str, Wishes], Source]) -> Source:
    """Open what the lines of a file mean: empty ones and those that begin with # are left out.

    Relative paths are those of the command line. Files are named by their place below the folder that all files
    of the list share. A line that means nothing is reported like a broken image.

    Args:
        word: "@" and the file.
        wishes: What is asked for.
        opened: What opens a word.

    Raises:
        DataError: The file cannot be read, or is empty.
    """
    path = Path(word[1:]).expanduser()
    known: set[bytes] = set()

    def files() -> Iterator[Path]:
        for line in _lines(path):
            if _is_file(line):
                full = Path(os.path.abspath(Path(line).expanduser()))
                known.add(digest(os.path.realpath(full)))
                yield full

    root = common_folder(files())
    if next(_lines(path), None) is None:
        raise DataError(f"The list {path} is empty. Write one image a line.")

    def pictures() -> Iterator[Picture]:
        for line in _lines(path):
            if _is_file(line):
                file = Path(line).expanduser()
                full = Path(os.path.abspath(file))
                name = full.relative_to(root) if root in full.parents else Path(full.name)  # type: ignore[arg-type]
                yield Picture(str(file), name.with_suffix("").as_posix(), file)
                continue
            try:
                if line == "-" or is_list(line):
                    raise DataError(
                        f"'{line}' in {path} is not an image; lists do not nest, and standard input has one place."
                    )
                with guarded(line):
                    yield from opened(line, wishes).pictures()
            except HrsegError as error:
                yield Picture(line, "line", error=error)

    return Source(pictures, lambda other: digest(os.path.realpath(other)) in known)


def open_stdin(word: str, wishes: Wishes) -> Source:
    """Open the one image that comes through standard input; its results are called stdin.

    Raises:
        DataError: Standard input is a terminal.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise DataError(
            "'-' reads an image from standard input, and nothing is connected to it. Such as: cat street.png | hrseg "
            "predict -"
        )
    return Source(
        lambda: iter([Picture("stdin", "stdin", fetch=lambda: _read_stdin(wishes.limits))])
    )


def _read_stdin(limits: Limits) -> bytes:
    """Read by the descriptor: a thread that waits in sys.stdin could not be left behind when the user stops."""
    taken = bytearray()
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        taken += chunk
        if len(taken) > limits.size:
            raise DataError(
                f"Standard input gave more than {limits.size:,} bytes, the most that one picture may have. Write it "
                "to a file and name that."
            )
    if not taken:
        raise DataError(
            "Standard input was empty; '-' expects one image, such as from cat street.png."
        )
    return bytes(taken)


def _lines(path: Path) -> Iterator[str]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"The list {path} is no file; it is read twice. Write one first.")
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                text = line.rstrip("\r\n").strip()
                if text and not text.startswith("#"):
                    yield text
    except OSError as error:
        raise DataError(
            f"The list {path} cannot be read: {error.strerror}. '@' is followed by a file with one image a line."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list {path} is no text in UTF-8. '@' is followed by a text file with one image a line."
        ) from error


def _is_file(line: str) -> bool:
    """Images by their suffix, there or not: what is missing is told when its turn comes."""
    path = Path(line)
    return path.suffix.lower() in IMAGE_SUFFIXES and "://" not in line and not _magic(line)


def _magic(line: str) -> bool:
    return any(letter in line for letter in "*?[") and not Path(line).exists()
