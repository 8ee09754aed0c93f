"""`hrseg data check`: look at any tree of images and masks, say what is wrong, and suggest a recipe that trains.

roles and pairing read names, recognize finds the layout, scan opens files, groups finds duplicates, tables guesses
classes, judge asks the questions, suggest writes the recipe; report and page show the result.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hrseg.data.check.classes import class_rows, knows, mean_and_std, table_of
from hrseg.data.check.findings import Finding, Recipe, Result, named
from hrseg.data.check.groups import exact, joined, near, pairs_of
from hrseg.data.check.layout import Tree, own, recognize
from hrseg.data.check.recipe import Start, part, suggest, suggest_crop
from hrseg.data.check.rules import Case, judge, learned_pixels
from hrseg.data.check.scan import Job, Look, scan
from hrseg.data.dataset import read_ids
from hrseg.data.layouts import LAYOUTS
from hrseg.data.layouts.pairs import write_list
from hrseg.data.mask_encoding import choose_tables
from hrseg.errors import ConfigError, DataError, path_text, unknown_choice
from hrseg.imaging import write_atomic
from hrseg.labels import load_labels

__all__ = ["Finding", "Recipe", "Result", "Start", "check", "write_recipe"]


def check(
    root: str | Path,
    *,
    labels: str | Path | None = None,
    layout: str | None = None,
    masks: str | None = None,
    unmasked: str | None = None,
    by: str | None = None,
    start: Start | None = None,
    workers: int = 0,
    val_share: float = 0.2,
    seed: int = 0,
    progress: Callable[[int], Callable[[int], None]] = lambda total: lambda count: None,
) -> Result:
    """Look at a dataset and say what is in it, what is wrong with it, and how to train on it.

    Args:
        root: Its folder.
        labels: A table that the masks are held against; None finds one or makes one.
        layout: A row of LAYOUTS, where the tree is not recognized as what it is.
        masks: Pattern of the mask of an image, such as "masks/{stem}.jpg.png"; None goes by names.
        unmasked: Class of images without a mask; None leaves them out.
        by: What stays in one split where there are no splits: none, folder, or a regular expression; None keeps
            folders together that look like patients or flights.
        start: Network and weights of the suggested recipe.
        workers: Processes; 0 is one per core.
        val_share: Part that validates where there are no splits.
        seed: Of that division.
        progress: Told the number of pairs, gives a function that is told how many more are done.

    Raises:
        ConfigError: `masks`, `unmasked` or `by` cannot be used.
        DataError: No such folder, nothing in it that could be paired, or an unreadable table.
    """
    began = time.perf_counter()
    root = Path(root).expanduser()
    given = load_labels(labels) if labels is not None else None
    tree = recognize(root, layout, masks, unmasked)
    looks = list(scan(_jobs(tree), workers, progress(sum(map(len, tree.splits.values())))))
    findings: list[Finding] = []
    if given is None and tree.layout != "folder" and layout is None and not _explained(looks, tree):
        tree, looks = _demoted(tree, looks, workers, progress)
    table, source, text = given, None if labels is None else str(labels), None
    if given is None:
        table, source, text, told = table_of(tree, looks)
        findings += told
    if unmasked is not None and table is not None and unmasked not in table.names:
        raise ConfigError(unknown_choice("class", unmasked, table.names))
    tables = {name: load_labels(name) for name in {x.pair.table for x in looks} if name is not None}
    below = Case(tree, looks, table, (), (), ()).below
    rows = class_rows(looks, table, tables, below)
    groups = exact(looks)
    same, alike = list(pairs_of(groups)), near(looks)
    case = Case(tree, looks, table, rows, same, alike)
    findings = [*judge(case), *findings]
    order = ("error", "warning", "note")
    parts = part(
        tree, looks, _kept_together(len(looks), same, alike), val_share=val_share, seed=seed, by=by
    )
    recipe = None
    if table is not None:
        start = start or Start("hrnet_w18_small_v1", None)
        try:
            recipe = suggest(
                tree, parts, rows, labels=_absolute(source), table_text=text, start=start
            )
        except DataError as error:  # a name that no list can hold
            findings.append(Finding("error", "odd_name", str(error)))
    findings += parts.findings
    if recipe is None and not any(finding.level == "error" for finding in findings):
        text = "No pair of an image and a mask can be trained on: each is broken, or its mask holds no class."
        findings.append(Finding("error", "no_recipe", text))
    return Result(
        root=root,
        layout=tree.layout,
        where=tree.found.where,
        splits={
            split: {"images": len(pairs), "masks": sum(pair.mask is not None for pair in pairs)}
            for split, pairs in tree.splits.items()
        },
        images=_image_facts(looks),
        masks=_mask_facts(
            looks, source or (table.name if table and tree.layout != "folder" else None)
        ),
        classes=tuple(rows),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.level))),
        recipe=recipe,
        seconds=time.perf_counter() - began,
        looks=tuple(looks),
    )


def write_recipe(recipe: Recipe, path: str | Path) -> list[Path]:
    """Write a recipe and what it needs beside it.

    Returns:
        The files, the recipe last.

    Raises:
        DataError: A file cannot be written, or one that is there holds something else; then none is touched.
    """
    files = recipe.files(Path(path))
    for place, text in files.items():
        if place.suffix != ".txt" and path_text(text) != text:
            odd = next(line for line in text.splitlines() if path_text(line) != line)
            raise DataError(
                f"{path_text(place)} would hold the line '{path_text(odd.strip())}', of which \\x.. are no UTF-8, and "
                "no YAML can hold them. Rename that folder or file."
            )
    changed = [place for place, text in files.items() if _differs(place, text)]
    if changed:
        tables = [place for place in changed if place.name == "labels.yaml"]
        keep = f" To keep the names of that table: --labels {tables[0]}" if tables else ""
        raise DataError(
            f"{named(map(str, changed))} would be written over, and may hold changes of yours. Give --write another "
            f"name, or move {'it' if len(changed) == 1 else 'them'} away first.{keep}"
        )
    for place, text in files.items():
        with write_atomic(place) as temporary:
            write_list(temporary, text)
    return list(files)


def _differs(place: Path, text: str) -> bool:
    """Say whether a file is there and holds another text."""
    try:
        return place.read_bytes() != text.encode(errors="surrogateescape")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(
            f"{place} cannot be written: {error.strerror}. Give --write another name."
        ) from error


def _jobs(tree: Tree) -> list[Job]:
    """List all pairs; numberings of a known dataset are settled before."""
    jobs = []
    for split, found in tree.splits.items():
        pairs = found
        if tree.layout != "folder":
            try:
                table = load_labels(str(LAYOUTS[tree.layout].table))
                pairs = choose_tables(found, table, read_ids)
            except DataError:
                pairs = found  # the ids will tell
        jobs += [(split, pair) for pair in pairs]
    return jobs


def _explained(looks: Sequence[Look], tree: Tree) -> bool:
    """Say whether the masks are the dataset's: its table knows most of them, and they hold its classes.

    Few ids without a gap, such as 0 to 4, are in everybody's masks, and in Cityscapes they are no class at all.
    """
    table = load_labels(str(LAYOUTS[tree.layout].table))
    masks = [look for look in looks if look.values]
    seen = {value for look in masks for value in look.values or {}} - {255}
    without_gap = seen <= set(range(len(seen) + 1))
    if not masks or (without_gap and 2 * len(seen) <= len(table.classes)):
        return False
    tables = [table if x.pair.table is None else load_labels(x.pair.table) for x in masks]
    known = sum(knows(table, look) for table, look in zip(tables, masks, strict=True))
    learned = sum(learned_pixels(look, table) for table, look in zip(tables, masks, strict=True))
    pixels = sum(sum((look.values or {}).values()) for look in masks)
    return known >= len(masks) / 2 and learned >= pixels / 3


def _demoted(
    tree: Tree, looks: list[Look], workers: int, progress: Callable[[int], Callable[[int], None]]
) -> tuple[Tree, list[Look]]:
    """Take a tree that only lies like a known dataset as somebody's own."""
    try:
        other = own(tree.root, (tree.layout,))
    except DataError:
        return tree, looks
    jobs = _jobs(other)
    return other, list(scan(jobs, workers, progress(len(jobs))))


