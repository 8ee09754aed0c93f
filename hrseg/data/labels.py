"""Classes: their names, colours and numbers, and the way between a dataset's ids and the trainIds of a network.

Tables are CSV files in `tables/`; a user's own classes come from a CSV or a small YAML. From the dataset on a
mask holds trainIds 0 … K-1 and 255 for pixels without a class.
"""

import colorsys
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from hrseg.errors import DataError, did_you_mean, unknown_choice

IGNORE_INDEX = 255
"""trainId of a pixel without loss or score."""
MAX_CLASSES = 255
_TABLES = Path(__file__).with_name("tables")
_COLUMNS = ("id", "train_id", "name", "r", "g", "b", "mirror")


@dataclass(frozen=True)
class Label:
    """One row of a table.

    Attributes:
        id: Number in the dataset's mask files.
        train_id: Number the network learns, 0 … K-1, or 255 for ignored.
        name: What people call it.
        color: (red, green, blue), 0 to 255.
        mirror: Id of what this becomes in a mirrored image: a left arm's is the right arm. None: itself.
    """

    id: int
    train_id: int
    name: str
    color: tuple[int, int, int]
    mirror: int | None = None


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset.

    Args:
        name: For messages; the table's name.
        labels: All rows; several ids may share a trainId.

    Raises:
        DataError: An id stands twice, a number is out of range, or the trainIds are not 0 … K-1.

    Example:
        >>> labels = load_labels("cityscapes")
        >>> labels.num_classes, labels.names[0]
        (19, 'road')
        >>> labels.encode(np.array([[7, 0]])).tolist()
        [[0, 255]]
    """

    name: str
    labels: tuple[Label, ...] = field(repr=False)

    def __post_init__(self) -> None:
        ids = [label.id for label in self.labels]
        if len(set(ids)) != len(ids):
            double = next(i for i in ids if ids.count(i) > 1)
            raise DataError(f"Table '{self.name}' has id {double} twice. Give each id one row.")
        learned = sorted({row.train_id for row in self.labels} - {IGNORE_INDEX})
        if learned != list(range(len(learned))) or not learned or len(learned) > MAX_CLASSES:
            raise DataError(
                f"Table '{self.name}' has train ids {learned[:8]}…; they must be 0, 1, 2 … without a gap, "
                f"at most {MAX_CLASSES} of them, and 255 for ignored ids."
            )
        for row in self.labels:
            if not -32768 <= row.id <= 65535 or (row.id < 0 and row.train_id != IGNORE_INDEX):
                raise DataError(
                    f"Table '{self.name}' gives '{row.name}' the id {row.id}; a mask file holds 0 to 65535, and "
                    "only ignored ids may be negative. Change the id."
                )
            if len(row.color) != 3 or not all(0 <= value <= 255 for value in row.color):
                raise DataError(
                    f"Table '{self.name}' gives '{row.name}' the colour {row.color}; it should be red, green, blue "
                    "from 0 to 255. Change the colour."
                )
            twin = next((label for label in self.labels if label.id == row.mirror), None)
            if row.mirror is not None and (twin is None or twin.mirror != row.id):
                raise DataError(
                    f"Table '{self.name}' says that '{row.name}' (id {row.id}) becomes id {row.mirror} in a mirror, "
                    f"but {'there is no such id' if twin is None else 'not the other way round'}. Left and right "
                    "need each other's id in the column 'mirror'."
                )

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The first row of each trainId, in trainId order."""
        first: dict[int, Label] = {}
        for label in self.labels:
            first.setdefault(label.train_id, label)
        return tuple(first[i] for i in sorted(first) if i != IGNORE_INDEX)

    @property
    def num_classes(self) -> int:
        """K, the classes a network learns."""
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Names in trainId order."""
        return [label.name for label in self.classes]

    @cached_property
    def palette(self) -> np.ndarray:
        """Colours in trainId order, uint8. Shape: (K, 3)."""
        return np.array([label.color for label in self.classes], dtype=np.uint8)

    @cached_property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of trainIds that change places when an image is mirrored, such as left and right arm.

        Example:
            >>> load_labels("lip").flip_pairs
            ((14, 15), (16, 17), (18, 19))
        """
        train_ids = {label.id: label.train_id for label in self.labels}
        pairs = [(x.train_id, train_ids[x.mirror]) for x in self.classes if x.mirror is not None]
        return tuple(pair for pair in pairs if pair[0] < pair[1] != IGNORE_INDEX)

    @property
    def flip_order(self) -> list[int]:
        """The trainId that each trainId becomes in a mirror; logits of a mirrored image are read in this order."""
        order = list(range(self.num_classes))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    def encode(self, ids: np.ndarray, source: str = "") -> np.ndarray:
        """Turn ids (or colours) of a file into trainIds.

        Args:
            ids: As `imaging.read_mask` gives them.
            source: The file's name, for the message.

        Returns:
            uint8 trainIds, 255 where ignored.

        Raises:
            DataError: A value that the table does not know; it is named with the file.

        Shape:
            (H, W) or (H, W, 3) → (H, W)
        """
        if ids.ndim == 3:
            return self._encode_colors(ids, source)
        low, table, known = self._id_table
        if ids.dtype == np.uint8:  # no id can lie outside
            place, table, known = ids, table[-low:], known[-low:]
            if ids.size and known[:256].take(_values(ids)).all():
                return cv2.LUT(ids, table[:256])
            right = known.take(place)
        else:
            place = (ids.astype(np.int64) - low).clip(0, len(table) - 1)
            right = known.take(place) & (place + low == ids)
        if not right.all():
            self._refuse(np.unique(ids[~right]).tolist(), source)
        return table.take(place)

    def decode(self, mask: np.ndarray) -> np.ndarray:
        """Turn trainIds into the dataset's ids; 255 becomes an ignored id of the table, or stays 255.

        Returns:
            uint8 ids, or uint16 where ids go beyond 255.

        Shape:
            (H, W) → (H, W)
        """
        largest = max(label.id for label in self.labels)
        table = np.full(256, self._void, dtype=np.uint16)
        table[: self.num_classes] = [label.id for label in self.classes]
        return table[mask].astype(np.uint8 if largest < 256 else np.uint16)

    def id_palette(self) -> np.ndarray:
        """Return colours by id for palette PNGs; ids the table lacks are black. Shape: (256, 3)."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        for label in self.labels:
            if 0 <= label.id < 256:
                palette[label.id] = label.color
        return palette

    def to_dict(self) -> dict[str, Any]:
        """Return plain types that `from_dict` reads back, for checkpoints and cards."""
        rows = [[row.id, row.train_id, row.name, *row.color] for row in self.labels]
        mirrored = {str(row.id): row.mirror for row in self.labels if row.mirror is not None}
        return {"name": self.name, "labels": rows} | ({"mirror": mirrored} if mirrored else {})

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LabelSet":
        """Read what `to_dict` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            mirrored = {int(i): int(twin) for i, twin in content.get("mirror", {}).items()}
            rows = tuple(
                Label(int(i), int(t), str(name), (int(r), int(g), int(b)), mirrored.get(int(i)))
                for i, t, name, r, g, b in content["labels"]
            )
            return cls(str(content["name"]), rows)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"The stored classes cannot be read: {error!r}. Use an undamaged file."
            ) from error

    @cached_property
    def _void(self) -> int:
        ignored = [
            row.id for row in self.labels if row.train_id == IGNORE_INDEX and 0 <= row.id < 256
        ]
        return ignored[0] if ignored else IGNORE_INDEX

    @cached_property
    def _id_table(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the lowest id, trainIds by id from there on, and which of these ids the table knows."""
        low = min(0, *(label.id for label in self.labels))
        count = max(IGNORE_INDEX, *(label.id for label in self.labels)) - low + 1
        table = np.full(count, IGNORE_INDEX, dtype=np.uint8)
        known = np.zeros(count, dtype=bool)
        known[IGNORE_INDEX - low] = True  # 255 means "no label" wherever no class claims it
        for label in self.labels:
            table[label.id - low] = label.train_id
            known[label.id - low] = True
        return low, table, known

    @cached_property
    def _color_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Return packed colours in order, and their trainIds; a class beats an ignored row of its colour."""
        train_ids: dict[int, int] = {}
        for row in sorted(self.labels, key=lambda row: row.train_id == IGNORE_INDEX):
            color = int(_pack(np.array(row.color)))
            before = train_ids.setdefault(color, row.train_id)
            if before != row.train_id != IGNORE_INDEX:
                raise DataError(
                    f"Table '{self.name}' gives {row.color} to '{self.names[before]}' and '{row.name}', so masks of "
                    "colours cannot be told apart. Give each class its own colour, or use masks of ids."
                )
        known = np.array(sorted(train_ids), dtype=np.int32)
        return known, np.array([train_ids[int(color)] for color in known], dtype=np.uint8)

    def _encode_colors(self, colors: np.ndarray, source: str) -> np.ndarray:
        known, train_ids = self._color_table
        packed = _pack(colors)
        place = np.searchsorted(known, packed)
        place[place == len(known)] = 0
        wrong = known[place] != packed
        if wrong.any():
            values = np.unique(packed[wrong]).tolist()
            rgb = [(value >> 16, value >> 8 & 255, value & 255) for value in values]
            self._refuse(rgb, source, "colour")
        encoded: np.ndarray = train_ids[place]
        return encoded

    def _refuse(self, values: list[Any], source: str, kind: str = "id") -> None:
        shown = ", ".join(str(value) for value in values[:6]) + (", …" if len(values) > 6 else "")
        many = len(values) > 1
        ids = sorted(label.id for label in self.labels)
        if kind == "colour":
            known = f"{len(self.labels)} colours"
        else:
            known = f"{ids[0]} to {ids[-1]}" if len(ids) > 12 else ", ".join(map(str, ids))
        step = (
            f"Add {'them' if many else 'it'} to the table, or choose the table of this dataset with "
            "data.labels. To look at all masks: hrseg data check FOLDER"
        )
        if Path(source).suffix.lower() in (".jpg", ".jpeg"):
            step = "JPEG changes ids when it is saved: export the masks as PNG."
        elif kind == "colour" and all(r == g == b for r, g, b in values):
            step = "These look like ids saved as grey RGB: save the masks with one channel."
        raise DataError(
            f"{source or 'A mask'} holds {kind}{'s' * many} {shown}; table '{self.name}' knows {known}. {step}"
        )


def load_labels(source: str | Path) -> LabelSet:
    """Read a built-in table by name, or a user's CSV or YAML.

    A CSV has the columns id, train_id, name, r, g, b, mirror, of which only name is required: ids count from 0,
    train ids follow the order (255 = ignored), colours are drawn; mirror is the id that a class becomes in a
    mirrored image, for left and right. A YAML is `classes: [road, car]`, or rows such as
    `classes: [{id: 1, name: road, color: [128, 64, 128]}]`, and `ignore: [0]` for ids without a class.

    Args:
        source: A name of `table_names()`, such as "cityscapes" or "ade20k", or a path.

    Raises:
        DataError: Unknown name, unreadable file, or a table with contradictions.

    Example:
        >>> load_labels("ade20k").num_classes
        150
    """
    if str(source) in table_names():
        return _from_csv(str(source), _TABLES / f"{source}.csv")
    path = Path(source).expanduser()
    if not path.suffix and not path.is_file():
        raise DataError(unknown_choice("label table", str(source), table_names()))
    if not path.is_file():
        raise DataError(
            f"Label file {path} does not exist. Give a .csv or .yaml of classes, or a table's name."
        )
    try:
        return _from_csv(path.stem, path) if path.suffix.lower() == ".csv" else _from_yaml(path)
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, csv.Error) as error:
        raise DataError(
            f"Label file {path} cannot be read: {error}. A CSV needs a column 'name'; a YAML needs "
            "'classes: [first, second]'."
        ) from error


