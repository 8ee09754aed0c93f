"""The result of one picture: a plain record, for people and for JSON."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrseg.errors import HrsegError
from hrseg.shares import percent
from hrseg.text import path_text, printable


@dataclass(frozen=True)
class FileResult:
    """What became of one picture.

    Attributes:
        image: The file, or what a person would call the picture: an address, "clip.mp4#12.04s".
        files: Kind of result → file; empty if the picture failed.
        size: (height, width) of the picture; None if it failed.
        classes: Class name → share of the pixels, largest first.
        confidence: Mean probability of the chosen classes, over every fourth row and column; None if the picture
            failed.
        seconds: Of work: reading, its part of the network's time, writing. Pictures overlap, so that all take less.
        error: Why it failed, else None.
        name: What its results are called.
        time: Seconds from the beginning of its clip.
        notes: What its file had to be told about, in sentences.
    """

    image: Path | str
    files: dict[str, Path] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    classes: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    seconds: float = 0.0
    error: HrsegError | None = None
    name: str = ""
    time: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def mask(self) -> Path | None:
        """Dataset ids, as palette PNG or GeoTIFF; None if the picture failed or nobody asked for it."""
        return self.files.get("mask")

    @property
    def overlay(self) -> Path | None:
        """The picture with its legend; None if it failed or nobody asked for it."""
        return self.files.get("overlay")

    def line(self, most: int = 4) -> str:
        """Say it in one line: the picture, its largest classes, where the overlay (or the last file) is.

        Example:
            >>> FileResult(Path("a.png"), {"overlay": Path("a_overlay.png")}, classes={"road": 0.5}).line()
            'a.png: road 50.0 %  -> a_overlay.png'
        """
        if self.error is not None:
            return printable(f"{self.image}: {self.error}")
        shown = [f"{name} {percent(share)}" for name, share in self.classes.items()]
        rest = f", {len(shown) - most} more" if len(shown) > most else ""
        last = self.overlay or next(reversed(self.files.values()), None)
        where = f"  -> {last}" if last else ""
        return printable(f"{self.image}: {', '.join(shown[:most])}{rest}{where}")

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        files = {kind: path_text(path) for kind, path in self.files.items()}
        return {
            "image": path_text(self.image),
            "name": self.name,
            "time": self.time if self.time is None else round(self.time, 6),
            "mask": files.get("mask"),
            "overlay": files.get("overlay"),
            "files": files,
            "height": self.size and self.size[0],
            "width": self.size and self.size[1],
            "classes": {name: round(share, 6) for name, share in self.classes.items()},
            "confidence": self.confidence and round(self.confidence, 6),
            "seconds": round(self.seconds, 4),
            "notes": [path_text(note) for note in self.notes],
            "error": self.error and path_text(str(self.error)),
        }
