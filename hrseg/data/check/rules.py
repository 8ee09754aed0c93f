"""Rules of the check: each examines one property of a dataset and gives findings.

One function per rule; RULES is their order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.check.findings import ClassRow, Finding, Level, counted, named, relative
from hrseg.data.check.grouping import IndexPair
from hrseg.data.check.layout import Tree
from hrseg.data.check.scan import ScannedPair
from hrseg.errors import percent
from hrseg.labels import LabelSet

RARE = 0.001
"""Share of the pixels below which a class is called rare."""


@dataclass(frozen=True)
class Context:
    """Input of the rules."""

    tree: Tree
    scanned: Sequence[ScannedPair]
    labels: LabelSet | None
    rows: Sequence[ClassRow]
    exact: Sequence[IndexPair]
    near: Sequence[IndexPair]

    def names(self, paths: Iterable[Path | None]) -> tuple[str, ...]:
        """Return paths relative to the root."""
        return tuple(relative(path, self.tree.root) for path in paths)

    def images(self, entries: Iterable[ScannedPair]) -> tuple[str, ...]:
        """Return the images' paths."""
        return self.names(entry.pair.image for entry in entries)

    def masks(self, entries: Iterable[ScannedPair]) -> tuple[str, ...]:
        """Return the masks' paths."""
        return self.names(entry.pair.mask for entry in entries)

    def duplicates(self, index_pairs: Iterable[IndexPair], *, across: bool) -> tuple[list[IndexPair], tuple[str, ...]]:
        """Return the duplicates across splits, or within one, and their names."""
        entries = self.scanned
        found = [(i, j) for i, j in index_pairs if (entries[i].split != entries[j].split) == across]
        names = (self.images((entries[i], entries[j])) for i, j in found)
        return found, tuple(" = ".join(both) for both in names)


def apply_rules(context: Context) -> list[Finding]:
    """Return the findings of all rules."""
    return [finding for rule in RULES for finding in rule(context)]


def _about(level: Level, kind: str, noun: str, files: Sequence[str], text: str) -> Iterator[Finding]:
    """Yield a finding about files, if there are any; {files} in the text becomes the first names."""
    if files:
        text = f"{counted(len(files), noun)} {text.replace('{files}', named(files))}"
        yield Finding(level, kind, text, tuple(files))


def _unmatched(context: Context) -> Iterator[Finding]:
    found = context.tree.pairing
    own = context.tree.layout == "folder"
    level: Level = "warning" if own else "error"
    for noun, other, paths, hint in (
        ("image", "a mask", found.images_alone, " (--unmasked CLASS: they hold nothing else)"),
        ("mask", "an image", found.masks_alone, ""),
    ):
        step = f"They are left out{hint}." if own else "Get them, or move the others away."
        files = context.names(paths)
        kind = f"{noun}_without_{other.split()[1]}"
        yield from _about(level, kind, noun, files, f"without {other}: {{files}}. {step}")
    if context.tree.unmasked is not None:
        files = context.images(entry for entry in context.scanned if not entry.pair.mask)
        text = f"without a mask, taken as {context.tree.unmasked}: {{files}}."
        yield from _about("note", "unmasked", "image", files, text)
    for note in found.notes:
        yield Finding("note", "left_aside", note)
    for layout in context.tree.similar:
        yield Finding(
            "note",
            "similar_layout",
            f"The folders are those of layout '{layout}', but the files have other names, so they are read as your own "
            f"data. If they are {layout}: --layout {layout}",
        )


def _unreadable(context: Context) -> Iterator[Finding]:
    for noun, named_by in (("image", context.images), ("mask", context.masks)):
        bad = [entry for entry in context.scanned if getattr(entry, f"{noun}_error")]
        why = getattr(bad[0], f"{noun}_error") if bad else ""
        text = f"cannot be read: {{files}}. {why}"
        yield from _about("error", f"unreadable_{noun}", noun, named_by(bad), text)
    photos = [entry for entry in context.scanned if entry.kind == "photo"]
    jpeg = any(entry.mask_form and entry.mask_form.format == "JPEG" for entry in photos)
    why = (
        "JPEG changes colors when it is saved; export the masks as PNG."
        if jpeg
        else "They are photos, or masks that were smoothed; export them again without smoothing."
    )
    text = f"with more than a thousand colors: {{files}}. {why}"
    yield from _about("error", "mask_is_photo", "mask", context.masks(photos), text)


