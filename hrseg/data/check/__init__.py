"""Check of any folder of images and masks: findings, class table, and a recipe that trains (`hrseg data check`).

Modules, in order of use: file_names and pairing read names, layout recognizes known datasets, scan reads files,
grouping finds duplicates, classes and guess_classes make the class table, rules give the findings, recipe writes the
training recipe; report and page show the result.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from hrseg.data.check.classes import class_rows, covers, mean_and_std, table_of
from hrseg.data.check.findings import Finding, Recipe, Result, named
from hrseg.data.check.grouping import component_roots, exact_duplicates, near_duplicates
from hrseg.data.check.layout import Tree, own_files, recognize
from hrseg.data.check.recipe import Start, split_for_recipe, suggest_crop, suggest_recipe
from hrseg.data.check.rules import Context, apply_rules, learned_pixels
from hrseg.data.check.scan import Job, ScannedPair, scan
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
    """Check a dataset: its contents, its errors, and a recipe to train on it.

    Args:
        root: Its folder.
        labels: Class table that the masks must follow; None finds or makes one.
        layout: A row of LAYOUTS, where the tree is not recognized as one.
        masks: Pattern of the mask of an image, such as "masks/{stem}.jpg.png"; None pairs by names.
        unmasked: Class of images without a mask; None leaves them out.
        by: Grouping of images that stay in one split, where there are no splits: none, folder, or a regular
            expression; None keeps folders together that seem to hold one patient or flight each.
        start: Network and weights of the suggested recipe.
        workers: Processes; 0 is one per core.
        val_share: Share of images for validation, where there are no splits.
        seed: Of that division.
        progress: Called with the number of pairs; returns a function that is called with how many more are done.

    Raises:
        ConfigError: `masks`, `unmasked` or `by` cannot be used.
        DataError: No such folder, nothing in it that could be paired, or an unreadable table.
    """
    started = time.perf_counter()
    root = Path(root).expanduser()
    table = load_labels(labels) if labels is not None else None
    tree = recognize(root, layout, masks, unmasked)
    scanned = list(scan(_jobs(tree), workers, progress(sum(map(len, tree.splits.values())))))
    findings: list[Finding] = []
    if table is None and tree.layout != "folder" and layout is None and not _matches_layout(scanned, tree):
        tree, scanned = _as_own_files(tree, scanned, workers, progress)
    source, text = None if labels is None else str(labels), None
    if table is None:
        table, source, text, noted = table_of(tree, scanned)
        findings += noted
    if unmasked is not None and table is not None and unmasked not in table.names:
        raise ConfigError(unknown_choice("class", unmasked, table.names))
    tables = {name: load_labels(name) for name in {x.pair.table for x in scanned} if name is not None}
    rows = class_rows(scanned, table, tables, tree.root)
    exact, near = exact_duplicates(scanned), near_duplicates(scanned)
    context = Context(tree, scanned, table, rows, exact, near)
    findings = [*apply_rules(context), *findings]
    order = ("error", "warning", "note")
    division = split_for_recipe(
        tree,
        scanned,
        _inseparable(len(scanned), exact, near),
        val_share=val_share,
        seed=seed,
        by=by,
    )
    recipe = None
    if table is not None:
        start = start or Start("hrnet_w18_small_v1", None)
        try:
            recipe = suggest_recipe(tree, division, rows, labels=_absolute_path(source), table_text=text, start=start)
        except DataError as error:  # a name that no list can hold
            findings.append(Finding("error", "odd_name", str(error)))
    findings += division.findings
    if recipe is None and not any(finding.level == "error" for finding in findings):
        text = "No pair of an image and a mask can be trained on: each is broken, or its mask holds no class."
        findings.append(Finding("error", "no_recipe", text))
    return Result(
        root=root,
        layout=tree.layout,
        where=tree.pairing.where,
        splits={
            split: {"images": len(pairs), "masks": sum(pair.mask is not None for pair in pairs)}
            for split, pairs in tree.splits.items()
        },
        images=_image_facts(scanned),
        masks=_mask_facts(scanned, source or (table.name if table and tree.layout != "folder" else None)),
        classes=tuple(rows),
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.level))),
        recipe=recipe,
        seconds=time.perf_counter() - started,
        scanned=tuple(scanned),
    )


def write_recipe(recipe: Recipe, path: str | Path) -> list[Path]:
    """Write a recipe and the files it needs beside it.

    Returns:
        The files, the recipe last.

    Raises:
        DataError: A file cannot be written, or an existing one has other content; then none is touched.
    """
    files = recipe.files(Path(path))
    for place, text in files.items():
        if place.suffix != ".txt" and path_text(text) != text:
            line = next(line for line in text.splitlines() if path_text(line) != line)
            raise DataError(
                f"{path_text(place)} would hold the line '{path_text(line.strip())}', of which \\x.. are no UTF-8, and "
                "no YAML can hold them. Rename that folder or file."
            )
    changed = [place for place, text in files.items() if _differs(place, text)]
    if changed:
        tables = [place for place in changed if place.name == "labels.yaml"]
        keep = f" To keep the names of that table: --labels {tables[0]}" if tables else ""
        raise DataError(
            f"{named(map(str, changed))} would be overwritten, and may hold your changes. Give --write another "
            f"name, or move {'it' if len(changed) == 1 else 'them'} away first.{keep}"
        )
    for place, text in files.items():
        with write_atomic(place) as temporary:
            write_list(temporary, text)
    return list(files)


def _differs(place: Path, text: str) -> bool:
    """Return whether a file exists with other content."""
    try:
        return place.read_bytes() != text.encode(errors="surrogateescape")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"{place} cannot be written: {error.strerror}. Give --write another name.") from error


def _jobs(tree: Tree) -> list[Job]:
    """List all pairs; of known datasets, the mask encoding of each pair is detected first."""
    jobs = []
    for split, pairs in tree.splits.items():
        if tree.layout != "folder":
            # where no encoding fits, the pairs stay as they are and the findings list the unknown ids
            with contextlib.suppress(DataError):
                table = load_labels(str(LAYOUTS[tree.layout].table))
                pairs = choose_tables(pairs, table, read_ids)
        jobs += [(split, pair) for pair in pairs]
    return jobs


def _matches_layout(scanned: Sequence[ScannedPair], tree: Tree) -> bool:
    """Return whether the masks are the layout's: its table has most of their values, and they hold its classes.

    A few consecutive ids such as 0 to 4 prove nothing: most masks hold them, and in Cityscapes they are not learned.
    """
    table = load_labels(str(LAYOUTS[tree.layout].table))
    masks = [entry for entry in scanned if entry.values]
    seen = {value for entry in masks for value in entry.values or {}} - {255}
    consecutive = seen <= set(range(len(seen) + 1))
    if not masks or (consecutive and 2 * len(seen) <= len(table.classes)):
        return False
    tables = [table if x.pair.table is None else load_labels(x.pair.table) for x in masks]
    covered = sum(covers(table, entry) for table, entry in zip(tables, masks, strict=True))
    learned = sum(learned_pixels(entry, table) for table, entry in zip(tables, masks, strict=True))
    pixels = sum(sum((entry.values or {}).values()) for entry in masks)
    return covered >= len(masks) / 2 and learned >= pixels / 3


def _as_own_files(
    tree: Tree,
    scanned: list[ScannedPair],
    workers: int,
    progress: Callable[[int], Callable[[int], None]],
) -> tuple[Tree, list[ScannedPair]]:
    """Recognize a tree again as layout "folder", where its masks are not those of the layout it resembles."""
    try:
        other = own_files(tree.root, (tree.layout,))
    except DataError:
        return tree, scanned
    jobs = _jobs(other)
    return other, list(scan(jobs, workers, progress(len(jobs))))


def _inseparable(
    count: int, exact: Sequence[tuple[int, int]], near: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return pairs that no division may separate; near duplicates only where they do not connect most images."""
    both = [*exact, *near]
    largest = max(Counter(component_roots(count, both)).values(), default=0)
    return both if largest <= count / 4 else list(exact)