def _kept_together(
    count: int, same: Sequence[tuple[int, int]], alike: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return couples that no division may part; look-alikes too, unless they chain everything together."""
    both = [*same, *alike]
    largest = max(Counter(joined(count, both)).values(), default=0)
    return both if largest <= count / 4 else list(same)


def _image_facts(looks: Sequence[Look]) -> dict[str, object]:
    good = [look for look in looks if not look.image_error]
    sizes = Counter(look.size for look in good)
    mean, std = mean_and_std(good) if good else ([], [])
    forms = Counter(f"{x.image_form.format} {x.image_form.mode}" for x in good if x.image_form)
    return {
        "count": len(looks),
        "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in sizes.most_common()],
        "forms": dict(forms.most_common()),
        "mean": [round(value, 4) for value in mean],
        "std": [round(value, 4) for value in std],
        "crop": list(suggest_crop([look.size for look in good])) if good else None,
    }


def _mask_facts(looks: Sequence[Look], table: str | None) -> dict[str, object]:
    forms = Counter(f"{x.mask_form.format} {x.mask_form.mode}" for x in looks if x.mask_form)
    kinds = Counter(look.kind for look in looks if look.kind)
    values = {value for look in looks for value in look.values or {}}
    return {
        "count": sum(look.pair.mask is not None for look in looks),
        "forms": dict(forms.most_common()),
        "kinds": dict(kinds.most_common()),
        "values": len(values),
        "binary": values == {0, 255},
        "table": table,
    }


def _absolute(source: str | None) -> str | None:
    """Name a table file by its whole path; built-in names stay."""
    if source is None or not Path(source).expanduser().is_file():
        return source
    return str(Path(source).expanduser().resolve())
