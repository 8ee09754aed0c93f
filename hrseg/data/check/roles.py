"""What the name of a file or folder says: image or mask, which split, and what remains to pair by.

People call their folders in a hundred ways; the words stand in tables here, and nothing is opened.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

IMAGE, MASK, OTHER = "image", "mask", "other"

_WORDS: dict[str, str] = {
    word: role
    for role, words in (
        (
            IMAGE,
            "image images img imgs imgdir imagedir jpegimages jpegs jpg png pic pics picture pictures photo "
            "photos rgb input inputs original originals originalimages raw rawimages src source frame frames "
            "leftimg8bit stillsraw stillsrawfull scans tiles patches x",
        ),
        (
            MASK,
            "mask masks label labels lbl lbls gt gts gtfine gtcoarse groundtruth groundtruths truth annotation "
            "annotations annot annots anno annos ann anns anndir labeldir maskdir segmentation segmentations "
            "segmentationclass segmentationclassraw segmentationclasspng segmentationclassaug segmentationmasks seg "
            "segs segmentationmask semantic semanticmasks target targets manual 1stmanual 1stho labelids "
            "labelsindexed labeledapproved labeledapprovedfull binarymask binarymasks maskpng maskspng masksmachine "
            "labelpng labelspng labelcol colormask colormasks colourmasks rgbmasks maskrgb masksrgb y",
        ),
        (
            OTHER,
            "segmentationobject instance instances instancemask instancemasks overlay overlays vis visual "
            "visualization "
            "visualisation preview previews superpixel superpixels edges boundaries fov masksvisual "
            "maskshuman pseudocolorlabel depth disparity thumbnails thumbs",
        ),
    )
    for word in words.split()
}
"""Folder name in small letters and figures → role."""

_SPLITS: dict[str, str] = {
    **dict.fromkeys(("training", "trainset", "train", "trn"), "train"),
    **dict.fromkeys(("validation", "validate", "valset", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("testing", "testset", "test"), "test"),
}

_ENDS: dict[str, str] = {
    word.lower(): role
    for role, words in (
        (IMAGE, "leftImg8bit image images img rgb sat photo input training test im x"),
        (
            MASK,
            "gtFine_labelIds gtFine_labelTrainIds gtCoarse_labelIds labelIds labelTrainIds groundtruth ground_truth "
            "ground-truth instance_color_RGB segmentation annotation annotations binary_mask color_mask colour_mask "
            "mask_color mask_rgb masks mask labels label lbl seg gt anno annot truth target manual1 manual 1stHO lab "
            "color_labels L",
        ),
        (
            OTHER,
            "gtFine_instanceIds gtFine_color gtCoarse_instanceIds gtCoarse_color instanceIds instance overlay preview",
        ),
    )
    for word in words.split()
}
"""Word at the end of a file's name → role."""
_END = re.compile(
    rf"(?<=.)[-_. ]({'|'.join(sorted(map(re.escape, _ENDS), key=len, reverse=True))})$", re.I
)
_START = re.compile(r"^(mask|label|gt|seg|annotation|image|img)s?(?:[-_. ]+|(?=\d))(?=.)", re.I)


@dataclass(frozen=True)
class Named:
    """One file, as its name tells it.

    Attributes:
        path: The file.
        role: IMAGE, MASK, OTHER, or "" where nothing says so.
        split: train, val, test, or "".
        family: The words that made it a mask; masks of one kind share them.
        group: The folders that say neither role nor split.
        stem: The name without suffix and without words of a role.
    """

    path: Path
    role: str
    split: str
    family: tuple[str, ...]
    group: tuple[str, ...]
    stem: str


def read_name(path: Path, root: Path) -> Named:
    """Read role, split and key of a file from its place below the root."""
    role, split = "", ""
    family: list[str] = []
    group: list[str] = []
    for part in path.relative_to(root).parts[:-1]:
        its_role, its_split = folder_words(part)
        split = its_split or split
        role = its_role or role
        if its_role in (MASK, OTHER):
            family.append(_squeezed(part) if not its_split else its_role)
        if not its_role and not its_split:
            group.append(part)
    stem, ends = _bare(path.stem)
    roles = [_ENDS.get(end, IMAGE if end in ("image", "img") else MASK) for end in ends]
    telling = next((word for word in (OTHER, MASK, IMAGE) if word in roles), "")
    if telling in (MASK, OTHER) and role in ("", IMAGE) and not (ends == ["l"] and role != MASK):
        role = telling
        family += [end for end, its in zip(ends, roles, strict=True) if its == telling]
    elif not role and telling == IMAGE:
        role = IMAGE
    return Named(path, role, split, tuple(family), tuple(group), stem)


@cache
def folder_words(name: str) -> tuple[str, str]:
    """Return the role and the split that a folder's name tells, each "" if none.

    Example:
        >>> folder_words("JPEGImages"), folder_words("trainannot"), folder_words("val_images")
        (('image', ''), ('mask', 'train'), ('image', 'val'))
        >>> folder_words("testimony")
        ('', '')
    """
    word = _squeezed(name)
    for candidate in (word, word.rstrip("0123456789")):
        if candidate in _WORDS:
            return _WORDS[candidate], ""
        for start, split in _SPLITS.items():
            if candidate == start:
                return "", split
            for rest in (candidate.removeprefix(start), candidate.removesuffix(start)):
                if rest != candidate and rest.rstrip("0123456789") in _WORDS:
                    return _WORDS[rest.rstrip("0123456789")], split
    return "", ""


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _bare(stem: str) -> tuple[str, list[str]]:
    """Take the words of a role from both ends of a name."""
    ends = []
    start = _START.match(stem)
    if start:
        ends.append(start[1].lower())
        stem = stem[start.end() :]
    while found := _END.search(stem):
        ends.append(found[1].lower())
        stem = stem[: found.start()]
    return stem, ends


RANKS = (
    *("labelids", "segmentationclassraw", "1stmanual", "manual1", "masksmachine", "labelsindexed"),
    *("segmentationclass", "labels", "label", "masks", "mask", "labeltrainids"),
    *("colormask", "colormasks", "labelcol", "maskcolor", "color"),
)
"""Words of masks, best first, where a tree has several kinds of them."""


def rank(family: tuple[str, ...]) -> int:
    """Say how good a kind of masks is: ids before colours, hand work before helpers."""
    words = [re.sub(r"[^a-z0-9]", "", word) for word in family]
    places = [RANKS.index(word) for word in words if word in RANKS]
    worse = any("color" in word or "colour" in word or "rgb" in word for word in words)
    return (max(places) if places else len(RANKS) // 2) + (len(RANKS) if worse else 0)
