"""Which images are meant, and what their results are called: words of a command line become lists of names."""

import contextlib
import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hrseg.errors import DataError, did_you_mean
from hrseg.imaging import ARRAY_SUFFIXES, IMAGE_SUFFIXES


def expand(words: Iterable[str | Path]) -> list[Path]:
    """List the images that words mean.

    A file is taken as it is, whatever its suffix. A folder stands for the images in it, not in its
    subfolders; a glob for the images it matches, `**` for any depth. Order is that of the words, by name
    inside a folder or glob, and an image meant twice is listed once.

    Args:
        words: Files, folders and globs.

    Raises:
        DataError: A word that means no image.
    """
    found: dict[str, Path] = {}
    for word in words:
        for path in _expand_one(Path(os.path.expanduser(word))):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def result_names(paths: Sequence[Path]) -> list[str]:
    """Name the results of images so that none overwrites another: stems, and more where stems repeat.

    Where two images share a stem, their folders become part of the name, and where they lie in one
    folder, their suffixes too. Names differ in more than the case of letters.

    Example:
        >>> result_names([Path("a/x.png"), Path("b/x.png"), Path("b/y.jpg")])
        ['a/x', 'b/x', 'y']
        >>> result_names([Path("x.png"), Path("x.jpg")])
        ['x.png', 'x.jpg']
    """
    if not paths:
        return []
    stems = [path.stem for path in paths]
    full = [Path(os.path.abspath(path)) for path in paths]
    tops = {path.anchor for path in full}
    common = Path(os.path.commonpath([path.parent for path in full])) if len(tops) == 1 else None
    folders = [path.relative_to(common or path.anchor) for path in full]
    names = stems
    for longer in (
        [folder.with_name(stem).as_posix() for folder, stem in zip(folders, stems, strict=True)],
        [folder.as_posix() for folder in folders],
    ):
        counts = Counter(map(_same, names))
        names = [
            more if counts[_same(name)] > 1 else name
            for name, more in zip(names, longer, strict=True)
        ]
    return _numbered(names)


def _expand_one(path: Path) -> list[Path]:
    if path.is_dir():
        return _images_in(path)
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        return _matches(str(path))
    raise DataError(
        f"No such file or folder: {path}.{_near(path)} Give images, folders or globs, such as "
        "photos/ or 'photos/*.jpg'."
    )


def _images_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"Folder {folder} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    images = [path for path in entries if _is_image(path)]
    if images:
        return images
    raise DataError(
        f"Folder {folder} holds no images itself.{_below(folder, entries)} Images end in "
        f"{', '.join(sorted(IMAGE_SUFFIXES))}."
    )


def _below(folder: Path, entries: list[Path]) -> str:
    """Point to the first subfolder with images; folders stand for themselves only."""
    for path in entries:
        with contextlib.suppress(OSError):
            first = next(filter(_is_image, sorted(path.iterdir())), None)
            if first is not None:
                return f" {path} has some: name it, or use '{folder}/**/*{first.suffix}'."
    return ""


def _matches(pattern: str) -> list[Path]:
    paths = [
        path for path in map(Path, sorted(glob.glob(pattern, recursive=True))) if path.is_file()
    ]
    images = [path for path in paths if _is_image(path)]
    if images:
        return images
    there = f" It matches other files, such as {paths[0].name}." if paths else ""
    raise DataError(
        f"No image matches {pattern}.{there} Check the folder; '**' reaches into subfolders."
    )


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES | ARRAY_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def _near(path: Path) -> str:
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def _same(name: str) -> str:
    """Fold what some file systems do not tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(names: list[str]) -> list[str]:
    """Number what is still the same, for example x.PNG beside x.png."""
    taken = {_same(name) for name in names}
    seen: set[str] = set()
    unique = []
    for name in names:
        chosen, number = name, 1
        while _same(chosen) in seen or (number > 1 and _same(chosen) in taken):
            number += 1
            chosen = f"{name}-{number}"
        seen.add(_same(chosen))
        unique.append(chosen)
    return unique