def _sizes(context: Context) -> Iterator[Finding]:
    read = [x for x in context.scanned if x.pair.mask and not x.image_error and not x.mask_error]
    wrong = [entry for entry in read if entry.size != entry.mask_size]
    turned = [entry for entry in wrong if entry.size == entry.mask_size[::-1]]
    exif = [entry for entry in turned if entry.image_form and entry.image_form.turned]
    if wrong:
        text = (
            f"of another size than the image: {{files}}. The first image has {_size_text(wrong[0].size)} pixels "
            f"(height x width), its mask {_size_text(wrong[0].mask_size)}."
        )
        if exif:
            text += f" {len(exif)} of these images are turned by EXIF and their masks are not: turn the masks."
        elif turned:
            text += f" {len(turned)} have height and width exchanged."
        yield from _about("error", "size_mismatch", "mask", context.masks(wrong), text)
    hidden = [x for x in context.scanned if x.image_form and x.image_form.turned and x not in wrong]
    text = (
        "turned by EXIF: {files}. They are read upright; make sure that their masks were drawn on the upright picture."
    )
    yield from _about("warning", "exif", "image", context.images(hidden), text)


def _modes(context: Context) -> Iterator[Finding]:
    forms = [(entry, entry.mask_form) for entry in context.scanned if entry.mask_form]
    jpeg = context.masks(entry for entry, form in forms if form.format == "JPEG")
    text = "saved as JPEG, which changes values near edges: {files}. Export them as PNG."
    yield from _about("warning", "mask_jpeg", "mask", jpeg, text)
    alpha = [entry for entry, form in forms if form.alpha]
    text = "with transparency: {files}. Transparency is ignored, colors or ids are read."
    if all(len(entry.values or {}) == 1 for entry in alpha):
        text += (
            " Each holds a single color, so they seem to be drawn in transparency only: lay them on a background "
            "of another color and save them without transparency."
        )
    yield from _about("note", "mask_alpha", "mask", context.masks(alpha), text)
    deep = context.masks(entry for entry, form in forms if form.mode.startswith("I"))
    text = "with 16 bits or more: {files}. Larger ids are fine."
    yield from _about("note", "mask_16_bit", "mask", deep, text)
    kinds: dict[str, list[ScannedPair]] = defaultdict(list)
    for entry in context.scanned:
        if entry.kind in ("ids", "colors"):
            kinds[entry.kind].append(entry)
    if len(kinds) == 2:
        few, many = min(kinds.values(), key=len), max(kinds.values(), key=len)
        text = (
            f"Masks are of two kinds: {len(many)} hold {many[0].kind}, {len(few)} hold {few[0].kind}, such as "
            f"{named(context.masks(few))}. Save them all in one way."
        )
        yield Finding("error", "mixed_masks", text, context.masks(few))


def _values(context: Context) -> Iterator[Finding]:
    unknown = [row for row in context.rows if row.role == "unknown"]
    if not unknown or context.labels is None:
        return
    files = tuple(dict.fromkeys(row.first for row in unknown))
    listed = named([f"{row.value} ({row.first}, {row.pixels:,} pixels)" for row in unknown])
    text = f"Table '{context.labels.name}' does not know {listed}; a training would stop there."
    yield Finding("error", "unknown_id", text, files)
    ids = {row.id for row in context.labels.labels}
    seen = {int(row.value) for row in context.rows if row.value.isdecimal() and row.pixels}
    if {int(row.value) for row in unknown if row.value.isdecimal()} == {max(ids) + 1} and 0 in ids:
        text = (
            f"Masks hold ids up to {max(ids) + 1}, one more than the table: probably they count classes from 1 and 0 "
            "means 'no class' (\"reduce zero\"). Give the classes the ids from 1 on, and ignore: [0]."
        )
        yield Finding("error", "reduce_zero", text)
    elif seen and max(seen) > 1000 and len(seen) > 20:
        text = "Large ids like these are often instance numbers (class x 1000 + number). Use the masks of classes."
        yield Finding("warning", "instance_ids", text)


def _shifted_already(context: Context) -> Iterator[Finding]:
    if context.labels is None or context.tree.layout == "folder":
        return
    learned = {row.id for row in context.labels.classes}
    ids = {row.id for row in context.labels.labels}
    pixels = {int(row.value): row.share for row in context.rows if row.value.isdecimal()}
    if 0 in ids - learned and 255 not in ids and pixels.get(255, 0) > 0.001:
        text = (
            f"Table '{context.labels.name}' ignores id 0 and counts classes from 1, but masks use 255 as well: was 0 "
            "removed already (0 → 255, n → n - 1)? That must be done exactly once: use the released masks, or a "
            "table that counts from 0."
        )
        yield Finding("warning", "shifted_twice", text)