def table_names() -> list[str]:
    """Return the names of the built-in tables."""
    return sorted(path.stem for path in _TABLES.glob("*.csv"))


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Return colours that are easy to tell apart, the same ones every time.

    Hues turn by the golden angle, and brightness changes every seven colours.

    Example:
        >>> distinct_colors(2)
        [(217, 65, 65), (65, 109, 217)]
    """
    colors = []
    for i in range(count):
        value = (0.85, 0.6, 1.0)[i // 7 % 3]
        r, g, b = colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.7, value)
        colors.append((round(r * 255), round(g * 255), round(b * 255)))
    return colors


def _from_csv(name: str, path: Path) -> LabelSet:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="more", skipinitialspace=True)
        rows = []
        for row in reader:
            if "more" in row:
                raise ValueError(f"line {reader.line_num} has more cells than the header")
            rows.append({k.strip(): v.strip() for k, v in row.items() if v and v.strip()})
    return _from_rows(name, rows, [])


def _from_yaml(path: Path) -> LabelSet:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError("it has no list under 'classes'")
    _check_keys(content, ("classes", "ignore"))
    rows = []
    for entry in content["classes"]:
        row = dict(entry) if isinstance(entry, dict) else {"name": entry}
        _check_keys(row, ("id", "train_id", "name", "color", "mirror"))
        if "color" in row:
            row["r"], row["g"], row["b"] = row.pop("color")
        rows.append(row)
    return _from_rows(path.stem, rows, content.get("ignore") or [])


def _from_rows(name: str, rows: Sequence[dict[str, Any]], ignore: Iterable[int]) -> LabelSet:
    ignored = {int(i) for i in ignore}
    drawn = distinct_colors(len(rows))
    labels: list[Label] = []
    next_id = next_train = 0
    for row, color in zip(rows, drawn, strict=True):
        _check_keys(row, _COLUMNS)
        if row.get("name") is None:
            raise ValueError(f"class {len(labels) + 1} has no name")
        if 0 < len({"r", "g", "b"} & set(row)) < 3:
            raise ValueError(f"class '{row['name']}' has a colour without all of r, g, b")
        while "id" not in row and next_id in ignored:
            next_id += 1
        number = int(row.get("id", next_id))
        train_id = int(row.get("train_id", IGNORE_INDEX if number in ignored else next_train))
        next_id = number + 1
        next_train += train_id != IGNORE_INDEX
        rgb = (int(row["r"]), int(row["g"]), int(row["b"])) if "r" in row else color
        mirror = None if row.get("mirror") is None else int(row["mirror"])
        labels.append(Label(number, train_id, str(row["name"]), rgb, mirror))
    have = {label.id for label in labels}
    labels += [Label(i, IGNORE_INDEX, "ignored", (0, 0, 0)) for i in sorted(ignored - have)]
    return LabelSet(name, tuple(labels))


def _check_keys(row: Iterable[Any], known: Sequence[str]) -> None:
    for key in row:
        if key not in known:
            raise ValueError(
                f"'{key}' is unknown.{did_you_mean(key, known)} Known: {', '.join(known)}"
            )


def _values(ids: np.ndarray) -> np.ndarray:
    """Return the bytes that occur; counting them is quicker than looking each one up."""
    if ids.ndim != 2:
        return np.unique(ids)
    counts = cv2.calcHist([np.ascontiguousarray(ids)], [0], None, [256], [0, 256])
    return np.flatnonzero(counts)


def _pack(colors: np.ndarray) -> np.ndarray:
    wide = colors.astype(np.int32)
    packed: np.ndarray = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return packed
