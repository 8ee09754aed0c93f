"""One image and its mask, and what every layout needs to find them and to name whatever has no partner."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from hrseg.errors import ConfigError, DataError, printable
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


class Lonely(NamedTuple):
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


_GATHERED: ContextVar[list[Lonely] | None] = ContextVar("gathered", default=None)


@contextmanager
def gather_lonely() -> Iterator[list[Lonely]]:
    """Let layouts leave files without a partner out and list them here, instead of refusing the tree."""
    gathered: list[Lonely] = []
    token = _GATHERED.set(gathered)
    try:
        yield gathered
    finally:
        _GATHERED.reset(token)


def list_images(place: Path, pattern: str, root: Path, hint: str) -> list[Path]:
    """Return the images in a folder in name order.

    Raises:
        DataError: There is none; `hint` says what to do.
    """
    found = visible_images(place, pattern, IMAGE_SUFFIXES | ARRAY_SUFFIXES)
    if not found:
        missing = "" if place.is_dir() else ", which does not exist"
        raise DataError(
            f"No images in {place}{missing}; {root} holds {listing(root)}. {hint}, or set data.root."
        )
    return found


def visible_images(
    place: Path, pattern: str, suffixes: frozenset[str] = IMAGE_SUFFIXES
) -> list[Path]:
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
        bare: Whether images without a mask are welcome.

    Raises:
        DataError: An image or a mask without partner, or a name that comes twice.
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
    names = {name_of(image, base) for image in images}
    if len(names) != len(images):
        counts = Counter(name_of(image, base) for image in images)
        twice = counts.most_common(1)[0][0]
        raise DataError(f"Two images in {base} are called {twice}. Give each its own name.")
    refuse_lonely(set(available) - names, "mask", masks, "image", f"Put images into {base}")
    found = {image: available.get(name_of(image, base)) for image in images}
    return pair_found(found, base, f"Put masks of the same name into {masks}", bare)


def pair_found(found: dict[Path, Path | None], base: Path, step: str, bare: bool) -> list[Pair]:
    """Pair images with the masks found for them.

    Args:
        found: Image → mask, or None.
        base: Folder that the images' names count from.
        step: What to do about an image without a mask.
        bare: Whether such images are welcome.

    Raises:
        DataError: An image without a mask.
    """
    lonely = [image.relative_to(base).as_posix() for image, mask in found.items() if mask is None]
    if not bare:
        refuse_lonely(lonely, "image", base, "mask", step)
    return [Pair(i, mask, name_of(i, base)) for i, mask in found.items() if mask or bare]


def pair_by_list(
    names: Sequence[str], image: str, masks: Sequence[str], root: Path, hint: str
) -> list[Pair]:
    """Pair the names of a list file.

    Args:
        names: Stems.
        image: Pattern of the image below root, such as "JPEGImages/{}.jpg".
        masks: Patterns of the mask; the first that exists counts. Empty: no masks.
        root: The dataset's folder.
        hint: What to do where files are missing.

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
    refuse_lonely(without_image, "name", root, "image", hint)
    refuse_lonely(without_mask, "image", root, "mask", hint)
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
    """Read the lines of a list; bytes that are not UTF-8 stay what they are in the names of files.

    Raises:
        OSError: It cannot be read.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    return re.split(r"\r\n|\r|\n", text)


def write_list(path: Path, text: str) -> None:
    """Write a list so that `list_lines` reads the same names."""
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


def list_text(pairs: Iterable[Pair], root: Path) -> str:
    """Return the list of pairs below a folder that layout "folder" reads.

    Raises:
        DataError: A name that would be read back as another, such as one with a tab.
    """
    lines = []
    for pair in pairs:
        words = [file.relative_to(root).as_posix() for file in (pair.image, pair.mask) if file]
        line = "\t".join(words) + "\t" * (len(words) == 1)
        if list_words(line) != words or re.search("[\r\n]", line):
            raise DataError(
                f"{printable(line)} cannot stand in a list: tabs, line breaks, quotes or blanks around a name, "
                "or a # before it, mean something else there. Give the file another name."
            )
        lines.append(f"{line}\n")
    return "".join(lines)


def list_words(line: str) -> list[str]:
    """Return the paths on a line of a list: by tabs, else by spaces or a comma between two file names.

    Example:
        >>> list_words("a b.png\\tm.png"), list_words("a.png m.png"), list_words("a.png,m.png")
        (['a b.png', 'm.png'], ['a.png', 'm.png'], ['a.png', 'm.png'])
        >>> list_words("a.png\\t"), list_words("# comment")
        (['a.png'], [])
    """
    if line.lstrip().startswith("#"):
        return []
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) == 1 and (both := re.fullmatch(r"(.+\.\w+),(.+\.\w+)", words[0])):
        words = list(both.groups())
    return [word for word in (word.strip().strip('"') for word in words) if word]


def mask_of(pattern: str, image: Path, root: Path) -> Path:
    """Return the place where a pattern says that the mask of an image lies.

    Args:
        pattern: Path below the root. {stem} is the image's name without suffix, {name} with it, {folder} its folders
            below the root, {1} the first of them, {2} the second.
        image: The image.
        root: The dataset's folder.

    Raises:
        ConfigError: The pattern names something else.

    Example:
        >>> mask_of("{1}/masks/{stem}.jpg.png", Path("d/train/images/a.jpg"), Path("d")).as_posix()
        'd/train/masks/a.jpg.png'
    """
    inside = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    folders = inside.parts[:-1]
    # an image that lies less deep has no {3}; its mask then is nowhere
    numbered = ["", *folders, *[""] * 9]
    names = {"stem": image.stem, "name": image.name, "folder": "/".join(folders)}
    try:
        place = pattern.format(*numbered, **names)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"The pattern of masks '{pattern}' cannot be used ({error}). It may hold {{stem}}, {{name}}, {{folder}}, "
            "{1}, {2}, …, such as 'masks/{stem}.jpg.png'."
        ) from error
    return root / place.lstrip("/")


def refuse_lonely(names: Iterable[str], kind: str, place: Path, partner: str, step: str) -> None:
    """Raise if there are names without a partner, unless somebody gathers them.

    Raises:
        DataError: It counts them, shows a few, and says the step.
    """
    names = sorted(names)
    gathered = _GATHERED.get()
    if names and gathered is not None:
        gathered.append(Lonely(tuple(names), kind, place, partner))
    elif names:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        what = f"{kind}s" if len(names) > 1 else kind
        raise DataError(
            f"{len(names)} {what} in {place} {'have' if len(names) > 1 else 'has'} no {partner}, such as {shown}. "
            f"{step}, or move the {what} away."
        )


def name_of(path: Path, base: Path) -> str:
    """Return the place below a folder, without suffix."""
    return path.relative_to(base).with_suffix("").as_posix()


def listing(place: Path) -> str:
    """Name the first things in a folder, for a message."""
    names = sorted(path.name + "/" * path.is_dir() for path in place.iterdir())
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "") if names else "nothing"
