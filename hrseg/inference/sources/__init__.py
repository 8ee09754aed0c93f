"""What can be segmented: words of a command line become pictures, one after the other.

Words are looked at when they are given, so that a mistake is told before anything is done; pictures are found, fetched
and decoded when their turn comes, so that a folder of 100,000 images or an endless camera needs no more memory than
one.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hrseg.errors import HrsegError, guarded, path_text
from hrseg.inference.sources.base import (
    Clip,
    Every,
    Limits,
    Namer,
    Picture,
    Source,
    SourceOptions,
    common_folder,
    digest,
    result_names,
    safe_name,
)
from hrseg.inference.sources.files import (
    archive_of,
    expand,
    glob_root,
    is_list,
    open_archive,
    open_list,
    open_path,
    open_stdin,
)
from hrseg.inference.sources.remote import is_address, is_cloud, open_address, open_cloud
from hrseg.inference.sources.video import is_camera, is_video, open_camera, open_video

__all__ = [
    "KINDS",
    "Clip",
    "Every",
    "Kind",
    "Limits",
    "Picture",
    "Sources",
    "expand",
    "named_files",
    "open_sources",
    "result_names",
]


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        title: What it is.
        means: Tells whether a word is of this kind.
        open: Looks at a word and returns its pictures.
    """

    title: str
    means: Callable[[str], bool]
    open: Callable[[str, SourceOptions], Source]


def _open_word(word: str, options: SourceOptions) -> Source:
    return _kind_of(word).open(word, options)


KINDS = (
    Kind("standard input", lambda word: word == "-", open_stdin),
    Kind("list", is_list, lambda word, options: open_list(word, options, _open_word)),
    Kind("camera", is_camera, open_camera),
    Kind("address", is_address, open_address),
    Kind("other file system", is_cloud, open_cloud),
    Kind("video", is_video, open_video),
    Kind("archive", lambda word: archive_of(word) is not None, open_archive),
    Kind("file, folder or glob", lambda word: True, open_path),
)
"""The first kind that a word is of wins."""


class Sources:
    """The pictures that words mean, in order, each once and under a name of its own.

    Args:
        words: Files, folders, globs, @lists, videos, archives, addresses, camera:N or "-".
        wishes: What is asked for.

    Raises:
        DataError: A word that means nothing.
        MissingExtraError: A package is missing for one of them.
    """

    def __init__(self, words: Iterable[str | Path], options: SourceOptions) -> None:
        self.words = [os.fspath(word) for word in words]
        kinds = [_kind_of(word) for word in self.words]
        paths = [word for word, kind in zip(self.words, kinds, strict=True) if kind is KINDS[-1]]
        files = {_full(word): Path(word) for word in paths if os.path.isfile(_full(word))}
        self._names = dict(zip(files, result_names(list(files.values())), strict=True))
        inside = _insides([word for word in paths if _full(word) not in files])
        self._sources = [
            kind.open(word, replace(options, inside=inside.get(word, "")))
            for word, kind in zip(self.words, kinds, strict=True)
        ]

    def __iter__(self) -> Iterator[Picture]:
        namer, seen = Namer(), set[bytes]()
        clip, folder = None, ""
        for word, source in zip(self.words, self._sources, strict=True):
            for picture in _guarded(word, source):
                if picture.clip is not None:
                    if picture.clip is not clip:
                        clip, folder = picture.clip, namer.reserve(picture.clip.name)
                    yield _written(picture, f"{folder}/{picture.name}")
                    continue
                what = digest(_full(picture.path) if picture.path else picture.origin)
                if what not in seen:
                    seen.add(what)
                    name = self._names.get(_full(word), picture.name)
                    yield _written(picture, namer.claim(name))

    def covers(self, path: Path) -> bool:
        """Tell whether a file on disk is one of the pictures, so that no result may take its place."""
        return any(source.covers(path) for source in self._sources)


def open_sources(
    words: Iterable[str | Path],
    *,
    recursive: bool = True,
    every: Every | None = None,
    limits: Limits | None = None,
    skip: str | Path | None = None,
) -> Sources:
    """Look at words, and return what gives their pictures one after the other, in order.

    Args:
        words: Files, folders, globs, @lists, videos, archives, addresses, camera:N or "-".
        recursive: Whether a folder stands for its subfolders too.
        every: Which frames of clips; None takes all.
        limits: For what comes from outside.
        skip: Folder of the results, which is not read where it lies in a folder that is.

    Raises:
        DataError: A word that means nothing.
        MissingExtraError: A package is missing for one of them.
    """
    skip = None if skip is None else Path(skip)
    return Sources(words, SourceOptions(recursive, every or Every(), limits or Limits(), skip))


def named_files(paths: Iterable[str | Path]) -> list[Picture]:
    """Return files as pictures, named as `result_names` does."""
    files = [Path(path) for path in paths]
    names = result_names(files)
    named = zip(files, names, strict=True)
    return [Picture(path_text(path), name, path) for path, name in named]


def _written(picture: Picture, name: str) -> Picture:
    return replace(picture, origin=path_text(picture.origin), name=name)


def _guarded(word: str, source: Source) -> Iterator[Picture]:
    """Give a source's pictures; where it breaks off, one more that says why, and the next source has its turn."""
    try:
        with guarded(word):
            yield from source.pictures()
    except HrsegError as error:
        yield Picture(word, safe_name(Path(word).name), error=error)


def _kind_of(word: str) -> Kind:
    return next(kind for kind in KINDS if kind.means(word))


def _insides(words: list[str]) -> dict[str, str]:
    """Return what names begin with: nothing for one folder or glob, their places in the common folder for several."""
    roots = {
        word: glob_root(word) if not os.path.isdir(_full(word)) else Path(word) for word in words
    }
    full = {word: Path(_full(root)) for word, root in roots.items()}
    common = (
        common_folder(path / "x" for path in full.values()) if len(set(full.values())) > 1 else None
    )
    if common is None:
        return {}
    return {
        word: "" if path == common else path.relative_to(common).as_posix()
        for word, path in full.items()
    }


def _full(path: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(path))
