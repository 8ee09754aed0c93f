"""Image sources: files, folders, globs, lists, videos, archives, addresses and cameras, as a stream of pictures.

Arguments are checked when sources are opened, so that a mistake is reported before any work; pictures are found,
fetched and decoded one by one, so that a folder of 100,000 images or an endless camera needs the memory of one.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hrseg.errors import HrsegError, guarded, path_text
from hrseg.imaging import image_size
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
from hrseg.inference.sources.video import (
    is_camera,
    is_stream,
    is_video,
    open_camera,
    open_stream,
    open_video,
)

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
    """One kind of source: its title, whether an argument names it, and the function that opens it."""

    title: str
    matches: Callable[[str], bool]
    open: Callable[[str, SourceOptions], Source]


def _open_argument(argument: str, options: SourceOptions) -> Source:
    return _kind_of(argument).open(argument, options)


KINDS = (
    Kind("standard input", lambda argument: argument == "-", open_stdin),
    Kind("list", is_list, lambda argument, options: open_list(argument, options, _open_argument)),
    Kind("camera", is_camera, open_camera),
    Kind("stream", is_stream, open_stream),
    Kind("address", is_address, open_address),
    Kind("other file system", is_cloud, open_cloud),
    Kind("video", is_video, open_video),
    Kind("archive", lambda argument: archive_of(argument) is not None, open_archive),
    Kind("file, folder or glob", lambda argument: True, open_path),
)
"""In order of precedence."""

MAX_COUNTED = 8
"""Files whose pixels are counted before they are read."""


class Sources:
    """The pictures of several arguments, in order, each once and with a unique name; see `open_sources`."""

    def __init__(self, arguments: Iterable[str | Path], options: SourceOptions) -> None:
        self.arguments = [os.fspath(argument) for argument in arguments]
        kinds = [_kind_of(argument) for argument in self.arguments]
        paths = [argument for argument, kind in zip(self.arguments, kinds, strict=True) if kind is KINDS[-1]]
        files = {_full(argument): Path(argument) for argument in paths if os.path.isfile(_full(argument))}
        self._names = dict(zip(files, result_names(list(files.values())), strict=True))
        prefix = _prefixes([argument for argument in paths if _full(argument) not in files])
        self._sources = [
            kind.open(argument, replace(options, prefix=prefix.get(argument, "")))
            for argument, kind in zip(self.arguments, kinds, strict=True)
        ]

    def __iter__(self) -> Iterator[Picture]:
        namer, seen = Namer(), set[bytes]()
        clip, folder = None, ""
        for argument, source in zip(self.arguments, self._sources, strict=True):
            for picture in _guarded(argument, source):
                if picture.clip is not None:
                    if picture.clip is not clip:
                        clip, folder = picture.clip, namer.reserve(picture.clip.name)
                    yield _named(picture, f"{folder}/{picture.name}")
                    continue
                what = digest(_full(picture.path) if picture.path else picture.origin)
                if what not in seen:
                    seen.add(what)
                    name = self._names.get(_full(argument), picture.name)
                    yield _named(picture, namer.claim(name))

    def covers(self, path: Path) -> bool:
        """Return whether a file on disk is one of the pictures; results must not overwrite those."""
        return any(source.covers(path) for source in self._sources)

    def pixels(self) -> int | None:
        """Return the pixels of all pictures if the arguments are a few files of images, else None."""
        files = {_full(argument) for argument in self.arguments}
        if len(files) > MAX_COUNTED or files != self._names.keys():
            return None
        try:
            return sum(math.prod(image_size(file)) for file in files)
        except HrsegError:  # reported when it is read; one too large for memory is no small work
            return None


def open_sources(
    arguments: Iterable[str | Path],
    *,
    recursive: bool = True,
    every: Every | None = None,
    limits: Limits | None = None,
    skip: str | Path | None = None,
) -> Sources:
    """Open arguments as one stream of pictures.

    Args:
        arguments: Files, folders, globs, @lists, videos, archives, addresses, camera:N or "-".
        recursive: Whether folders include their subfolders.
        every: Frames taken from clips; None takes all.
        limits: Of size and time for untrusted sources.
        skip: Folder of the results; it is not read as a subfolder.

    Raises:
        DataError: An argument that matches no image.
        MissingExtraError: A source needs a package that is not installed.
    """
    skip = None if skip is None else Path(skip)
    return Sources(arguments, SourceOptions(recursive, every or Every(), limits or Limits(), skip))


def named_files(paths: Iterable[str | Path]) -> list[Picture]:
    """Return files as pictures, named by `result_names`."""
    files = [Path(path) for path in paths]
    named = zip(files, result_names(files), strict=True)
    return [Picture(path_text(path), name, path) for path, name in named]


def _named(picture: Picture, name: str) -> Picture:
    return replace(picture, origin=path_text(picture.origin), name=name)


def _guarded(argument: str, source: Source) -> Iterator[Picture]:
    """Yield a source's pictures; an error ends it with a picture that carries the error."""
    try:
        with guarded(argument):
            yield from source.pictures()
    except HrsegError as error:
        yield Picture(argument, safe_name(Path(argument).name), error=error)


def _kind_of(argument: str) -> Kind:
    return next(kind for kind in KINDS if kind.matches(argument))


def _prefixes(arguments: list[str]) -> dict[str, str]:
    """Return the prefix of result names: none for one folder or glob, paths below the common folder for several."""
    roots = {
        argument: glob_root(argument) if not os.path.isdir(_full(argument)) else Path(argument)
        for argument in arguments
    }
    full = {argument: Path(_full(root)) for argument, root in roots.items()}
    common = common_folder(path / "x" for path in full.values()) if len(set(full.values())) > 1 else None
    if common is None:
        return {}
    return {argument: "" if path == common else path.relative_to(common).as_posix() for argument, path in full.items()}


def _full(path: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(path))
