"""Data types that every reader returns (`Source`, `Record`, `Object`, `Raster`) and the helpers that build them.

Objects are painted in order, later ones over earlier ones. Their pixels are computed only when they are painted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from hrseg.convert.files import NoArea, read_number, read_points
from hrseg.errors import DataError
from hrseg.imaging.polygons import Patch, Ring, Size, box, ellipse, fill
from hrseg.labels import Color

Progress = Callable[[int], Callable[[int], None]]
"""Called with the number of images; returns a function that is called with how many more are done."""
Draw = Callable[[Size], Patch]
"""(height, width) of the image → pixels of an object."""
BACKGROUND_NAMES = ("background", "_background_", "__background__", "__bg__")
"""Names that tools give to pixels of no object."""
FIX = "Mend it in the annotation tool and export again"
Order = Literal["file", "area"]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Skipped(Counter[str]):
    """Number of skipped elements of each kind; `examples` holds the places of the first few of some kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, place: str) -> None:
        """Count an element and remember its place, so that the user can find it."""
        self[kind] += 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < 3:
            shown.append(place)


@dataclass(frozen=True)
class Object:
    """One object of an image.

    Attributes:
        label: Class, by the tool's name.
        draw: Computes the pixels. Raises ValueError where that is impossible.
        place: The object within its image, for messages: "shape 3".
        crowd: Whether it stands for many objects; it is painted below single ones.
    """

    label: str
    draw: Draw
    place: str = ""
    crowd: bool = False

    def pixels(self, size: Size, image: str) -> Patch:
        """Return the pixels of the object in an image of (height, width); `image` is its place for messages.

        Raises:
            DataError: The object cannot be drawn.
        """
        try:
            return self.draw(size)
        except ValueError as error:
            place = f"{image}, {self.place} ('{self.label}')"
            raise data_error(place, str(error), FIX) from error


@dataclass(frozen=True)
class Raster:
    """A mask file whose values are classes of the tool.

    Attributes:
        path: The file.
        ids: Id → class, for masks of one channel.
        colors: 0xRRGGBB → class, for masks of colors, and for palettes that hold these colors.
        table: Where the classes are defined, for messages.
    """

    path: Path
    ids: Mapping[int, str]
    colors: Mapping[int, str]
    table: str


@dataclass(frozen=True)
class Record:
    """One image with its annotations.

    Attributes:
        name: Path below the folder of a split, without suffix.
        image: Image file, or its bytes where the tool embeds them in its own file.
        place: Position in the source, for messages: "annotations.xml, image 'a.jpg'".
        split: "train", "val" or another; "" where the tool has none.
        size: (height, width) as the tool has it, or None.
        objects: In painting order.
        raster: A mask instead of objects.
    """

    name: str
    image: Path | bytes
    place: str
    split: str = ""
    size: Size | None = None
    objects: Sequence[Object] = ()
    raster: Raster | None = None


@dataclass
class Source:
    """Everything that a reader found.

    Attributes:
        classes: Class → its color, where the tool has one, in the tool's order.
        records: The images.
        order: "file": later objects cover earlier ones; "area": smaller objects cover larger ones.
        background: Default for pixels of no object: a class, or ignored.
        ignored: Classes whose pixels are ignored by default.
        covers: Whether every pixel has a class, so that no background is needed.
        skipped: Kinds of skipped elements.
        broken: One message for each image that could not be read.
        notes: Further sentences for the report.
    """

    classes: dict[str, Color | None] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    order: Order = "file"
    background: Literal["class", "ignore"] = "class"
    ignored: frozenset[str] = frozenset()
    covers: bool = False
    skipped: Skipped = field(default_factory=Skipped)
    broken: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def read_records(self, items: Iterable[Item], read: Callable[[Item], Record | None]) -> list[Record]:
        """Append the record of each item; see `read_each`.

        Raises:
            DataError: No item can be read.
        """
        records = read_each(items, read, self.broken)
        self.records += records
        return records

    def add_labels(self, names: Iterable[str] = ()) -> "Source":
        """Append classes of a given order, then those of objects by name."""
        used = {item.label for record in self.records for item in record.objects}
        for name in (*names, *sorted(used)):
            self.classes.setdefault(name, None)
        return self


