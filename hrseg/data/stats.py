"""Statistics of a dataset: sizes, mean and deviation of each band, and pixels of each class."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrseg.data.check.classes import mean_and_std, table_of
from hrseg.data.check.findings import value_text
from hrseg.data.check.layout import recognize
from hrseg.data.check.scan import ScannedPair, scan
from hrseg.data.layouts import LAYOUTS
from hrseg.errors import columns, list_unreadable, percent
from hrseg.labels import IGNORE_INDEX, LabelSet, find_classes, load_labels

Progress = Callable[[int], Callable[[int], None]]


@dataclass
class SplitStats:
    """Statistics of one split.

    Attributes:
        images: Number of images.
        without_mask: Number of those without a mask.
        sizes: (height, width) → images.
        pixels: Class, "ignored", or "unknown VALUE" → pixels.
        holding: The same → images.
        mean: Of each band, in 0 … 1.
        std: Of each band, in 0 … 1.
        broken: Errors of files that cannot be read.
    """

    images: int
    without_mask: int
    sizes: Counter[tuple[int, int]]
    pixels: Counter[str]
    holding: Counter[str]
    mean: list[float]
    std: list[float]
    broken: list[str]


@dataclass(frozen=True)
class Stats:
    """Statistics of a dataset.

    Attributes:
        root: Its folder.
        layout: Its layout.
        labels: Its classes; None if they are unknown, and the values of the masks take their place.
        splits: Split → its statistics.
    """

    root: Path
    layout: str
    labels: LabelSet | None
    splits: dict[str, SplitStats]

    @property
    def broken(self) -> list[str]:
        """Errors of files that cannot be read."""
        return [reason for numbers in self.splits.values() for reason in numbers.broken]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "root": str(self.root),
            "layout": self.layout,
            "labels": self.labels.name if self.labels else None,
            "splits": {split: self._of(numbers) for split, numbers in self.splits.items()},
        }

    def _of(self, numbers: SplitStats) -> dict[str, Any]:
        total = max(1, numbers.pixels.total())
        return {
            "images": numbers.images,
            "without_mask": numbers.without_mask,
            "mean": [round(value, 6) for value in numbers.mean],
            "std": [round(value, 6) for value in numbers.std],
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in numbers.sizes.most_common()],
            "classes": [
                {
                    "name": name,
                    "pixels": numbers.pixels[name],
                    "share": round(numbers.pixels[name] / total, 8),
                    "images": numbers.holding[name],
                }
                for name in _names(self.labels, [numbers])
            ],
            "broken": numbers.broken,
        }

    def text(self) -> str:
        """Format the statistics for the terminal."""
        lines = [f"{self.root} ({self.layout})", ""]
        for split, numbers in self.splits.items():
            sizes = numbers.sizes.most_common(3)
            shown = ", ".join(f"{h}x{w}" + (f" ({n:,})" if len(numbers.sizes) > 1 else "") for (h, w), n in sizes)
            more = f" and {len(numbers.sizes) - 3} more" if len(numbers.sizes) > 3 else ""
            bare = f", {numbers.without_mask:,} without mask" if numbers.without_mask else ""
            broken = f", {len(numbers.broken):,} broken" if numbers.broken else ""
            lines += [
                f"  {split}: {numbers.images:,} images{bare}{broken}, {shown}{more}",
                f"  {' ' * len(split)}  mean {_row(numbers.mean)}  std {_row(numbers.std)}",
            ]
        return "\n".join([*lines, "", *self._table(), *list_unreadable(self.broken)])

    def _table(self) -> list[str]:
        names = _names(self.labels, list(self.splits.values()))
        rows = [["class", *(x for split in self.splits for x in (f"{split} pixels", "images"))]]
        for name in names:
            row = [name]
            for numbers in self.splits.values():
                share = numbers.pixels[name] / max(1, numbers.pixels.total())
                row += [percent(share), f"{numbers.holding[name]:,}"]
            rows.append(row)
        return columns(rows, indent="  ")


def stats(
    root: str | Path,
    *,
    layout: str | None = None,
    labels: str | None = None,
    workers: int = 0,
    progress: Progress = lambda total: lambda count: None,
) -> Stats:
    """Count a dataset.

    Raises:
        DataError: No such folder, or nothing in it.
    """
    root = Path(root).expanduser()
    tree = recognize(root, layout)
    given = load_labels(labels) if labels is not None else None
    # an unreadable file of classes raises here, before the images are read
    known = given or LAYOUTS[tree.layout].table or find_classes(root)
    jobs = [(split, pair) for split, pairs in tree.splits.items() for pair in pairs]
    scanned = list(scan(jobs, workers, progress(len(jobs))))
    table = given or (table_of(tree, scanned)[0] if known else None)
    splits: dict[str, list[ScannedPair]] = defaultdict(list)
    for pair in scanned:
        splits[pair.split].append(pair)
    numbers = {split: _numbers(inside, table) for split, inside in splits.items()}
    return Stats(root, tree.layout, table, numbers)


def _numbers(scanned: Sequence[ScannedPair], labels: LabelSet | None) -> SplitStats:
    pixels, holding = Counter[str](), Counter[str]()
    for pair in scanned:
        names = Counter[str]()
        for value, count in (pair.values or {}).items():
            names[_name(value, pair.kind, labels)] += count
        pixels += names
        holding.update(names.keys())
    return SplitStats(
        len(scanned),
        sum(one.pair.mask is None for one in scanned),
        Counter(one.size for one in scanned if not one.image_error),
        pixels,
        holding,
        *mean_and_std(scanned),
        [error for one in scanned for error in (one.image_error, one.mask_error) if error],
    )


def _name(value: int, kind: str, labels: LabelSet | None) -> str:
    row = None if labels is None else labels.find(value, kind == "colors")
    if row is not None or (kind == "ids" and value == IGNORE_INDEX):
        return row.name if row and row.train_id != IGNORE_INDEX else "ignored"
    shown = value_text(value, kind == "colors")
    return shown if labels is None else f"unknown {shown}"


def _names(labels: LabelSet | None, splits: Sequence[SplitStats]) -> list[str]:
    found = Counter[str]()
    for numbers in splits:
        found += numbers.pixels
    if labels is None:
        return sorted(found, key=lambda name: (not name.isdecimal(), name.zfill(9)))
    return [*labels.names, *sorted(name for name in found if name not in labels.names)]


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
