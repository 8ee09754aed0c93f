"""Classes: their names, colours and numbers, and the way between a dataset's ids and the trainIds of a network.

Tables are CSV files in `tables/`; a user's own classes come from a CSV or a small YAML. From the dataset on a
mask holds trainIds 0 … K-1 and 255 for pixels without a class.
"""

import colorsys
import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hrseg.errors import DataError, unknown_choice

IGNORE_INDEX = 255
"""trainId of a pixel without loss or score."""
MAX_CLASSES = 255
_TABLES = Path(__file__).with_name("tables")


@dataclass(frozen=True)
class Label:
    """One row of a table.

    Attributes:
        id: Number in the dataset's mask files.
        train_id: Number the network learns, 0 … K-1, or 255 for ignored.
        name: What people call it.
        color: (red, green, blue), 0 to 255.
    """

    id: int
    train_id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset.

    Args:
        name: For messages; the table's name.
        labels: All rows; several ids may share a trainId.

    Raises:
        DataError: An id or colour stands twice, or the trainIds are not 0 … K-1.

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
        if ids.dtype == np.uint8:
            encoded = self._small_table[ids]
        else:
            low, table = self._wide_table
            inside = (ids >= low) & (ids < low + len(table))
            encoded = np.where(inside, table[np.clip(ids - low, 0, len(table) - 1)], -1)
        if encoded.size and encoded.min() < 0:
            self._refuse(np.unique(ids[encoded < 0]).tolist(), source)
        return encoded.astype(np.uint8)

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
        return {"name": self.name, "labels": rows}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LabelSet":
        """Read what `to_dict` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            rows = tuple(
                Label(int(i), int(t), str(name), (int(r), int(g), int(b)))
                for i, t, name, r, g, b in content["labels"]
            )
            return cls(str(content["name"]), rows)
        except (KeyError, TypeError, ValueError) as error:
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
    def _small_table(self) -> np.ndarray:
        table = np.full(256, -1, dtype=np.int16)
        for label in self.labels:
            table[label.id % 256 if label.id < 0 else min(label.id, 255)] = label.train_id
        for label in self.labels:  # a real row beats one that wrapped round or was clipped
            if 0 <= label.id < 256:
                table[label.id] = label.train_id
        if table[IGNORE_INDEX] < 0:
            table[IGNORE_INDEX] = IGNORE_INDEX  # 255 means "no label" wherever no class claims it
        return table

    @cached_property
    def _wide_table(self) -> tuple[int, np.ndarray]:
        ids = [label.id for label in self.labels] + [IGNORE_INDEX]
        low = min(ids)
        table = np.full(max(ids) - low + 1, -1, dtype=np.int16)
        table[IGNORE_INDEX - low] = IGNORE_INDEX
        for label in self.labels:
            table[label.id - low] = label.train_id
        return low, table

    @cached_property
    def _color_table(self) -> tuple[np.ndarray, np.ndarray]:
        packed = np.array([_pack(np.array(row.color)) for row in self.labels])
        colors, first = np.unique(packed, return_index=True)
        return colors, np.array([self.labels[i].train_id for i in first], dtype=np.uint8)

    def _encode_colors(self, colors: np.ndarray, source: str) -> np.ndarray:
        known, train_ids = self._color_table
        packed = _pack(colors)
        place = np.searchsorted(known, packed).clip(0, len(known) - 1)
        wrong = known[place] != packed
        if wrong.any():
            values = np.unique(packed[wrong])
            rgb = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
            self._refuse(rgb, source, "colour")
        encoded: np.ndarray = train_ids[place]
        return encoded

    def _refuse(self, values: list[Any], source: str, kind: str = "id") -> None:
        shown = ", ".join(str(value) for value in values[:6]) + (", …" if len(values) > 6 else "")
        if kind == "id":
            ids = sorted(label.id for label in self.labels)
            known = f"{ids[0]} to {ids[-1]}" if len(ids) > 12 else ", ".join(map(str, ids))
        else:
            known = f"{len(self.labels)} colours"
        raise DataError(
            f"{source or 'A mask'} holds {kind}{'s' if len(values) > 1 else ''} {shown}; table '{self.name}' knows "
            f"{known}. Add {'them' if len(values) > 1 else 'it'} to the table, or choose the table of this "
            "dataset with data.labels."
        )


def load_labels(source: str | Path) -> LabelSet:
    """Read a built-in table by name, or a user's CSV or YAML.

    A CSV has the columns id, train_id, name, r, g, b, of which only name is required: ids count from 0, train ids
    follow the order (255 = ignored), colours are drawn. A YAML is `classes: [road, car]`, or rows such as
    `classes: [{id: 1, name: road, color: [128, 64, 128]}]`, and `ignore: [0]` for ids without a class.

    Args:
        source: "cityscapes", "cityscapes_trainids", "ade20k", "camvid", "synthetic", or a path.

    Raises:
        DataError: Unknown name, unreadable file, or a table with contradictions.

    Example:
        >>> load_labels("ade20k").num_classes
        150
    """
    built_in = _TABLES / f"{source}.csv"
    if built_in.is_file():
        return _from_csv(str(source), built_in)
    path = Path(source)
    if not path.suffix:
        raise DataError(unknown_choice("label table", str(source), table_names()))
    if not path.is_file():
        raise DataError(
            f"Label file {path} does not exist. Give a .csv or .yaml of classes, or a table's name."
        )
    try:
        if path.suffix.lower() == ".csv":
            return _from_csv(path.stem, path)
        return _from_yaml(path)
    except (
        KeyError,
        TypeError,
        ValueError,
        yaml.YAMLError,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        if isinstance(error, DataError):
            raise
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
        rows = [
            {k.strip(): v.strip() for k, v in row.items() if k and v}
            for row in csv.DictReader(file)
        ]
    return _from_rows(name, rows, [])


def _from_yaml(path: Path) -> LabelSet:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError("it has no list under 'classes'")
    rows = []
    for row in content["classes"]:
        row = {"name": row} if isinstance(row, str) else dict(row)
        if "color" in row:
            row["r"], row["g"], row["b"] = row.pop("color")
        rows.append(row)
    return _from_rows(path.stem, rows, content.get("ignore") or [])


def _from_rows(name: str, rows: Iterable[dict[str, Any]], ignore: Iterable[int]) -> LabelSet:
    rows = list(rows)
    ignored = {int(i) for i in ignore}
    drawn = distinct_colors(len(rows))
    labels, next_id, next_train = [], 0, 0
    for row, color in zip(rows, drawn, strict=True):
        while "id" not in row and next_id in ignored:
            next_id += 1
        number = int(row.get("id", next_id))
        train_id = int(row.get("train_id", IGNORE_INDEX if number in ignored else next_train))
        next_id = number + 1
        next_train += train_id != IGNORE_INDEX and "train_id" not in row
        rgb = (int(row["r"]), int(row["g"]), int(row["b"])) if "r" in row else color
        labels.append(Label(number, train_id, str(row["name"]), rgb))
    have = {label.id for label in labels}
    labels += [Label(i, IGNORE_INDEX, "ignored", (0, 0, 0)) for i in sorted(ignored - have)]
    return LabelSet(name, tuple(labels))


def _pack(colors: np.ndarray) -> np.ndarray:
    wide = colors.astype(np.int64)
    packed: np.ndarray = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return packed