def read_each(items: Iterable[Item], read: Callable[[Item], Result | None], broken: list[str]) -> list[Result]:
    """Read each item; one that cannot be read gets a message in `broken`, and one that gives None is skipped.

    Raises:
        DataError: No item can be read.
    """
    results, failed = [], 0
    for item in items:
        try:
            results.append(read(item))
        except DataError as error:
            failed += 1
            broken.append(str(error))
    found = [result for result in results if result is not None]
    if failed and not found:
        raise DataError(broken[-failed] + f" No image of {failed:,} can be read." * (failed > 1))
    return found


@dataclass
class ObjectList:
    """Collector of the objects of one image.

    Attributes:
        where: The image, for messages.
        skipped: Counts what is skipped.
    """

    where: str
    skipped: Skipped
    _found: list[tuple[float, Object]] = field(default_factory=list)

    @property
    def objects(self) -> list[Object]:
        """The objects that have an area, the lowest first, then in the order of the file."""
        return [item for _, item in sorted(self._found, key=lambda pair: pair[0])]

    def add(self, place: str, label: Any, parse: Callable[[], Draw], depth: Any = 0, crowd: bool = False) -> None:
        """Read one object; one without an area is skipped and counted.

        Args:
            place: The object within its image: "shape 3".
            label: Its class, as the file has it.
            parse: Reads its shape.
            depth: Objects of a higher number cover those of a lower one.
            crowd: As in `Object`.

        Raises:
            DataError: It has no label, or its shape is damaged.
        """
        if not isinstance(label, str) or not label:
            raise data_error(f"{self.where}, {place}", "it has no label", FIX)
        with errors_at(f"{self.where}, {place} ('{label}')", FIX):
            try:
                self._found.append((read_number(depth), Object(label, parse(), place, crowd)))
            except NoArea:
                self._skip(f"{place} ('{label}')")

    def read_rings(self, rings: Iterable[Any], place: str) -> list[Ring]:
        """Read the outlines of an object; those without an area are skipped and counted.

        Raises:
            ValueError: One is damaged, or (NoArea) none has an area.
        """
        found: list[Ring] = []
        flat = 0
        for ring in rings:
            try:
                found.append(read_points(ring))
            except NoArea:
                flat += 1
        if not found:
            raise NoArea("it has no outline")
        for _ in range(flat):
            self._skip(f"a part of {place}")
        return found

    def _skip(self, place: str) -> None:
        self.skipped.add("shapes of too few points", f"{self.where}, {place}")


def polygon(points: Any) -> Draw:
    """Read a polygon: pairs x, y, or numbers x0, y0, x1, y1, ..."""
    return partial(fill, [read_points(points)])


def rectangle(x0: Any, y0: Any, x1: Any, y1: Any, degrees: Any = 0) -> Draw:
    """Read a box of two corners, turned clockwise around its middle."""
    return partial(fill, [box(*map(read_number, (x0, y0, x1, y1, degrees)))])


def rectangle_at(x: Any, y: Any, width: Any, height: Any) -> Draw:
    """Read a box of its upper left corner and its sides."""
    left, top = read_number(x), read_number(y)
    return rectangle(left, top, left + read_number(width), top + read_number(height))


def oval(x: Any, y: Any, rx: Any, ry: Any, degrees: Any = 0) -> Draw:
    """Read an ellipse of its middle and radii, turned clockwise."""
    return partial(fill, [ellipse(*map(read_number, (x, y, rx, ry, degrees)))])


def read_size(height: Any, width: Any) -> Size | None:
    """Read (height, width); None where one is missing.

    Raises:
        ValueError: They are no numbers.
    """
    if height is None or width is None:
        return None
    return int(read_number(height)), int(read_number(width))


@contextmanager
def errors_at(place: str, step: str) -> Iterator[None]:
    """Turn errors about missing or mistyped elements of a tool's file into a DataError.

    Raises:
        DataError: Such an error occurred.
    """
    try:
        yield
    except DataError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        what = str(error) if isinstance(error, ValueError) else f"it has another form: {error}"
        what = f"{error} is missing" if isinstance(error, KeyError) else what
        raise data_error(place, what, step) from error


def data_error(place: str, what: str, step: str) -> DataError:
    """Return the error for something wrong at a place of a tool's file, with the next step."""
    return DataError(f"{place}: {what}. {step}")


def no_progress(total: int) -> Callable[[int], None]:
    """Show no progress."""
    return lambda count: None


def color_code(color: Sequence[int]) -> int:
    """Return 0xRRGGBB.

    Example:
        >>> hex(color_code((1, 2, 255)))
        '0x102ff'
    """
    red, green, blue = (int(value) for value in color)
    return red << 16 | green << 8 | blue
