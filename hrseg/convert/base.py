"""What every reader gives, whatever the tool: records of one image each, with objects to draw or a mask to translate.

Objects are drawn in order, later ones over earlier ones. Nothing is drawn before somebody asks for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from hrseg.convert.files import NoArea, corners, number
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size
from hrseg.labels import Color

Progress = Callable[[int], Callable[[int], None]]
"""Told how many images there are; gives a function that is told how many more are done."""
BACKGROUND_NAMES = ("background", "_background_", "__background__", "__bg__")
"""What tools call pixels that belong to nothing."""


class LeftOut(Counter[str]):
    """What was left out → how often, in words; `places` holds where the first few of some kinds stand."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, list[str]] = {}

    def name(self, what: str, place: str) -> None:
        """Count something that the user shall be able to find."""
        self[what] += 1
        shown = self.places.setdefault(what, [])
        if len(shown) < 3:
            shown.append(place)


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
        colors: 0xRRGGBB → class, for masks of colors, and for palettes that hold these colors.
        table: Where the classes stand, for messages.
    """

    path: Path
    ids: Mapping[int, str]
    colors: Mapping[int, str]
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
        classes: Class → its color, where the tool has one, in the tool's order.
        records: The images.
        order: "file": later objects lie over earlier ones; "area": smaller ones over larger ones.
        background: What pixels of no object become unless somebody decides: a class, or ignored.
        ignored: Classes whose pixels are ignored unless somebody decides.
        covers: Every pixel has a class, so that there is no need of a background.
        aside: What was left out → how often, in words.
        broken: Why images that could not be read were left out, one text for each.
        notes: What else is good to know.
    """

    classes: Mapping[str, Color | None]
    records: Sequence[Record]
    order: Order = "file"
    background: Literal["class", "ignore"] = "class"
    ignored: frozenset[str] = frozenset()
    covers: bool = False
    aside: LeftOut = field(default_factory=LeftOut)
    broken: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


Item = TypeVar("Item")
Made = TypeVar("Made")


def each(
    items: Iterable[Item], make: Callable[[Item], Made | None], broken: list[str]
) -> list[Made]:
    """Make the record of each image; one that cannot be read is named in `broken`, and the others are done.

    Args:
        items: What the tool has for each image.
        make: Makes a record, or None where the image is left out.
        broken: Gets the reasons.

    Raises:
        DataError: None can be read.
    """
    records, failed = [], 0
    for item in items:
        try:
            records.append(make(item))
        except DataError as error:
            failed += 1
            broken.append(str(error))
    found = [record for record in records if record is not None]
    if failed and not found:
        raise DataError(broken[-failed] + f" No image of {failed:,} can be read." * (failed > 1))
    return found


@dataclass
class Objects:
    """The objects of one image while they are read.

    Attributes:
        where: The image, for messages.
        aside: Told what is left out.
    """

    where: str
    aside: LeftOut
    _found: list[tuple[float, Object]] = field(default_factory=list)

    @property
    def found(self) -> list[Object]:
        """The objects that have an area, the deepest first, and in the order of the file."""
        return [item for _, item in sorted(self._found, key=lambda pair: pair[0])]

    def add(
        self,
        place: str,
        label: Any,
        draw: Callable[[], Callable[[Size], Patch]],
        depth: Any = 0,
        crowd: bool = False,
    ) -> None:
        """Read one object; one without an area is left out and named.

        Args:
            place: Which object it is: "shape 3".
            label: Its class, as the file has it.
            draw: Reads its shape.
            depth: Objects of a higher number lie on top.
            crowd: As in `Object`.

        Raises:
            DataError: It has no label, or its shape is damaged.
        """
        if not isinstance(label, str) or not label:
            raise problem(f"{self.where}, {place}", "it has no label", MEND)
        with reading(f"{self.where}, {place} ('{label}')", MEND):
            try:
                self._found.append((number(depth), Object(label, draw(), place, crowd)))
            except NoArea:
                self.without_area(f"{place} ('{label}')")

    def rings(self, parts: Iterable[Any], place: str) -> list[Ring]:
        """Read the outlines of an object of several parts; those without an area are left out and named.

        Raises:
            ValueError: One is damaged, or (NoArea) none has an area.
        """
        rings: list[Ring] = []
        flat = 0
        for part in parts:
            try:
                rings.append(corners(part))
            except NoArea:
                flat += 1
        if not rings:
            raise NoArea("it has no outline")
        for _ in range(flat):
            self.without_area(f"a part of {place}")
        return rings

    def without_area(self, place: str) -> None:
        """Name something that was left out since it has no area."""
        self.aside.name("shapes of too few points", f"{self.where}, {place}")


@contextmanager
def reading(place: str, step: str) -> Iterator[None]:
    """Turn an error about a part of a tool's file that is missing, or of another kind, into one of ours.

    Raises:
        DataError: Such an error occurred.
    """
    try:
        yield
    except DataError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise problem(place, fault(error), step) from error


def fault(error: Exception) -> str:
    """Say what a reader found wrong in a tool's file."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) if isinstance(error, ValueError) else f"it is not as it should be: {error}"


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
