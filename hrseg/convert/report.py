"""What a conversion did, to be read: each source class, what it became, and how much there is of it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrseg.convert.base import Order, Source
from hrseg.convert.classes import BACKGROUND, DROP, IGNORE, Plan
from hrseg.errors import columns, list_unreadable, percent
from hrseg.labels import IGNORE_INDEX

_ORDERS = {
    "file": "Where objects overlap, the one that comes later in the file lies on top.",
    "area": "Where objects overlap, the smaller one lies on top, and crowds lie below.",
}


@dataclass
class Tally:
    """Counts of what was drawn.

    Attributes:
        objects: Source class → objects.
        pixels: Source class → pixels that can be seen; "" for those of no object.
        images: Source class → images that show it.
        empty: Objects without a pixel, such as those outside the image.
    """

    objects: Counter[str] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    empty: int = 0


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        tool: Row of READERS.
        path: The source.
        out: The folder made.
        source: What was read.
        plan: Which class got which id.
        order: What lies on top.
        splits: Split → images.
        tally: What was drawn.
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
            "left_out": dict(+self.source.aside),
            "broken": self.source.broken,
            "empty_objects": self.tally.empty,
        }

    def text(self) -> str:
        """Return the screen that says it."""
        splits = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        lines = [f"{self.path} ({self.tool}) → {self.out}: {splits}", ""]
        lines += columns(self._rows(), left=(0, 2), indent="  ")
        lines.append("")
        if not self._drawn_nothing:
            lines.append(_ORDERS[self.order])
        aside = self.source.aside
        if self.tally.empty:
            aside["objects without a pixel, outside the image or too small"] = self.tally.empty
        if +aside:
            lines.append(f"Left out: {listed(aside)}.")
        lines += self.source.notes
        return "\n".join([*lines, *list_unreadable(self.source.broken)])

    @property
    def _drawn_nothing(self) -> bool:
        return all(record.raster is not None for record in self.source.records)

    def _rows(self) -> list[tuple[str, ...]]:
        total = max(1, self.tally.pixels.total())
        rows: list[tuple[str, ...]] = [
            ("source class", "id", "becomes", "objects", "pixels", "share", "images")
        ]
        for name, target in self.plan.targets.items():
            number = self.plan.ids.get(name)
            objects = "" if self._drawn_nothing else f"{self.tally.objects[name]:,}"
            pixels = self.tally.pixels[name]
            shown = (
                ("-", "dropped") if number is None else (str(number), self._becomes(target, number))
            )
            rows.append(
                (
                    name,
                    *shown,
                    objects,
                    f"{pixels:,}",
                    percent(pixels / total),
                    f"{self.tally.images[name]:,}",
                )
            )
        bare = self.tally.pixels[""]
        if bare or not self.source.covers:
            becomes = self._becomes(BACKGROUND, self.plan.blank)
            rows.append(
                (
                    "(no object)",
                    str(self.plan.blank),
                    becomes,
                    "",
                    f"{bare:,}",
                    percent(bare / total),
                    "",
                )
            )
        return rows

    def _becomes(self, target: str, number: int) -> str:
        if number == IGNORE_INDEX and target in (BACKGROUND, IGNORE, DROP):
            return "ignored"
        return next((row.name for row in self.plan.labels.labels if row.id == number), target)


def listed(aside: Counter[str]) -> str:
    """Say what was left out, how often, and where the first ones of some kinds are."""
    places = getattr(aside, "places", {})
    return ", ".join(
        f"{what} ({count:,}{': ' * (what in places)}{'; '.join(places.get(what, ()))}"
        f"{', …' * (count > len(places.get(what, [''] * count)))})"
        for what, count in sorted((+aside).items())
    )
