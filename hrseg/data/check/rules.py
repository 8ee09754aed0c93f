"""What is wrong, odd or good to know: one small function per question, one table of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.check.findings import ClassRow, Finding, Level, below, counted, named
from hrseg.data.check.groups import Couple
from hrseg.data.check.layout import Tree
from hrseg.data.check.scan import Look
from hrseg.errors import percent
from hrseg.labels import LabelSet

RARE = 0.001
"""Share of the pixels below which a class is called rare."""


@dataclass(frozen=True)
class Case:
    """What the questions look at."""

    tree: Tree
    looks: Sequence[Look]
    labels: LabelSet | None
    rows: Sequence[ClassRow]
    same: Sequence[Couple]
    alike: Sequence[Couple]

    def below(self, path: Path | None) -> str:
        """Name a file below the root."""
        return "" if path is None else below(path, self.tree.root)

    def images(self, looks: Iterable[Look]) -> tuple[str, ...]:
        """Name the images of some looks."""
        return tuple(self.below(look.pair.image) for look in looks)

    def masks(self, looks: Iterable[Look]) -> tuple[str, ...]:
        """Name the masks of some looks."""
        return tuple(self.below(look.pair.mask) for look in looks)

    def couples(self, couples: Iterable[Couple]) -> tuple[str, ...]:
        """Name both images of each couple."""
        pairs = (self.images((self.looks[i], self.looks[j])) for i, j in couples)
        return tuple(" = ".join(pair) for pair in pairs)

    def parted(self, couples: Sequence[Couple], parted: bool = True) -> list[Couple]:
        """Return the couples whose images lie in different splits, or those in the same."""
        looks = self.looks
        return [(i, j) for i, j in couples if (looks[i].split != looks[j].split) == parted]


def judge(case: Case) -> list[Finding]:
    """Ask all questions."""
    return [finding for question in QUESTIONS for finding in question(case)]


def _told(level: Level, kind: str, noun: str, files: Sequence[str], text: str) -> Iterator[Finding]:
    """Tell something of files, if there are any: how many, and for {files} the first of them."""
    if files:
        text = f"{counted(len(files), noun)} {text.replace('{files}', named(files))}"
        yield Finding(level, kind, text, tuple(files))


def _unmatched(case: Case) -> Iterator[Finding]:
    found = case.tree.found
    own = case.tree.layout == "folder"
    level: Level = "warning" if own else "error"
    for noun, other, paths, hint in (
        ("image", "a mask", found.images_alone, " (--unmasked CLASS: they hold nothing else)"),
        ("mask", "an image", found.masks_alone, ""),
    ):
        step = f"They are left out{hint}." if own else "Get them, or move the others away."
        files = tuple(map(case.below, paths))
        kind = f"{noun}_without_{other.split()[1]}"
        yield from _told(level, kind, noun, files, f"without {other}: {{files}}. {step}")
    if case.tree.unmasked is not None:
        files = case.images(look for look in case.looks if not look.pair.mask)
        text = f"without a mask, taken as {case.tree.unmasked}: {{files}}."
        yield from _told("note", "unmasked", "image", files, text)
    for note in found.notes:
        yield Finding("note", "left_aside", note)
    for layout in case.tree.similar:
        yield Finding(
            "note",
            "similar_layout",
            f"Folders lie as in layout '{layout}', but files are called otherwise, so these are taken as your own "
            f"data. If they are {layout}: --layout {layout}",
        )


def _unreadable(case: Case) -> Iterator[Finding]:
    for noun, named_by in (("image", case.images), ("mask", case.masks)):
        bad = [look for look in case.looks if getattr(look, f"{noun}_error")]
        why = getattr(bad[0], f"{noun}_error") if bad else ""
        text = f"cannot be read: {{files}}. {why}"
        yield from _told("error", f"unreadable_{noun}", noun, named_by(bad), text)
    photos = [look for look in case.looks if look.kind == "photo"]
    jpeg = any(look.mask_form and look.mask_form.format == "JPEG" for look in photos)
    why = (
        "JPEG changes colors when it is saved; export the masks as PNG."
        if jpeg
        else "They are photos, or masks that were smoothed; export them again without smoothing."
    )
    text = f"with more than a thousand colors: {{files}}. {why}"
    yield from _told("error", "mask_is_photo", "mask", case.masks(photos), text)


def _sizes(case: Case) -> Iterator[Finding]:
    read = [x for x in case.looks if x.pair.mask and not x.image_error and not x.mask_error]
    wrong = [look for look in read if look.size != look.mask_size]
    turned = [look for look in wrong if look.size == look.mask_size[::-1]]
    exif = [look for look in turned if look.image_form and look.image_form.turned]
    if wrong:
        text = (
            f"of another size than the image: {{files}}. The first image has {_by(wrong[0].size)} pixels "
            f"(height x width), its mask {_by(wrong[0].mask_size)}."
        )
        if exif:
            text += f" {len(exif)} of these images are turned by EXIF and their masks are not: turn the masks."
        elif turned:
            text += f" {len(turned)} lie on their side."
        yield from _told("error", "size_mismatch", "mask", case.masks(wrong), text)
    hidden = [x for x in case.looks if x.image_form and x.image_form.turned and x not in wrong]
    text = (
        "turned by EXIF: {files}. They are read upright; make sure that their masks were drawn on the upright "
        "picture."
    )
    yield from _told("warning", "exif", "image", case.images(hidden), text)


def _modes(case: Case) -> Iterator[Finding]:
    forms = [(look, look.mask_form) for look in case.looks if look.mask_form]
    jpeg = case.masks(look for look, form in forms if form.format == "JPEG")
    text = "saved as JPEG, which changes values near edges: {files}. Export them as PNG."
    yield from _told("warning", "mask_jpeg", "mask", jpeg, text)
    alpha = [look for look, form in forms if form.alpha]
    text = "with transparency: {files}. Transparency is not looked at, colors or ids are."
    if all(len(look.values or {}) == 1 for look in alpha):
        text += (
            " Each holds a single color, so they seem to be drawn in transparency only: lay them on a background "
            "of another color and save them without transparency."
        )
    yield from _told("note", "mask_alpha", "mask", case.masks(alpha), text)
    deep = case.masks(look for look, form in forms if form.mode.startswith("I"))
    text = "with 16 bits or more: {files}. Larger ids are fine."
    yield from _told("note", "mask_16_bit", "mask", deep, text)
    kinds: dict[str, list[Look]] = defaultdict(list)
    for look in case.looks:
        if look.kind in ("ids", "colors"):
            kinds[look.kind].append(look)
    if len(kinds) == 2:
        few, many = min(kinds.values(), key=len), max(kinds.values(), key=len)
        text = (
            f"Masks are of two kinds: {len(many)} hold {many[0].kind}, {len(few)} hold {few[0].kind}, such as "
            f"{named(case.masks(few))}. Save them all in one way."
        )
        yield Finding("error", "mixed_masks", text, case.masks(few))


def _values(case: Case) -> Iterator[Finding]:
    unknown = [row for row in case.rows if row.role == "unknown"]
    if not unknown or case.labels is None:
        return
    files = tuple(dict.fromkeys(row.first for row in unknown))
    told = named([f"{row.value} ({row.first}, {row.pixels:,} pixels)" for row in unknown])
    text = f"Table '{case.labels.name}' does not know {told}; a training would stop there."
    yield Finding("error", "unknown_id", text, files)
    ids = {row.id for row in case.labels.labels}
    seen = {int(row.value) for row in case.rows if row.value.isdecimal() and row.pixels}
    if {int(row.value) for row in unknown if row.value.isdecimal()} == {max(ids) + 1} and 0 in ids:
        text = (
            f"Masks hold ids up to {max(ids) + 1}, one more than the table: probably they count classes from 1 and 0 "
            "means 'no class' (\"reduce zero\"). Give the classes the ids from 1 on, and ignore: [0]."
        )
        yield Finding("error", "reduce_zero", text)
    elif seen and max(seen) > 1000 and len(seen) > 20:
        text = "Large ids like these are often instance numbers (class x 1000 + number). Use the masks of classes."
        yield Finding("warning", "instance_ids", text)


def _shifted_already(case: Case) -> Iterator[Finding]:
    if case.labels is None or case.tree.layout == "folder":
        return
    learned = {row.id for row in case.labels.classes}
    ids = {row.id for row in case.labels.labels}
    pixels = {int(row.value): row.share for row in case.rows if row.value.isdecimal()}
    if 0 in ids - learned and 255 not in ids and pixels.get(255, 0) > 0.001:
        text = (
            f"Table '{case.labels.name}' ignores id 0 and counts classes from 1, but masks use 255 as well: was 0 "
            "taken away already (0 → 255, n → n - 1)? It must happen once and only once: use the released masks, or a "
            "table that counts from 0."
        )
        yield Finding("warning", "shifted_twice", text)


def _classes(case: Case) -> Iterator[Finding]:
    labels = case.labels
    if labels is None:
        return
    rows = {row.name: row for row in case.rows if row.role == "class"}
    present = {name for name, row in rows.items() if row.pixels} | {case.tree.unmasked} - {None}
    if len(present) < 2 and any(row.pixels for row in case.rows):
        what = f"All labeled pixels are {present.pop()}" if present else "No pixel is of any class"
        text = f"{what}; a network needs two classes to tell apart. Check the masks and the table."
        yield Finding("error", "one_class", text)
    absent = [name for name in labels.names if name not in rows or not rows[name].pixels]
    if absent:
        text = f"Of the table's classes {len(absent)} never appear: {named(absent)}."
        yield Finding("note", "absent_class", text)
    splits = [s for s, pairs in case.tree.splits.items() if any(pair.mask for pair in pairs)]
    for split in ("train", "val") if len(splits) > 1 else ():
        missing = [name for name, row in rows.items() if row.pixels and not row.by_split.get(split)]
        if missing and split in splits:
            why = "nothing can be learned of them" if split == "train" else "their score is unknown"
            text = f"No pixel in {split} of {named(missing)}: {why}."
            yield Finding("warning", "absent_in_split", text)
    rare = [row for row in rows.values() if 0 < row.share < RARE]
    if rare:
        told = named([f"{row.name} ({percent(row.share)})" for row in rare])
        text = f"Rare classes: {told}. data.sampling=rare shows them more often."
        yield Finding("note", "rare_class", text)
    held = [x for x in case.looks if x.values and x.pair.table is None and len(case.rows) > 1]
    empty = case.masks(look for look in held if not learned_pixels(look, labels))
    yield from _told("warning", "empty_mask", "mask", empty, "with no labelled pixel: {files}.")


def _copies(case: Case) -> Iterator[Finding]:
    leaks: tuple[tuple[Level, str, Sequence[Couple], str], ...] = (
        ("error", "leak", case.same, ""),
        ("warning", "near_leak", case.alike, ", almost the same"),
    )
    for level, kind, couples, how in leaks:
        parted = case.parted(couples)
        splits = " and ".join(sorted({case.looks[i].split for couple in parted for i in couple}))
        text = (
            f"in two splits{how} ({splits}): {{files}}. A score on images from the training says nothing; keep each "
            "in one split."
        )
        yield from _told(level, kind, "picture", case.couples(parted), text)
    inside = case.parted(case.same, False)
    masks = [(i, j) for i, j in inside if case.looks[i].values != case.looks[j].values]
    text = "twice within a split: {files}." + f" {len(masks)} of them with another mask." * any(
        masks
    )
    level = "warning" if masks else "note"
    yield from _told(level, "duplicate", "picture", case.couples(inside), text)
    near = case.couples(case.parted(case.alike, False))
    text = "of images look alike, as frames of one film do: {files}."
    yield from _told("note", "near_duplicate", "couple", near, text)


def _amount(case: Case) -> Iterator[Finding]:
    splits = case.tree.splits
    if not {"train", "val"} <= set(splits) and set(splits) != {"test"}:
        have = ", ".join(name for name in splits if name != "all") or "no split"
        text = f"There is {have}: the recipe divides the images, copies together, the same way each time."
        yield Finding("note", "no_split", text)
    count = sum(look.good for look in case.looks if look.pair.mask)
    if count < 20:
        text = f"Only {counted(count, 'pair')}; expect little until there are a hundred or so."
        yield Finding("warning", "few_images", text)
    small = {x.size for x in case.looks if not x.image_error and min(x.size) < 64}
    if small:
        text = (
            f"Images down to {_by(min(small))} pixels: HRNet's coarsest branch sees 1/32 of that."
        )
        yield Finding("note", "small_images", text)
    forms = [(look, look.image_form) for look in case.looks if look.image_form]
    alphas = case.images(look for look, form in forms if form.alpha)
    text = "with transparency, laid on white: {files}."
    yield from _told("note", "image_alpha", "image", alphas, text)
    modes = Counter(form.mode for _, form in forms)
    if len({mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") for mode in modes}) > 1:
        text = f"Gray and colored images are mixed: {', '.join(f'{n} {m}' for m, n in modes.most_common())}."
        yield Finding("note", "mixed_images", text)


QUESTIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    *(_unmatched, _unreadable, _sizes, _modes, _values, _shifted_already, _classes),
    *(_copies, _amount),
)


def learned_pixels(look: Look, labels: LabelSet) -> int:
    """Count the pixels of a mask that belong to a class of the table."""
    rows = (
        (labels.find(value, look.kind == "colors"), n) for value, n in (look.values or {}).items()
    )
    return sum(n for row, n in rows if row is not None and row.train_id != 255)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