def _image_facts(scanned: Sequence[ScannedPair]) -> dict[str, object]:
    readable = [entry for entry in scanned if not entry.image_error]
    sizes = Counter(entry.size for entry in readable)
    mean, std = mean_and_std(readable) if readable else ([], [])
    forms = Counter(f"{x.image_form.format} {x.image_form.mode}" for x in readable if x.image_form)
    return {
        "count": len(scanned),
        "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in sizes.most_common()],
        "forms": dict(forms.most_common()),
        "mean": [round(value, 4) for value in mean],
        "std": [round(value, 4) for value in std],
        "crop": list(suggest_crop([entry.size for entry in readable])) if readable else None,
    }


def _mask_facts(scanned: Sequence[ScannedPair], table: str | None) -> dict[str, object]:
    forms = Counter(f"{x.mask_form.format} {x.mask_form.mode}" for x in scanned if x.mask_form)
    kinds = Counter(entry.kind for entry in scanned if entry.kind)
    values = {value for entry in scanned for value in entry.values or {}}
    return {
        "count": sum(entry.pair.mask is not None for entry in scanned),
        "forms": dict(forms.most_common()),
        "kinds": dict(kinds.most_common()),
        "values": len(values),
        "binary": values == {0, 255},
        "table": table,
    }


def _absolute_path(source: str | None) -> str | None:
    """Return the absolute path of a table file; names of built-in tables stay."""
    if source is None or not Path(source).expanduser().is_file():
        return source
    return str(Path(source).expanduser().resolve())
