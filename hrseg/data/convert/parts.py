"""What every reader gives, whatever the tool: records of one image each, with objects to draw or a mask to translate.

Objects are drawn in order, later ones over earlier ones. Nothing is drawn before somebody asks for it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hrseg.data.convert.polygons import Patch, Size
from hrseg.data.labels import Color
from hrseg.errors import DataError

Progress = Callable[[int], Callable[[int], None]]
"""Told how many images there are; gives a function that is told how many more are done."""
BACKGROUND_NAMES = ("background", "_background_")
"""What tools call pixels that belong to nothing."""


@dataclass(frozen=True)
class Object:
    """One object of an image.

    Attributes:
        label: Class, by the tool's name.
        draw: (height, width) of the image → its pixels. Raises ValueError where that is impossible.
        place: Which object it is, for messages: "shape 3".
        crowd: Stands for many objects, and lies under single ones.
    """

    label: str
    draw: Callable[[Size], Patch]
    place: str = ""
    crowd: bool = False


@dataclass(frozen=True)
class Raster:
    """A mask file whose values are classes of the tool.

    Attributes:
        path: The file.
        ids: Id → class, for masks of one channel.
        colours: 0xRRGGBB → class, for masks of colours, and for palettes that hold these colours.
        table: Where the classes stand, for messages.
    """

    path: Path
    ids: Mapping[int, str]
    colours: Mapping[int, str]
    table: str


@dataclass(frozen=True)
class Record:
    """One image with what was drawn on it.

    Attributes:
        name: Its place below a split, without suffix.
        image: Image file, or its bytes where the tool keeps them in its own file.
        place: Where it stands, for messages: "annotations.xml, image 'a.jpg'".
        split: "train", "val" or another; "" where the tool knows none.
        size: (height, width) that the tool says, or None.
        objects: In drawing order.
        raster: A mask instead of objects.
    """

    name: str
    image: Path | bytes
    place: str
    split: str = ""
    size: Size | None = None
    objects: Sequence[Object] = ()
    raster: Raster | None = None


Order = Literal["file", "area"]


@dataclass(frozen=True)
class Source:
    """Everything a reader found.

    Attributes:
        classes: Class → its colour, where the tool has one, in the tool's order.
        records: The images.
        order: "file": later objects lie over earlier ones; "area": smaller ones over larger ones.
        background: What pixels of no object become unless somebody decides: a class, or ignored.
        ignored: Classes whose pixels are ignored unless somebody decides.
        covers: Every pixel has a class, so that there is no need of a background.
        aside: What was left out → how often, in words.
        notes: What else is good to know.
    """

    classes: Mapping[str, Color | None]
    records: Sequence[Record]
    order: Order = "file"
    background: Literal["class", "ignore"] = "class"
    ignored: frozenset[str] = frozenset()
    covers: bool = False
    aside: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()


def problem(place: str, what: str, step: str) -> DataError:
    """Say what is wrong in a tool's file, and what to do."""
    return DataError(f"{place}: {what}. {step}")


def silent(total: int) -> Callable[[int], None]:
    """Show no progress."""
    return lambda count: None


def packed(color: Sequence[int]) -> int:
    """Return 0xRRGGBB.

    Example:
        >>> hex(packed((1, 2, 255)))
        '0x102ff'
    """
    red, green, blue = (int(value) for value in color)
    return red << 16 | green << 8 | blue


def drawn(item: Object, size: Size, place: str) -> Patch:
    """Draw one object.

    Raises:
        DataError: It cannot be drawn; its image and its own place are named.
    """
    try:
        return item.draw(size)
    except ValueError as error:
        raise problem(f"{place}, {item.place} ('{item.label}')", str(error), MEND) from error


MEND = "Mend it in the annotation tool and export again"
