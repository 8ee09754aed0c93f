"""Layout of a user's own images and masks: two folders, or a list file."""

import shlex
from pathlib import Path

from hrseg.data.layouts.pairs import (
    Pair,
    list_images,
    list_lines,
    listing,
    mask_of,
    name_of,
    pair_by_stem,
    pair_found,
    split_line,
)
from hrseg.errors import DataError, path_text, printable


def folder(root: Path, split: str, pattern: str | None = None, bare: bool = False) -> list[Pair]:
    """Pair a user's own files.

    In this order: a list file SPLIT.txt with "image mask" on each line (mask left out: none), or
    images/SPLIT/ with masks/SPLIT/, or SPLIT/images/ with SPLIT/masks/. Partners share a stem; subfolders
    are followed, or `pattern` gives the mask.

    Args:
        root: The dataset's folder.
        split: Name of the list or folder.
        pattern: See `mask_of`; it gives the mask where a list does not.
        bare: Whether images may lack a mask in the folders of any split, not of "test" alone.
    """
    listed = root / f"{split}.txt"
    if listed.is_file():
        return _from_list(listed, root, pattern)
    for images, masks in (
        (root / "images" / split, root / "masks" / split),
        (root / split / "images", root / split / "masks"),
    ):
        if images.is_dir():
            found = list_images(images, "**/*", root, "Put images there")
            if pattern is not None:
                paired = {image: mask_of(pattern, image, root) for image in found}
                step = f"Correct data.masks, which is '{pattern}'"
                return pair_found(paired, images, step, bare or split == "test")
            if split == "test" and not masks.is_dir():
                return [Pair(image, None, name_of(image, images)) for image in found]
            return pair_by_stem(found, masks, root, images, bare)
    if Path(split).is_absolute():
        raise DataError(
            f"The list {listed} does not exist, and the recipe divides the images by it. "
            f"hrseg data check {shlex.quote(str(root))} "
            "--write RECIPE.yaml writes a recipe and its lists; a name such as 'train' means a folder or list in the "
            "dataset."
        )
    raise DataError(
        f"{root} has no split '{split}': neither images/{split}/, {split}/images/ nor {split}.txt is there; it holds "
        f"{listing(root)}. Make one of them, or set {_option(split)}."
    )


def _option(split: str) -> str:
    """Return the options that this split may come from."""
    known = ("train", "val", "test")
    return f"data.{split}_split" if split in known else "data.train_split or data.val_split"


def _from_list(listed: Path, root: Path, pattern: str | None) -> list[Pair]:
    try:
        lines = list_lines(listed)
    except OSError as error:
        raise DataError(f"{listed} cannot be read: {error}. Allow it, or name another.") from error
    pairs: dict[str, Pair] = {}
    for number, line in enumerate(lines, start=1):
        entries = split_line(line)
        if not entries:
            continue
        if len(entries) > 2:
            raise DataError(
                f"{listed}, line {number} has {len(entries)} words; it should be 'image mask'. Separate them by a tab "
                "where a path holds spaces."
            )
        paths = [root / entry for entry in entries]
        for path in paths:
            if "\0" in line or not path.is_file():
                step = "Save it as UTF-8 text" if path_text(path) != str(path) else "Correct the line"
                raise DataError(f"{listed}, line {number}: no such file {printable(path)}. {step} or add the file.")
        image, mask = paths[0], paths[1] if len(paths) == 2 else None
        if mask is None and pattern is not None:
            named = mask_of(pattern, image, root)
            mask = named if named.is_file() else None
        # names become paths below an output folder, so that none may lead out of it
        path = Path(entries[0])
        name = "/".join(part for part in path.with_suffix("").parts if part not in ("..", path.anchor))
        if name in pairs:
            raise DataError(
                f"{listed}, line {number}: '{name}' was listed before, as {pairs[name].image}. Give each image one "
                "line and its own name."
            )
        pairs[name] = Pair(image, mask, name)
    if not pairs:
        raise DataError(f"{listed} lists no image. Write 'image mask' on each line.")
    return list(pairs.values())
