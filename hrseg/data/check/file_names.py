"""Role (image or mask), split and pairing key of a file, read from the names of its folders and its own.

Nothing is opened. Words stand in tables; a folder name of several words counts where all of them are known, or where
a folder of the other kind has the same other words: north_rgb beside north_gt, fire_train beside fire_test. Where no
word is known, affixes are found from the names themselves: shared by more than half of a side, and what remains is
equal on both sides, as in img(1) and target(1), a and a_15label, cam_rgb and cam_gt.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from hrseg.data.check.findings import counted
from hrseg.data.layouts.pairs import list_lines, split_line
from hrseg.imaging import IMAGE_SUFFIXES

IMAGE, MASK, OTHER = "image", "mask", "other"

_WORDS: dict[str, str] = {
    word: role
    for role, words in (
        (
            IMAGE,
            "image images img imgs imgdir imagedir jpegimages jpegs jpg png pic pics picture pictures photo "
            "photos rgb input inputs original originals originalimages raw rawimages src source frame frames "
            "leftimg8bit stillsraw stillsrawfull scans tiles patches ortho orthophoto orthophotos irrg rgbir x",
        ),
        (
            MASK,
            "mask masks label labels lbl lbls gt gts gtfine gtcoarse groundtruth groundtruths truth annotation "
            "annotations annot annots anno annos ann anns anndir labeldir maskdir segmentation segmentations "
            "segmentationclass segmentationclassraw segmentationclasspng segmentationclassaug segmentationmasks seg "
            "segs msk msks lab parsing parsings categoryids segmentationmask "
            "semantic semanticmasks semseg target targets manual 1stmanual 1stho labelids "
            "labelsindexed labeledapproved labeledapprovedfull binarymask binarymasks maskpng maskspng masksmachine "
            "labelpng labelspng labelcol colormap colormaps colormask colormasks colormasks rgbmasks maskrgb "
            "masksrgb segmap segmaps y",
        ),
        (
            OTHER,
            "segmentationobject instance instances instancemask instancemasks overlay overlays vis visual "
            "visualization visualisation preview previews superpixel superpixels edges boundaries fov masksvisual "
            "maskshuman pseudocolorlabel depth disparity thumbnails thumbs panoptic panseg insseg bitmasks",
        ),
    )
    for word in words.split()
}
"""Folder name in small letters and figures → role."""

_SPLITS: dict[str, str] = {
    **dict.fromkeys(("training", "trainset", "train", "trn"), "train"),
    **dict.fromkeys(("validation", "validate", "valset", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("evaluation", "eval"), "val"),
    **dict.fromkeys(("testing", "testset", "test", "holdout", "heldout"), "test"),
}
_SHORT_SPLITS = {"tr": "train", "ts": "test"}  # imagesTr, labelsTs; too short to count alone
_NEUTRAL = frozenset(
    (
        *("data", "dataset", "datasets", "set", "dir", "folder", "file", "files", "split", "part"),
        *("all", "final", "full", "new", "public", "private", "crops", "samples"),
    )
)

_ENDS: dict[str, str] = {
    word.lower(): role
    for role, words in (
        (IMAGE, "leftImg8bit image images img rgb irrg rgbir sat photo input training test im x"),
        (
            MASK,
            "gtFine_labelIds gtFine_labelTrainIds gtCoarse_labelIds gtFine_color gtCoarse_color gtFine gtCoarse "
            "labelIds labelTrainIds groundtruth ground_truth ground-truth instance_color_RGB segmentation segmap "
            "semantic annotation annotations binary_mask color_mask color_mask mask_color mask_rgb masks mask "
            "labels label lbl seg gt anno annot truth target manual1 manual 1stHO lab color_labels fuse color L",
        ),
        (
            OTHER,
            "gtFine_instanceIds gtCoarse_instanceIds instanceIds instance instances panoptic overlay preview "
            "depth disparity save vis",
        ),
    )
    for word in words.split()
}
"""Word at the end of a file's name → role."""
_ONLY_IN_MASKS = frozenset(("l", "color"))  # x_color.png is a photo, unless its folder holds masks
_END = re.compile(rf"(?<=.)[-_. ]+({'|'.join(sorted(map(re.escape, _ENDS), key=len, reverse=True))})$", re.I)
_START = re.compile(r"^(mask|label|gt|seg|annotation|image|img)s?(?:[-_. ]+|(?=\d))(?=.)", re.I)
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True)
class ParsedName:
    """One file, as read from its name.

    Attributes:
        path: The file.
        role: IMAGE, MASK, OTHER, or "" where no name shows it.
        split: train, val, test, or "".
        family: The words that made it a mask; masks of one kind share them.
        group: The folders whose names show neither role nor split.
        stem: The name without suffix and without words of a role.
    """

    path: Path
    role: str
    split: str
    family: tuple[str, ...]
    group: tuple[str, ...]
    stem: str


