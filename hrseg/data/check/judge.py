"""What is wrong, odd or good to know: one small function per question, one table of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.check.copies import Couple, across
from hrseg.data.check.recognise import Tree
from hrseg.data.check.result import ClassRow, Finding, counted, named
from hrseg.data.check.scan import Look
from hrseg.data.labels import LabelSet
from hrseg.shares import percent

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
        if path is None:
            return ""
        return (
            path.relative_to(self.tree.root).as_posix()
            if path.is_relative_to(self.tree.root)
            else str(path)
        )

    def images(self, looks: Iterable[Look]) -> tuple[str, ...]:
        """Name the images of some looks."""
        return tuple(self.below(look.pair.image) for look in looks)

    def masks(self, looks: Iterable[Look]) -> tuple[str, ...]:
        """Name the masks of some looks."""
        return tuple(self.below(look.pair.mask) for look in looks)


def judge(case: Case) -> list[Finding]:
    """Ask all questions."""
    return [finding for question in QUESTIONS for finding in question(case)]


def _unmatched(case: Case) -> Iterator[Finding]:
    found = case.tree.found
    own = case.tree.layout == "folder"
    left = (
        " They are left out (--unmasked CLASS: they hold nothing else)."
        if own
        else " Get them, or move the others away."
    )
    if found.images_alone:
        files = tuple(map(case.below, found.images_alone))
        text = f"{counted(len(files), 'image')} without a mask: {named(files)}.{left}"
        yield Finding("warning" if own else "error", "image_without_mask", text, files)
    if found.masks_alone:
        files = tuple(map(case.below, found.masks_alone))
        left = " They are left out." if own else " Get them, or move the others away."
        text = f"{counted(len(files), 'mask')} without an image: {named(files)}.{left}"
        yield Finding("warning" if own else "error", "mask_without_image", text, files)
    bare = [look for look in case.looks if not look.pair.mask]
    if bare and case.tree.unmasked is not None:
        files = case.images(bare)
        text = f"{counted(len(bare), 'image')} without a mask, taken as {case.tree.unmasked}: {named(files)}."
        yield Finding("note", "unmasked", text, files)
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
    for kind, files, errors in (
        ("image", case.images, [look for look in case.looks if look.image_error]),
        ("mask", case.masks, [look for look in case.looks if look.mask_error]),
    ):
        if errors:
            first = errors[0].image_error if kind == "image" else errors[0].mask_error
            text = f"{counted(len(errors), kind)} cannot be read: {named(files(errors))}. {first}"
            yield Finding("error", f"unreadable_{kind}", text, files(errors))
    photos = [look for look in case.looks if look.kind == "photo"]
    if photos:
        jpeg = any(look.mask_form and look.mask_form.format == "JPEG" for look in photos)
        why = (
            "JPEG changes colours when it is saved; export the masks as PNG."
            if jpeg
            else "They are photos, or masks that were smoothed; export them again without smoothing."
        )
        text = f"{counted(len(photos), 'mask')} with more than a thousand colours: {named(case.masks(photos))}. {why}"
        yield Finding("error", "mask_is_photo", text, case.masks(photos))


def _sizes(case: Case) -> Iterator[Finding]:
    wrong = [
        look
        for look in case.looks
        if look.pair.mask
        and not look.image_error
        and not look.mask_error
        and look.size != look.mask_size
    ]
    turned = [look for look in wrong if look.size == look.mask_size[::-1]]
    exif = [look for look in turned if look.image_form and look.image_form.turned]
    if wrong:
        first = wrong[0]
        text = (
            f"{counted(len(wrong), 'mask')} of another size than the image: {named(case.masks(wrong))}. The first "
            f"image has {_by(first.size)} pixels (height x width), its mask {_by(first.mask_size)}."
        )
        if exif:
            text += f" {len(exif)} of these images are turned by EXIF and their masks are not: turn the masks."
        elif turned:
            text += f" {len(turned)} lie on their side."
        yield Finding("error", "size_mismatch", text, case.masks(wrong))
    hidden = [
        look
        for look in case.looks
        if look.image_form and look.image_form.turned and look not in wrong
    ]
    if hidden:
        text = (
            f"{counted(len(hidden), 'image')} turned by EXIF: {named(case.images(hidden))}. They are read upright; "
            "make sure that their masks were drawn on the upright picture."
        )
        yield Finding("warning", "exif", text, case.images(hidden))


def _modes(case: Case) -> Iterator[Finding]:
    forms = [(look, look.mask_form) for look in case.looks if look.mask_form]
    jpeg = [look for look, form in forms if form.format == "JPEG"]
    if jpeg:
        text = (
            f"{counted(len(jpeg), 'mask')} saved as JPEG, which changes values near edges: {named(case.masks(jpeg))}. "
            "Export them as PNG."
        )
        yield Finding("warning", "mask_jpeg", text, case.masks(jpeg))
    alpha = [look for look, form in forms if form.alpha]
    if alpha:
        text = (
            f"{counted(len(alpha), 'mask')} with transparency: {named(case.masks(alpha))}. Transparency is not looked "
            "at, colours or ids are."
        )
        if all(len(look.values or {}) == 1 for look in alpha):
            text += (
                " Each holds a single colour, so they seem to be drawn in transparency only: lay them on a background "
                "of another colour and save them without transparency."
            )
        yield Finding("note", "mask_alpha", text, case.masks(alpha))
    deep = [look for look, form in forms if form.mode.startswith("I")]
    if deep:
        text = f"{counted(len(deep), 'mask')} with 16 bits or more: {named(case.masks(deep))}. Larger ids are fine."
        yield Finding("note", "mask_16_bit", text, case.masks(deep))
    kinds: dict[str, list[Look]] = defaultdict(list)
    for look in case.looks:
        if look.kind in ("ids", "colours"):
            kinds[look.kind].append(look)
    if len(kinds) == 2:
        few = min(kinds.values(), key=len)
        many = max(kinds.values(), key=len)
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
    told = ", ".join(f"{row.value} ({row.first}, {row.pixels:,} pixels)" for row in unknown[:5])
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    text = f"Table '{case.labels.name}' does not know {told}{more}; a training would stop there."
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
    if case.labels is None:
        return
    rows = {row.name: row for row in case.rows if row.role == "class"}
    splits = [
        split for split, pairs in case.tree.splits.items() if any(pair.mask for pair in pairs)
    ]
    present = {name for name, row in rows.items() if row.pixels} | {case.tree.unmasked} - {None}
    if len(present) < 2 and any(row.pixels for row in case.rows):
        what = f"All labeled pixels are {present.pop()}" if present else "No pixel is of any class"
        text = f"{what}; a network needs two classes to tell apart. Check the masks and the table."
        yield Finding("error", "one_class", text)
    absent = [name for name in case.labels.names if name not in rows or not rows[name].pixels]
    if absent:
        text = f"Of the table's classes {len(absent)} never appear: {named(absent)}."
        yield Finding("note", "absent_class", text)
    for split in splits if len(splits) > 1 else ():
        missing = [name for name, row in rows.items() if row.pixels and not row.by_split.get(split)]
        if missing and split in ("train", "val"):
            why = "nothing can be learned of them" if split == "train" else "their score is unknown"
            text = f"No pixel in {split} of {named(missing)}: {why}."
            yield Finding("warning", "absent_in_split", text)
    rare = [row for row in rows.values() if 0 < row.share < RARE]
    if rare:
        told = named([f"{row.name} ({percent(row.share)})" for row in rare])
        text = f"Rare classes: {told}. data.sampling=rare shows them more often."
        yield Finding("note", "rare_class", text)
    empty = [
        look
        for look in case.looks
        if look.values
        and len(case.rows) > 1
        and look.pair.table is None
        and not learned_pixels(look, case.labels)
    ]
    if empty:
        text = f"{counted(len(empty), 'mask')} with no labelled pixel: {named(case.masks(empty))}."
        yield Finding("warning", "empty_mask", text, case.masks(empty))


def _copies(case: Case) -> Iterator[Finding]:
    for level, kind, couples, what in (
        ("error", "leak", across(case.looks, case.same), "in two splits"),
        ("warning", "near_leak", across(case.looks, case.alike), "in two splits, almost the same"),
    ):
        if couples:
            files = _couples(case, couples)
            splits = " and ".join(
                sorted({case.looks[i].split for couple in couples for i in couple})
            )
            text = (
                f"{counted(len(couples), 'picture')} {what} ({splits}): {named(files)}. A score on images from the "
                "training says nothing; keep each in one split."
            )
            yield Finding(level, kind, text, files)  # type: ignore[arg-type]
    inside = [
        couple for couple in case.same if case.looks[couple[0]].split == case.looks[couple[1]].split
    ]
    if inside:
        masks = [
            couple
            for couple in inside
            if case.looks[couple[0]].values != case.looks[couple[1]].values
        ]
        files = _couples(case, inside)
        text = f"{counted(len(inside), 'picture')} twice within a split: {named(files)}."
        if masks:
            text += f" {len(masks)} of them with another mask."
        yield Finding("warning" if masks else "note", "duplicate", text, files)
    near = [
        couple
        for couple in case.alike
        if case.looks[couple[0]].split == case.looks[couple[1]].split
    ]
    if near:
        files = _couples(case, near)
        text = f"{counted(len(near), 'couple')} of images look alike, as frames of one film do: {named(files)}."
        yield Finding("note", "near_duplicate", text, files)


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
    sizes = Counter(look.size for look in case.looks if not look.image_error)
    small = [size for size in sizes if min(size) < 64]
    if small:
        text = (
            f"Images down to {_by(min(small))} pixels: HRNet's coarsest branch sees 1/32 of that."
        )
        yield Finding("note", "small_images", text)
    alphas = [look for look in case.looks if look.image_form and look.image_form.alpha]
    if alphas:
        text = f"{counted(len(alphas), 'image')} with transparency, laid on white: {named(case.images(alphas))}."
        yield Finding("note", "image_alpha", text, case.images(alphas))
    modes = Counter(look.image_form.mode for look in case.looks if look.image_form)
    if (
        len({"RGB" if mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") else "grey" for mode in modes})
        > 1
    ):
        text = f"Grey and coloured images are mixed: {', '.join(f'{n} {m}' for m, n in modes.most_common())}."
        yield Finding("note", "mixed_images", text)


QUESTIONS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    *(_unmatched, _unreadable, _sizes, _modes, _values, _shifted_already, _classes),
    *(_copies, _amount),
)


def learned_pixels(look: Look, labels: LabelSet) -> int:
    """Count the pixels of a mask that belong to a class of the table."""
    rows = (
        (labels.find(value, look.kind == "colours"), n) for value, n in (look.values or {}).items()
    )
    return sum(n for row, n in rows if row is not None and row.train_id != 255)


def _couples(case: Case, couples: Sequence[Couple]) -> tuple[str, ...]:
    return tuple(
        f"{case.below(case.looks[i].pair.image)} = {case.below(case.looks[j].pair.image)}"
        for i, j in couples
    )


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