def _classes(context: Context) -> Iterator[Finding]:
    labels = context.labels
    if labels is None:
        return
    rows = {row.name: row for row in context.rows if row.role == "class"}
    present = {name for name, row in rows.items() if row.pixels} | {context.tree.unmasked} - {None}
    if len(present) < 2 and any(row.pixels for row in context.rows):
        what = f"All labeled pixels are {present.pop()}" if present else "No pixel is of any class"
        text = f"{what}; a network needs two classes. Check the masks and the table."
        yield Finding("error", "one_class", text)
    absent = [name for name in labels.names if name not in rows or not rows[name].pixels]
    if absent:
        text = f"Of the table's classes {len(absent)} never appear: {named(absent)}."
        yield Finding("note", "absent_class", text)
    splits = [s for s, pairs in context.tree.splits.items() if any(pair.mask for pair in pairs)]
    for split in ("train", "val") if len(splits) > 1 else ():
        missing = [name for name, row in rows.items() if row.pixels and not row.by_split.get(split)]
        if missing and split in splits:
            why = "nothing can be learned of them" if split == "train" else "their score is unknown"
            text = f"No pixel in {split} of {named(missing)}: {why}."
            yield Finding("warning", "absent_in_split", text)
    rare = [row for row in rows.values() if 0 < row.share < RARE]
    if rare:
        listed = named([f"{row.name} ({percent(row.share)})" for row in rare])
        text = f"Rare classes: {listed}. data.sampling=rare shows them more often."
        yield Finding("note", "rare_class", text)
    held = [x for x in context.scanned if x.values and x.pair.table is None and len(context.rows) > 1]
    empty = context.masks(entry for entry in held if not learned_pixels(entry, labels))
    yield from _about("warning", "empty_mask", "mask", empty, "with no labeled pixel: {files}.")


def _duplicates(context: Context) -> Iterator[Finding]:
    leaks: tuple[tuple[Level, str, Sequence[IndexPair], str], ...] = (
        ("error", "leak", context.exact, ""),
        ("warning", "near_leak", context.near, ", almost the same"),
    )
    for level, kind, index_pairs, how in leaks:
        found, names = context.duplicates(index_pairs, across=True)
        splits = " and ".join(sorted({context.scanned[i].split for both in found for i in both}))
        text = (
            f"in two splits{how} ({splits}): {{files}}. A score on training images is too high; keep each in one split."
        )
        yield from _about(level, kind, "picture", names, text)
    found, names = context.duplicates(context.exact, across=False)
    differing = sum(context.scanned[i].values != context.scanned[j].values for i, j in found)
    text = "twice within a split: {files}." + f" {differing} of them with another mask." * bool(differing)
    level = "warning" if differing else "note"
    yield from _about(level, "duplicate", "picture", names, text)
    text = "of images are nearly equal, as frames of one film are: {files}."
    names = context.duplicates(context.near, across=False)[1]
    yield from _about("note", "near_duplicate", "pair", names, text)


def _amount(context: Context) -> Iterator[Finding]:
    splits = context.tree.splits
    if not {"train", "val"} <= set(splits) and set(splits) != {"test"}:
        have = ", ".join(name for name in splits if name != "all") or "no split"
        text = f"There is {have}: the recipe divides the images, copies together, the same way each time."
        yield Finding("note", "no_split", text)
    count = sum(entry.usable for entry in context.scanned if entry.pair.mask)
    if count < 20:
        text = f"Only {counted(count, 'pair')}; expect little until there are a hundred or so."
        yield Finding("warning", "few_images", text)
    small = {x.size for x in context.scanned if not x.image_error and min(x.size) < 64}
    if small:
        text = f"Images down to {_size_text(min(small))} pixels: HRNet's coarsest branch sees 1/32 of that."
        yield Finding("note", "small_images", text)
    forms = [(entry, entry.image_form) for entry in context.scanned if entry.image_form]
    alphas = context.images(entry for entry, form in forms if form.alpha)
    text = "with transparency, laid on white: {files}."
    yield from _about("note", "image_alpha", "image", alphas, text)
    modes = Counter(form.mode for _, form in forms)
    if len({mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") for mode in modes}) > 1:
        text = f"Gray and colored images are mixed: {', '.join(f'{n} {m}' for m, n in modes.most_common())}."
        yield Finding("note", "mixed_images", text)


RULES: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    *(_unmatched, _unreadable, _sizes, _modes, _values, _shifted_already, _classes),
    *(_duplicates, _amount),
)


def learned_pixels(entry: ScannedPair, labels: LabelSet) -> int:
    """Count the pixels of a mask that belong to a class of the table."""
    rows = ((labels.find(value, entry.kind == "colors"), n) for value, n in (entry.values or {}).items())
    return sum(n for row, n in rows if row is not None and row.train_id != 255)


def _size_text(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"
