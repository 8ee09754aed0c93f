"""Folders and files that appear whole or not at all, and never over something that was there."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from hrseg.errors import DataError, elsewhere


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside the target, and rename it when the block ends well.

    Args:
        out: The folder to be; it must not exist, or be empty.

    Raises:
        DataError: It holds something already, or cannot be written.
    """
    refuse_existing(out)
    temporary = out.absolute().parent / f".{out.name}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.is_dir():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise DataError(
            f"Cannot write {out}: {error.strerror or error}. Nothing was left behind. {elsewhere(error)}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(out: Path) -> None:
    """Raise where something would be overwritten.

    Raises:
        DataError: The path is a file, or a folder that is not empty.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(
            f"{out} exists already, and nothing is overwritten. Choose another name, or move it away."
        )
