"""Pairs of image and mask, and the search for them that all layouts share; files without a partner are reported."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from hrseg.errors import ConfigError, DataError, first_few, printable
from hrseg.imaging import ARRAY_SUFFIXES, IMAGE_SUFFIXES


class Pair(NamedTuple):
    """One image and its mask.

    Attributes:
        image: Image file.
        mask: Mask file; None where a split has no masks.
        name: Stable short name, relative to the split and without suffix.
        table: Label table of this mask where it is not the layout's own.
    """

    image: Path
    mask: Path | None
    name: str
    table: str | None = None


class Unpaired(NamedTuple):
    """Files without a partner in one folder.

    Attributes:
        names: Their names, sorted.
        kind: "image", "mask", or "name" of a list.
        place: The folder.
        partner: What is missing.
    """

    names: tuple[str, ...]
    kind: str
    place: Path
    partner: str


_UNPAIRED: ContextVar[list[Unpaired] | None] = ContextVar("unpaired", default=None)


@contextmanager
def collect_unpaired() -> Iterator[list[Unpaired]]:
    """Let layouts leave files without a partner out and list them here, instead of raising."""
    unpaired: list[Unpaired] = []
    token = _UNPAIRED.set(unpaired)
    try:
        yield unpaired
    finally:
        _UNPAIRED.reset(token)


def list_images(place: Path, pattern: str, root: Path, hint: str) -> list[Path]:
    """Return the images in a folder in name order.

    Raises:
        DataError: There is none; `hint` is the next step.
    """
    found = visible_images(place, pattern, IMAGE_SUFFIXES | ARRAY_SUFFIXES)
    if not found:
        missing = "" if place.is_dir() else ", which does not exist"
        raise DataError(f"No images in {place}{missing}; {root} holds {listing(root)}. {hint}, or set data.root.")
    return found


def visible_images(place: Path, pattern: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the image files in name order, without hidden ones such as in .ipynb_checkpoints/."""
    return sorted(
        path
        for path in place.glob(pattern)
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
        and path.is_file()
    )


def pair_by_stem(
    images: list[Path], masks: Path, root: Path, base: Path | None = None, bare: bool = False
) -> list[Pair]:
    """Pair images with the masks of the same stem, subfolders followed.

    Args:
        images: At least one.
        masks: Folder of the masks.
        root: The dataset's folder, for the message.
        base: Folder that the images' names count from; None is the first one's.
        bare: Whether images may lack a mask.

    Raises:
        DataError: An image or a mask without partner, or a name that occurs twice.
    """
    base = base or images[0].parent
    if not masks.is_dir():
        raise DataError(
            f"No mask folder {masks}; {root} holds {listing(root)}. Put a mask there for each image in {base}."
        )
    available: dict[str, Path] = {}
    for path in visible_images(masks, "**/*", IMAGE_SUFFIXES | ARRAY_SUFFIXES):
        twin = available.setdefault(name_of(path, masks), path)
        if twin != path:
            raise DataError(f"Two masks for one image: {twin} and {path}. Keep one of them.")
    names = Counter(name_of(image, base) for image in images)
    (name, count), *_ = names.most_common(1)
    if count > 1:
        raise DataError(f"Two images in {base} are called {name}. Give each its own name.")
    refuse_unpaired(available.keys() - names, "mask", masks, "image", f"Put images into {base}")
    found = {image: available.get(name_of(image, base)) for image in images}
    return pair_found(found, base, f"Put masks of the same name into {masks}", bare)


def pair_found(found: Mapping[Path, Path | None], base: Path, step: str, bare: bool) -> list[Pair]:
    """Pair images with their masks.

    Args:
        found: Image → mask, which need not exist, or None.
        base: Folder that the images' names count from.
        step: What to do about an image without a mask.
        bare: Whether images may lack a mask.

    Raises:
        DataError: An image without a mask.
    """
    found = {image: mask if mask and mask.is_file() else None for image, mask in found.items()}
    if not bare:
        unpaired = [i.relative_to(base).as_posix() for i, mask in found.items() if mask is None]
        refuse_unpaired(unpaired, "image", base, "mask", step)
    return [Pair(i, mask, name_of(i, base)) for i, mask in found.items() if mask or bare]


def pair_by_list(names: Sequence[str], image: str, masks: Sequence[str], root: Path, hint: str) -> list[Pair]:
    """Pair the names of a list file.

    Args:
        names: Stems.
        image: Pattern of the image below root, such as "JPEGImages/{}.jpg".
        masks: Patterns of the mask; the first that exists counts. Empty: no masks.
        root: The dataset's folder.
        hint: What to do about missing files.

    Raises:
        DataError: A file of the list is missing.
    """
    pairs, without_image, without_mask = [], [], []
    for name in names:
        picture = root / image.format(name)
        found = [root / mask.format(name) for mask in masks]
        mask = next((path for path in found if path.is_file()), None)
        if not picture.is_file():
            without_image.append(name)
        elif masks and mask is None:
            without_mask.append(name)
        else:
            pairs.append(Pair(picture, mask, name))
    refuse_unpaired(without_image, "name", root, "image", hint)
    refuse_unpaired(without_mask, "image", root, "mask", hint)
    return pairs


