"""Report of a conversion: each source class, what it became, and its objects, pixels and images."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrseg.convert.base import Order, Skipped, Source
from hrseg.convert.classes import BACKGROUND, DROP, IGNORE, Plan
from hrseg.errors import columns, list_unreadable, percent
from hrseg.labels import IGNORE_INDEX

_ORDERS = {
    "file": "Where objects overlap, the one that comes later in the file is on top.",
    "area": "Where objects overlap, the smaller one is on top, and crowds are below.",
}


@dataclass
class Tally:
    """Counts of painted objects and pixels.

    Attributes:
        objects: Source class → objects.
        pixels: Source class → visible pixels; "" for those of no object.
        images: Source class → images that show it.
        empty: Objects without a pixel, such as those outside the image.
    """

    objects: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    empty: int = 0


@dataclass(frozen=True)
class Report:
    """Result of a conversion.

    Attributes:
        tool: Row of READERS.
        path: The source.
        out: The folder made.
        source: Result of the reader.
        plan: Ids of the classes.
        order: Which object covers which.
        splits: Split → images.
        tally: Counts.
    """

    tool: str
    path: Path
    out: Path
    source: Source
    plan: Plan
    order: Order
    splits: Counter[str]
    tally: Tally

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "tool": self.tool,
            "source": str(self.path),
            "out": str(self.out),
            "splits": dict(self.splits),
            "order": self.order,
            "no_object": {"id": self.plan.blank, "pixels": self.tally.pixels[""]},
            "classes": [
                {
                    "source": name,
                    "becomes": target,
                    "id": self.plan.ids.get(name),
                    "objects": self.tally.objects[name],
                    "pixels": self.tally.pixels[name],
                    "images": self.tally.images[name],
                }
                for name, target in self.plan.targets.items()
            ],
            "labels": self.plan.labels.to_dict(),
            "left_out": dict(+self.source.skipped),
            "broken": self.source.broken,
            "empty_objects": self.tally.empty,
        }

    def text(self) -> str:
        """Return the report for a terminal."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        lines = [f"{self.path} ({self.tool}) → {self.out}: {splits}", ""]
        lines += columns(self._rows(), left=(0, 2), indent="  ")
        lines.append("")
        if not self._has_no_objects:
            lines.append(_ORDERS[self.order])
        skipped = self.source.skipped
        if self.tally.empty:
            skipped["objects without a pixel, outside the image or too small"] = self.tally.empty
        if +skipped:
            lines.append(f"Left out: {list_skipped(skipped)}.")
        lines += self.source.notes
        return "\n".join([*lines, *list_unreadable(self.source.broken)])

    @property
    def _has_no_objects(self) -> bool:
        return all(record.raster is not None for record in self.source.records)

    def _rows(self) -> list[tuple[str, ...]]:
        total = max(1, self.tally.pixels.total())
        rows: list[tuple[str, ...]] = [("source class", "id", "becomes", "objects", "pixels", "share", "images")]
        for name, target in self.plan.targets.items():
            number = self.plan.ids.get(name)
            objects = "" if self._has_no_objects else f"{self.tally.objects[name]:,}"
            pixels, images = self.tally.pixels[name], f"{self.tally.images[name]:,}"
            id_, becomes = "-", "dropped"
            if number is not None:
                id_, becomes = str(number), self._becomes(target, number)
            share = percent(pixels / total)
            rows.append((name, id_, becomes, objects, f"{pixels:,}", share, images))
        bare = self.tally.pixels[""]
        if bare or not self.source.covers:
            blank = self.plan.blank
            becomes = self._becomes(BACKGROUND, blank)
            share = percent(bare / total)
            rows.append(("(no object)", str(blank), becomes, "", f"{bare:,}", share, ""))
        return rows

    def _becomes(self, target: str, number: int) -> str:
        if number == IGNORE_INDEX and target in (BACKGROUND, IGNORE, DROP):
            return "ignored"
        return next((row.name for row in self.plan.labels.labels if row.id == number), target)


def list_skipped(skipped: Skipped) -> str:
    """Format the kinds of skipped elements, their counts, and the places of the first ones."""
    places = skipped.examples
    return ", ".join(
        f"{what} ({count:,}{': ' * (what in places)}{'; '.join(places.get(what, ()))}"
        f"{', …' * (count > len(places.get(what, [''] * count)))})"
        for what, count in sorted((+skipped).items())
    )