def read_names(paths: Sequence[Path], root: Path) -> list[ParsedName]:
    """Read role, split and key of each file from its place below the root."""
    folders = {part for path in paths for part in path.relative_to(root).parts[:-1]}
    roles = {name: (*folder_words(name), "") for name in folders}
    roles |= _roles_by_contrast(name for name in folders if roles[name] == ("", "", ""))
    return _with_splits([_read_name(path, root, roles) for path in paths])


def _with_splits(files: list[ParsedName]) -> list[ParsedName]:
    """Read the split from the files' own names, such as train_1.png and test_1.png, if there are several."""
    splits = {file: _split_of(file.path.stem) for file in files if not file.split}
    if len(set(splits.values()) - {""}) < 2:
        return files
    return [replace(file, split=splits.get(file, "") or file.split) for file in files]


def _split_of(stem: str) -> str:
    words = [word.lower() for word in _TOKEN.findall(stem)] or [""]
    return next((_SPLITS[word] for word in (words[0], words[-1]) if word in _SPLITS), "")


def _read_name(path: Path, root: Path, roles: dict[str, tuple[str, str, str]]) -> ParsedName:
    role, split = "", ""
    family: list[str] = []
    group: list[str] = []
    for part in path.relative_to(root).parts[:-1]:
        its_role, its_split, its_group = roles[part]
        split = its_split or split
        role = its_role or role
        if its_role in (MASK, OTHER):
            family.append(_squeezed(part) if not its_split and not its_group else its_role)
        if its_group or not (its_role or its_split):
            group.append(its_group or part)
    stem, ends = _bare(path.stem)
    if not role and len(stem) > 1 and _squeezed(stem) in _WORDS:
        stem, ends = "", [*ends, stem.lower()]  # image.png and mask.png of one folder
    if role != MASK:
        ends = [end for end in ends if end not in _ONLY_IN_MASKS]
    end_roles = [_ENDS.get(end) or _WORDS.get(_squeezed(end), MASK) for end in ends]
    end_role = next((kind for kind in (OTHER, MASK, IMAGE) if kind in end_roles), "")
    if role == MASK:  # labelIds, color and instanceIds of one folder are three kinds
        family += ends
    elif end_role in (MASK, OTHER) and role != OTHER:
        family += [end for end, its in zip(ends, end_roles, strict=True) if its == end_role]
    if end_role == OTHER or not role or (end_role, role) == (MASK, IMAGE):
        role = end_role
    return ParsedName(path, role, split, tuple(family), tuple(group), stem)


@cache
def folder_words(name: str) -> tuple[str, str]:
    """Return the role and the split named by a folder's name, each "" if none.

    Example:
        >>> folder_words("JPEGImages"), folder_words("trainannot"), folder_words("val_images")
        (('image', ''), ('mask', 'train'), ('image', 'val'))
        >>> folder_words("test_data"), folder_words("masks_png"), folder_words("imagesTs")
        (('', 'test'), ('mask', ''), ('image', 'test'))
        >>> folder_words("testimony"), folder_words("train_val"), folder_words("north_rgb")
        (('', ''), ('', ''), ('', ''))
    """
    word = _squeezed(name)
    for candidate in (word, word.rstrip("0123456789")):
        if candidate in _WORDS:
            return _WORDS[candidate], ""
        for start, split in _SPLITS.items():
            if candidate == start:
                return "", split
            for rest in (candidate.removeprefix(start), candidate.removesuffix(start)):
                rest = rest.rstrip("0123456789") if rest != candidate else ""
                if rest in _WORDS or rest in _NEUTRAL:
                    return _WORDS.get(rest, ""), split
    role, split, others = _tokens(name)
    return ("", "") if others else (role, split)


def _tokens(name: str) -> tuple[str, str, tuple[str, ...]]:
    """Return role and split named by single words of a name, and the remaining words."""
    words = [word.lower() for word in _TOKEN.findall(name)]
    roles = {_WORDS[word] for word in words if word in _WORDS and len(word) > 1}
    splits = _SPLITS | (_SHORT_SPLITS if roles else {})
    named = {splits[word] for word in words if word in splits}
    others = tuple(
        word
        for word in words
        if not (word in _NEUTRAL or word.isdigit() or word in splits) and (word not in _WORDS or len(word) == 1)
    )
    role = next((role for role in (OTHER, MASK, IMAGE) if role in roles), "")
    return role, named.pop() if len(named) == 1 else "", others + ("?",) * (len(named) > 1)