def read_list(path: Path, hint: str) -> list[str]:
    """Read the first word of each line.

    Raises:
        DataError: No such file, or nothing in it.
    """
    try:
        lines = list_lines(path)
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error}. {hint}.") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise DataError(f"The list {path} names no image. {hint}.")
    return names


def list_lines(path: Path) -> list[str]:
    """Read the lines of a list; bytes that are not UTF-8 are preserved in file names.

    Raises:
        OSError: It cannot be read.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    return re.split(r"\r\n|\r|\n", text)


def write_list(path: Path, text: str) -> None:
    """Write a list that `list_lines` reads back."""
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


def list_text(pairs: Iterable[Pair], root: Path) -> str:
    """Format pairs below a folder as a list for layout "folder".

    Raises:
        DataError: A name that would be read back as another, such as one with a tab.
    """
    lines = []
    for pair in pairs:
        entries = [file.relative_to(root).as_posix() for file in (pair.image, pair.mask) if file]
        line = "\t".join(entries) + "\t" * (len(entries) == 1)
        if split_line(line) != entries or re.search("[\r\n]", line):
            raise DataError(
                f"{printable(line)} cannot stand in a list: tabs, line breaks, quotes or blanks around a name, "
                "or a # before it, mean something else there. Give the file another name."
            )
        lines.append(f"{line}\n")
    return "".join(lines)


def split_line(line: str) -> list[str]:
    """Return the paths on a line of a list, separated by tabs, else by spaces or a comma between two file names.

    Example:
        >>> split_line("a b.png\\tm.png"), split_line("a.png m.png"), split_line("a.png,m.png")
        (['a b.png', 'm.png'], ['a.png', 'm.png'], ['a.png', 'm.png'])
        >>> split_line("a.png\\t"), split_line("# comment")
        (['a.png'], [])
    """
    if line.lstrip().startswith("#"):
        return []
    entries = line.split("\t") if "\t" in line else line.split()
    if len(entries) == 1 and (both := re.fullmatch(r"(.+\.\w+),(.+\.\w+)", entries[0])):
        entries = list(both.groups())
    return [entry for entry in (entry.strip().strip('"') for entry in entries) if entry]


def mask_of(pattern: str, image: Path, root: Path) -> Path:
    """Return the path that a pattern gives for the mask of an image.

    Args:
        pattern: Path below the root. {stem} is the image's name without suffix, {name} with it, {folder} its folders
            below the root, {1} the first of them, {2} the second.
        image: The image.
        root: The dataset's folder.

    Raises:
        ConfigError: The pattern has another field.

    Example:
        >>> mask_of("{1}/masks/{stem}.jpg.png", Path("d/train/images/a.jpg"), Path("d")).as_posix()
        'd/train/masks/a.jpg.png'
    """
    inside = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    folders = inside.parts[:-1]
    numbered = ["", *folders, *[""] * 9]  # a missing folder leads to a mask that does not exist
    names = {"stem": image.stem, "name": image.name, "folder": "/".join(folders)}
    try:
        place = pattern.format(*numbered, **names)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"The pattern of masks '{pattern}' cannot be used ({error}). It may hold {{stem}}, {{name}}, {{folder}}, "
            "{1}, {2}, …, such as 'masks/{stem}.jpg.png'."
        ) from error
    return root / place.lstrip("/")


def refuse_unpaired(names: Iterable[str], kind: str, place: Path, partner: str, step: str) -> None:
    """Raise if there are names without a partner, unless `collect_unpaired` is active.

    Raises:
        DataError: With their number, a few of them, and the next step.
    """
    names = sorted(names)
    unpaired = _UNPAIRED.get()
    if names and unpaired is not None:
        unpaired.append(Unpaired(tuple(names), kind, place, partner))
    elif names:
        what = f"{kind}s" if len(names) > 1 else kind
        raise DataError(
            f"{len(names)} {what} in {place} {'have' if len(names) > 1 else 'has'} no {partner}, such as "
            f"{first_few(names)}. {step}, or move the {what} away."
        )


def name_of(path: Path, base: Path) -> str:
    """Return the path below a folder, without suffix."""
    return path.relative_to(base).with_suffix("").as_posix()


def listing(place: Path) -> str:
    """List the first entries of a folder, for a message."""
    names = sorted(path.name + "/" * path.is_dir() for path in place.iterdir())
    return first_few(names, 6) or "nothing"
