"""Names that differ by a constant affix: img(1) and target(1), a and a_15label, cam_rgb and cam_gt.

The affix is found from the names themselves: it must be shared by more than half of a side, and what remains must be
equal on both sides.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable

Cut = tuple[str, str]
"""Prefix and suffix that are taken away."""

_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|.", re.S)
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
    """Say whether two affixes are of different numbers, as a_2019 and a_2020: other days, not partners."""
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
    counts = Counter(
        cut
        for name in there
        for cut in _cuts_of(name)
        if cut != ("", "") and cut_off(name, cut) in there
    )
    cut, count = max(counts.items(), key=lambda item: item[1], default=(("", ""), 0))
    return cut if 5 * count >= 2 * len(there) else None


def _cuts(names: Collection[str]) -> list[Cut]:
    """Return the affixes that more than half of the names have."""
    some = list(names)[:: max(1, len(names) // _SAMPLE)]
    counts = Counter(cut for name in some for cut in _cuts_of(name))
    return [cut for cut, count in counts.items() if 2 * count > len(some)]


def _cuts_of(name: str) -> Iterable[Cut]:
    edges = [0, *(token.end() for token in _TOKEN.finditer(name))]
    return (
        (name[:first], name[last:])
        for place, first in enumerate(edges)
        for last in edges[place + 1 :]
    )