def _roles_by_contrast(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Return role, split and remaining words of folders that differ by words of a role or a split alone."""
    alike = defaultdict(list)
    for name in names:
        role, split, others = _tokens(name)
        numbers = tuple(re.findall(r"\d+", name))
        alike[others, numbers].append((name, role, split))
    found = {}
    for (others, numbers), members in alike.items():
        by_role = {IMAGE, MASK} <= {role for _, role, _ in members}
        by_split = len({split for _, _, split in members} - {""}) > 1
        for name, role, split in members:
            if (by_role and role) or (by_split and split):
                rest = "-".join(others + numbers)
                found[name] = (role if by_role else "", split if by_split else "", rest)
    return found


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _bare(stem: str) -> tuple[str, list[str]]:
    """Take the words of a role, and the suffix of another image file, from both ends of a name."""
    ends = []
    start = _START.match(stem)
    if start:
        ends.append(start[1].lower())
        stem = stem[start.end() :]
    while True:
        if Path(stem).suffix.lower() in IMAGE_SUFFIXES:  # a.jpg.png, a.jpg_mask.png
            stem = Path(stem).stem
        elif found := _END.search(stem):
            ends.append(found[1].lower())
            stem = stem[: found.start()]
        else:
            return stem, ends


RANKS = (
    *("labelids", "segmentationclassraw", "1stmanual", "manual1", "masksmachine", "labelsindexed"),
    *("segmentationclass", "labels", "label", "masks", "mask", "labeltrainids"),
)
"""Words of masks, best first, where a tree has several kinds of them."""


def rank(family: tuple[str, ...]) -> tuple[bool, bool, int]:
    """Return the rank of a kind of masks: ids before colors, classes before lanes, manual before automatic."""
    words = [_squeezed(word) for word in family]
    places = [RANKS.index(word) for word in words if word in RANKS]
    colors = any("color" in word or "colour" in word or "rgb" in word for word in words)
    # the last known word is the nearest to the file: labels/sem_seg/masks
    return colors, "semseg" not in words, places[-1] if places else len(RANKS) // 2


def spectral_rank(path: Path, root: Path) -> int:
    """Rank an image by the spectrum that its path names: visible RGB, unknown, infrared."""
    words = {word.lower() for word in _TOKEN.findall(str(path.relative_to(root)))}
    return 2 if words & {"irrg", "rgbir", "nir", "ir", "dsm", "ndsm"} else int("rgb" not in words)


Cut = tuple[str, str]
"""Prefix and suffix that are taken away."""

_PIECE = re.compile(rf"{_TOKEN.pattern}|.", re.S)
_SAMPLE = 200  # names that are asked for their affixes


def constant_affixes(ours: Collection[str], theirs: Collection[str]) -> tuple[Cut, Cut] | None:
    """Return what to cut off on both sides so that most names are equal, or None.

    Example:
        >>> constant_affixes(["img(1)", "img(2)"], ["target(1)", "target(2)", "target(7)"])
        (('img', ''), ('target', ''))
        >>> constant_affixes(["a", "b"], ["a_15label", "b_15label"])
        (('', ''), ('', '_15label'))
        >>> constant_affixes(["p1", "q1"], ["p7", "q7"]) is None
        True
    """
    cores = [
        {cut: {core for name in names if (core := cut_off(name, cut))} for cut in _cuts(names)}
        for names in (ours, theirs)
    ]
    found = [
        (len(left & right), -len("".join(cut + other)), cut, other)
        for cut, left in cores[0].items()
        for other, right in cores[1].items()
        if not _numbers_differ(cut, other)
    ]
    count, _, cut, other = max(found, default=(0, 0, ("", ""), ("", "")))
    few = min(len(ours), len(theirs))
    # a single pair proves nothing, unless one name is the other with something added
    enough = 2 if few > 1 or ("", "") not in (cut, other) else 1
    return (cut, other) if count >= enough and 2 * count >= few else None


def _numbers_differ(cut: Cut, other: Cut) -> bool:
    """Return whether two affixes have different numbers, as a_2019 and a_2020: other days, not partners."""
    numbers = [re.findall(r"\d+", "/".join(affix)) for affix in (cut, other)]
    return bool(numbers[0] and numbers[1] and numbers[0] != numbers[1])


def cut_off(name: str, cut: Cut) -> str:
    """Take prefix and suffix away; "" where the name lacks them or holds nothing else."""
    prefix, suffix = cut
    if len(name) <= len(prefix + suffix) or not name.startswith(prefix):
        return ""
    return name[len(prefix) : len(name) - len(suffix)] if name.endswith(suffix) else ""


def twin_affix(names: Collection[str]) -> Cut | None:
    """Return the affix by which two in five of the names are other names of the same folder with something added.

    Example:
        >>> twin_affix(["a", "a_segmap", "b", "b_segmap"])
        ('', '_segmap')
    """
    there = set(names)
    counts = Counter(cut for name in there for cut in _cuts_of(name) if cut != ("", "") and cut_off(name, cut) in there)
    cut, count = max(counts.items(), key=lambda item: item[1], default=(("", ""), 0))
    return cut if 5 * count >= 2 * len(there) else None


def _cuts(names: Collection[str]) -> list[Cut]:
    """Return the affixes that more than half of the names have."""
    some = list(names)[:: max(1, len(names) // _SAMPLE)]
    counts = Counter(cut for name in some for cut in _cuts_of(name))
    return [cut for cut, count in counts.items() if 2 * count > len(some)]


def _cuts_of(name: str) -> Iterable[Cut]:
    edges = [0, *(token.end() for token in _PIECE.finditer(name))]
    return ((name[:first], name[last:]) for place, first in enumerate(edges) for last in edges[place + 1 :])


_LISTS = re.compile(r"(train|training|val|valid|validation|test|testing)(set|_?list|_?files|_?pairs)?$", re.I)
_PLACES = ("*.txt", "*.lst", "*/*.txt", "*/*.lst", "*/*/*.txt")


@dataclass
class Lists:
    """Splits and pairs from the lists of images in a tree.

    Attributes:
        splits: Image → split.
        partners: Image → mask, of lists with two columns.
        notes: Findings about the lists, as sentences.
    """

    splits: dict[Path, str] = field(default_factory=dict)
    partners: dict[Path, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_lists(root: Path, files: Sequence[ParsedName]) -> Lists:
    """Read all lists whose lines mostly name files of the tree."""
    by_place = {file.path.relative_to(root).as_posix(): file.path for file in files}
    by_name = _single_names(root, [file for file in files if file.role != MASK])
    found = Lists()
    twice: list[Path] = []
    for path in sorted({path for place in _PLACES for path in root.glob(place)}):
        match = _LISTS.fullmatch(path.stem)
        if not match:
            continue
        try:
            lines = list_lines(path)
        except OSError as error:
            found.notes.append(f"{path.relative_to(root)} cannot be read: {error.strerror}.")
            continue
        split = folder_words(match[1])[1]
        rows = [words for line in lines if (words := split_line(line))]
        inside = path.parent.relative_to(root)
        met: list[tuple[Path, Path | None]] = []
        for words in rows:
            image = _at(words[0], inside, by_place) or _named(words[0], by_name)
            mask = _at(words[1], inside, by_place) if len(words) > 1 else None
            if image is not None:
                met.append((image, mask if mask != image else None))
        if not rows or len(met) < 0.8 * len(rows):
            continue
        if len(met) < len(rows):
            gone = counted(len(rows) - len(met), "file")
            found.notes.append(f"{path.relative_to(root)} names {gone} not to be found here, left out.")
        for image, mask in met:
            twice += [image] if found.splits.setdefault(image, split) != split else []
            if mask is not None:
                found.partners.setdefault(image, mask)
    if twice:
        found.notes.append(
            f"{counted(len(set(twice)), 'image')} in the lists of two splits, such as {twice[0].relative_to(root)}: "
            "taken for the first, since a score on training images is too high."
        )
    return found


def _single_names(root: Path, images: Iterable[ParsedName]) -> dict[str, Path | None]:
    """Return each name by which a list may call an image; None where two images have it."""
    names: dict[str, Path | None] = {}
    for image in images:
        relative = image.path.relative_to(root)
        for name in (str(relative.with_suffix("")), relative.name, relative.stem, image.stem):
            names[name] = None if names.get(name, image.path) != image.path else image.path
    return names


def _at(word: str, inside: Path, by_place: dict[str, Path]) -> Path | None:
    """Return the file at a place that counts from the list, the root, or a folder above the root."""
    parts = Path(word.strip("/")).parts
    places = ["/".join(parts[first:]) for first in range(len(parts))]
    return next((by_place[p] for p in ((inside / word).as_posix(), *places) if p in by_place), None)


def _named(word: str, by_name: dict[str, Path | None]) -> Path | None:
    name = word.removeprefix("./")
    return by_name.get(name) or by_name.get(Path(name).name) or by_name.get(Path(name).stem)
