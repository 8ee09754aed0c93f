"""Classes that a source comes with, as the converters ask for them."""

import re
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.check.roles import folder_words
from hrseg.data.convert.parts import packed, problem
from hrseg.data.labels import IGNORE_INDEX, ClassTable, Color, find_classes, read_classes


@dataclass(frozen=True)
class Known:
    """A source's own table.

    Attributes:
        names: In its order.
        ids: Id → name, for masks of one channel.
        colours: Name → colour.
        ignored: Names without a class.
        place: Where it stands, for messages.
    """

    names: tuple[str, ...]
    ids: dict[int, str]
    colours: dict[str, Color]
    ignored: frozenset[str]
    place: str

    @property
    def by_colour(self) -> dict[int, str]:
        """0xRRGGBB → name.

        Raises:
            DataError: Two classes share a colour.
        """
        found: dict[int, str] = {}
        for name, color in self.colours.items():
            other = found.setdefault(packed(color), name)
            if other != name:
                raise problem(
                    self.place,
                    f"'{other}' and '{name}' have the same colour {color}",
                    "Give each class its own colour",
                )
        return found


def known_classes(source: str | Path) -> Known:
    """Read a source's classes: a table's name, such as "voc2012", or any file that `read_classes` takes.

    Raises:
        DataError: It cannot be read.
    """
    return _known(read_classes(source))


def find_table(folder: Path) -> Known | None:
    """Read the classes that a folder keeps, or return None.

    Raises:
        DataError: They are there and cannot be read.
    """
    table = find_classes(folder)
    return None if table is None else _known(table)


def split_name(name: str) -> str:
    """Return our word for a tool's split.

    Example:
        >>> split_name("Validation"), split_name("train2017"), split_name("default"), split_name("night")
        ('val', 'train', '', 'night')
    """
    word = name.strip().lower()
    split = folder_words(word)[1]
    return split or ("" if word == "default" else re.sub(r"[^\w.-]", "_", word).strip("."))


def known_split(*words: str) -> str:
    """Return the first word that is train, val or test by any usual name, or "".

    Example:
        >>> known_split("instances", "train2017"), known_split("aachen")
        ('train', '')
    """
    return next((s for s in map(split_name, words) if s in ("train", "val", "test")), "")


def _known(table: ClassTable) -> Known:
    labels = table.labels
    shared = {row.train_id: row.name for row in labels.classes}
    ids = {row.id: shared.get(row.train_id, row.name) for row in labels.labels}
    void = [row.name for row in labels.labels if row.train_id == IGNORE_INDEX]
    ignored = frozenset(void) - set(labels.names)
    names = (*labels.names, *(name for name in dict.fromkeys(void) if name in ignored))
    colours = {row.name: row.color for row in table.rows if row.color and row.name in names}
    return Known(names, ids, colours, ignored, str(table.path))
